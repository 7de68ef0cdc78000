import { v } from "convex/values";
import { internalMutation, query } from "./_generated/server";

export const add = internalMutation({
  args: { text: v.string() },
  handler: async (ctx, args) => {
    await ctx.db.insert("notes", args);
  },
});

export const counts = query({
  args: {},
  handler: async (ctx) => {
    const counts: Record<string, number> = {};
    for (const { text } of await ctx.db.query("notes").collect()) counts[text] = (counts[text] ?? 0) + 1;
    return counts;
  },
});
