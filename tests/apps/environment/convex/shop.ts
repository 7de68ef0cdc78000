import { action, mutation, query } from "./_generated/server";
import { v } from "convex/values";

// A query depends on the variables it reads, and on no others.
export const currency = query({
  args: {},
  returns: v.string(),
  handler: async () => process.env.CURRENCY ?? "EUR",
});

export const banner = query({
  args: {},
  returns: v.union(v.string(), v.null()),
  handler: async () => process.env.BANNER ?? null,
});

export const addresses = query({
  args: {},
  handler: async () => ({ api: process.env.CONVEX_CLOUD_URL, httpActions: process.env.CONVEX_SITE_URL }),
});

export const checkout = mutation({
  args: { cents: v.number() },
  handler: async (_ctx, { cents }) => {
    const key = process.env.PAYMENT_KEY;
    if (key === undefined) throw new Error("PAYMENT_KEY is not set: cvx env set PAYMENT_KEY <key>");
    return `${cents / 100} ${process.env.CURRENCY ?? "EUR"} with a key of ${key.length} characters`;
  },
});

export const pay = action({
  args: {},
  handler: async () => [process.env.CURRENCY ?? null, process.env.CONVEX_CLOUD_URL ?? null, Object.keys(process.env).length],
});
