import { v } from "convex/values";
import { mutation, query } from "./_generated/server";

export const add = mutation({
  args: { text: v.string() },
  returns: v.null(),
  handler: async (ctx, { text }) => {
    await ctx.db.insert("entries", { text });
    return null;
  },
});

export const latest = query({
  args: { count: v.number() },
  returns: v.array(v.string()),
  handler: async (ctx, { count }) => {
    const entries = await ctx.db.query("entries").order("desc").take(count);
    return entries.map((entry) => entry.text);
  },
});
