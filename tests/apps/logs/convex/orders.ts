import { internalMutation, mutation, query } from "./_generated/server";
import { internal } from "./_generated/api";
import { v } from "convex/values";

// Every argument is shown as it is inspected; the level is the method's name.
export const place = mutation({
  args: { item: v.string(), count: v.number() },
  handler: async (ctx, { item, count }) => {
    console.log("placing", { item, count });
    if (count > 100) console.warn("an unusually large order");
    const id = await ctx.db.insert("orders", { item, count });
    await ctx.runMutation(internal.orders.reserve, { item, count });
    console.info("placed", id);
    return id;
  },
});

export const reserve = internalMutation({
  args: { item: v.string(), count: v.number() },
  handler: async (ctx, { item, count }) => {
    console.debug("reserving", count, "of", item);
    await ctx.db.insert("stock", { item, count: -count });
  },
});

export const list = query({ args: {}, handler: async (ctx) => await ctx.db.query("orders").take(10) });

export const fail = mutation({
  args: { why: v.string() },
  handler: async (_ctx, { why }) => {
    console.error("about to fail");
    throw new Error(why);
  },
});

export const chatter = mutation({
  args: { lines: v.number(), size: v.number() },
  handler: async (_ctx, { lines, size }) => {
    for (let n = 0; n < lines; n++) console.log("x".repeat(size));
  },
});

// Everybody who calls it wants the same row.
export const count = mutation({
  args: {},
  handler: async (ctx) => {
    const row = await ctx.db.query("counter").first();
    if (row === null) await ctx.db.insert("counter", { value: 1 });
    else await ctx.db.patch(row._id, { value: row.value + 1 });
    console.log("counted");
  },
});
