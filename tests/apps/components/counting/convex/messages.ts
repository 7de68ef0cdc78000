import { HOUR, MINUTE, RateLimiter } from "@convex-dev/rate-limiter";
import { v } from "convex/values";
import { components } from "./_generated/api";
import { mutation, query } from "./_generated/server";

const limiter = new RateLimiter(components.rateLimiter, {
  sendMessage: { kind: "token bucket", rate: 10, period: MINUTE, capacity: 3 },
  signUp: { kind: "fixed window", rate: 2, period: HOUR },
  quick: { kind: "token bucket", rate: 1, period: 1500, capacity: 1 },
  sharded: { kind: "fixed window", rate: 40, period: HOUR, shards: 4 },
});

export const send = mutation({
  args: { author: v.string(), body: v.string() },
  handler: async (ctx, { author, body }) => {
    await limiter.limit(ctx, "sendMessage", { key: author, throws: true });
    await ctx.db.insert("messages", { author, body });
  },
});

export const limit = mutation({
  args: { name: v.union(v.literal("signUp"), v.literal("quick"), v.literal("sharded")), count: v.optional(v.number()) },
  handler: async (ctx, { name, count }) => await limiter.limit(ctx, name, { count }),
});

export const wouldPass = query({
  args: { author: v.string() },
  handler: async (ctx, { author }) => (await limiter.check(ctx, "sendMessage", { key: author })).ok,
});

export const forgive = mutation({
  args: { author: v.string() },
  handler: async (ctx, { author }) => await limiter.reset(ctx, "sendMessage", { key: author }),
});

export const count = query({ args: {}, handler: async (ctx) => (await ctx.db.query("messages").collect()).length });
