// A second module, as any app has, so that the figures do not depend on who pushes: the official CLI leaves the npm package
// inside an app's only module, where it is evaluated for every call; `cvx` puts it into a chunk of its own either way.
import { query } from "./_generated/server";

export const accounts = query(async (ctx) => (await ctx.db.query("accounts").take(10)).length);
