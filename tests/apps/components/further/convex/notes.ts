import { v } from "convex/values";
import { internalMutation, query } from "./_generated/server";

export const note = internalMutation({
  args: { what: v.string(), value: v.any() },
  handler: async (ctx, args) => {
    const before = await ctx.db
      .query("notes")
      .withIndex("by_what", (q) => q.eq("what", args.what))
      .collect();
    await ctx.db.insert("notes", args);
    return before.length;
  },
});

export const read = query({
  args: { what: v.string() },
  handler: async (ctx, { what }) =>
    (
      await ctx.db
        .query("notes")
        .withIndex("by_what", (q) => q.eq("what", what))
        .collect()
    ).map(({ value }) => value),
});
