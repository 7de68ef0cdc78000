import { query } from "./_generated/server";
import { v } from "convex/values";

export const one = query({ args: { name: v.string() }, handler: async (_ctx, { name }) => process.env[name] ?? null });

// What the object does besides giving values.
export const shape = query({
  args: {},
  handler: async () => {
    const env = process.env as Record<string, string | undefined>;
    env.CURRENCY = "XXX";
    delete env.BANNER;
    return {
      keys: Object.keys(env),
      spread: Object.keys({ ...env }),
      has: "CURRENCY" in env,
      own: Object.hasOwn(env, "CURRENCY"),
      json: JSON.stringify(env),
      missing: String(env.NEVER_SET),
      odd: [String(env[""]), String(env["no-name"]), String(env.toString === undefined), String((env as any)[Symbol.iterator])],
      afterAssignment: env.CURRENCY ?? null,
      afterDelete: env.BANNER ?? null,
      otherMembers: Object.keys(process),
      mode: process.env.NODE_ENV,
    };
  },
});

// Read when the module is loaded, not when the function runs.
const atImport = process.env.CURRENCY ?? "none";
export const importedCurrency = query({ args: {}, handler: async () => atImport });
