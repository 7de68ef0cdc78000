// A second module, as any app has: esbuild then puts the npm package into a chunk of its own, which the runner evaluates once
// and shares. In an app with a single file the package is evaluated anew for every call (about 0.3 ms more).
import { query } from "./_generated/server";

export const accounts = query(async (ctx) => (await ctx.db.query("accounts").take(10)).length);
