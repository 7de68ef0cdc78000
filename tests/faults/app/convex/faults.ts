import { mutation, query } from "./_generated/server";
import { v } from "convex/values";

/** Two rows or none: a half-applied write would show as a pair with one side. */
export const addPair = mutation({
  args: { worker: v.number(), n: v.number() },
  handler: async (ctx, { worker, n }) => {
    await ctx.db.insert("pairs", { worker, n, side: "left" });
    await ctx.db.insert("pairs", { worker, n, side: "right" });
    return n;
  },
});

/** How many sides each number of a worker has, from `from` on. */
export const sides = query({
  args: { worker: v.number(), from: v.number() },
  handler: async (ctx, { worker, from }) => {
    const rows = await ctx.db.query("pairs").withIndex("by_worker", (q) => q.eq("worker", worker).gte("n", from)).collect();
    return rows.map((row) => ({ n: row.n, side: row.side }));
  },
});
