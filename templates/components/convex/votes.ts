import { MINUTE, RateLimiter } from "@convex-dev/rate-limiter";
import { ShardedCounter } from "@convex-dev/sharded-counter";
import { v } from "convex/values";
import { components } from "./_generated/api";
import { mutation, query } from "./_generated/server";

const limiter = new RateLimiter(components.rateLimiter, {
  vote: { kind: "token bucket", rate: 3, period: MINUTE, capacity: 3 },
});
const counter = new ShardedCounter(components.shardedCounter);

/** Three votes at once, then one every twenty seconds. Everything here happens, or nothing does. */
export const vote = mutation({
  args: { voter: v.string(), option: v.string() },
  returns: v.null(),
  handler: async (ctx, { voter, option }) => {
    await limiter.limit(ctx, "vote", { key: voter, throws: true });
    await counter.inc(ctx, option);
    await ctx.db.insert("votes", { voter, option });
    await ctx.runMutation(components.history.entries.add, { text: `${voter} voted for ${option}` });
    return null;
  },
});

export const results = query({
  args: { options: v.array(v.string()) },
  handler: async (ctx, { options }) => {
    const found: { option: string; votes: number }[] = [];
    for (const option of options) found.push({ option, votes: await counter.count(ctx, option) });
    return found;
  },
});

export const latest = query({
  args: {},
  handler: async (ctx): Promise<string[]> => await ctx.runQuery(components.history.entries.latest, { count: 10 }),
});
