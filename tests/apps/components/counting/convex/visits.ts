import { ShardedCounter } from "@convex-dev/sharded-counter";
import { v } from "convex/values";
import { components } from "./_generated/api";
import { mutation, query } from "./_generated/server";

const counter = new ShardedCounter(components.shardedCounter, { defaultShards: 4 });

export const visit = mutation({
  args: { page: v.string(), fails: v.optional(v.boolean()) },
  handler: async (ctx, { page, fails }) => {
    await counter.inc(ctx, page);
    if (fails) throw new Error("not counted");
  },
});

export const count = query({ args: { page: v.string() }, handler: async (ctx, { page }) => await counter.count(ctx, page) });

export const reset = mutation({ args: { page: v.string() }, handler: async (ctx, { page }) => await counter.reset(ctx, page) });
