import { v } from "convex/values";
import { internal } from "./_generated/api";
import { internalMutation, mutation, query } from "./_generated/server";

export const list = query({
  args: {},
  handler: async (ctx) => await ctx.db.query("payments").collect(),
});

export const record = internalMutation({
  args: { event: v.string(), amount: v.number() },
  handler: async (ctx, args) => {
    const known = await ctx.db
      .query("payments")
      .withIndex("by_event", (q) => q.eq("event", args.event))
      .unique();
    return known?._id ?? (await ctx.db.insert("payments", args));
  },
});

/** A mutation cannot use Node: it schedules an action that can. */
export const chargeLater = mutation({
  args: { amount: v.number() },
  handler: async (ctx, args) => {
    await ctx.scheduler.runAfter(0, internal.billing.charge, args);
  },
});
