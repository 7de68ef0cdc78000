import { ConvexError, v } from "convex/values";
import { api } from "./_generated/api";
import { mutation, query } from "./_generated/server";

export const double = query({
  args: { x: v.number() },
  handler: async (_ctx, { x }) => {
    console.log(`doubling ${x}`);
    return x * 2;
  },
});

export const fail = query({
  args: {},
  handler: async () => {
    throw new ConvexError({ reason: "on purpose" });
  },
});

export const add = mutation({
  args: { name: v.string() },
  handler: async (ctx, { name }) => await ctx.db.insert("items", { name }),
});

export const count = query({
  args: {},
  handler: async (ctx) => (await ctx.db.query("items").collect()).length,
});

export const later = mutation({
  args: { times: v.number() },
  handler: async (ctx, { times }) => {
    for (let n = 0; n < times; n++) {
      await ctx.scheduler.runAfter(24 * 3600 * 1000, api.misc.add, { name: "later" });
    }
  },
});
