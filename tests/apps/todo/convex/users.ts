import { v } from "convex/values";
import { mutation, query } from "./_generated/server";

const COLORS = ["teal", "plum", "amber", "slate"];

/** Whoever says a name is that person: there is no sign-in. */
export const enter = mutation({
  args: { name: v.string() },
  handler: async (ctx, { name }) => {
    const trimmed = name.trim();
    if (trimmed === "") throw new Error("A name is needed");
    const known = await ctx.db.query("users").withIndex("by_name", (q) => q.eq("name", trimmed)).unique();
    if (known) return known._id;
    return await ctx.db.insert("users", { name: trimmed, color: COLORS[Math.floor(Math.random() * COLORS.length)] });
  },
});

export const all = query(async (ctx) => await ctx.db.query("users").withIndex("by_name").collect());
