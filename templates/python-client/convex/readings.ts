import { v } from "convex/values";
import { mutation, query } from "./_generated/server";

/** The newest readings of one sensor. */
export const latest = query({
  args: { sensor: v.string(), count: v.optional(v.number()) },
  handler: async (ctx, { sensor, count }) =>
    await ctx.db
      .query("readings")
      .withIndex("by_sensor", (q) => q.eq("sensor", sensor))
      .order("desc")
      .take(count ?? 5),
});

/** Store one reading. */
export const record = mutation({
  args: { sensor: v.string(), value: v.number() },
  handler: async (ctx, reading) => await ctx.db.insert("readings", reading),
});
