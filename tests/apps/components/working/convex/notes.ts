import { v } from "convex/values";
import { internalMutation, query } from "./_generated/server";

/** How often something was tried before, noting one more. */
export const tryOnce = internalMutation({
  args: { what: v.string() },
  handler: async (ctx, { what }) => {
    const before = await ctx.db.query("tries").withIndex("by_what", (q) => q.eq("what", what)).collect();
    await ctx.db.insert("tries", { what });
    return before.length;
  },
});

export const done = internalMutation({
  args: { what: v.string(), result: v.any() },
  handler: async (ctx, args) => {
    await ctx.db.insert("done", args);
  },
});

export const tries = query({
  args: { what: v.string() },
  handler: async (ctx, { what }) =>
    (await ctx.db.query("tries").withIndex("by_what", (q) => q.eq("what", what)).collect()).length,
});

export const results = query({
  args: { what: v.string() },
  handler: async (ctx, { what }) =>
    (await ctx.db.query("done").withIndex("by_what", (q) => q.eq("what", what)).collect()).map(({ result }) => result),
});
