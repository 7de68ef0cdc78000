"use node";

import { createHash } from "node:crypto";
import { v } from "convex/values";
import { components } from "./_generated/api";
import { action } from "./_generated/server";

/** A component from Node: all three kinds of call, what they refuse, and a failure. */
export const everything = action({
  args: { name: v.string() },
  handler: async (ctx, { name }): Promise<Record<string, unknown>> => {
    const { items } = components.second;
    const id: string = await ctx.runMutation(items.add, { name, rank: 50, place: [50, 1] });
    const ranked: { name: string }[] = await ctx.runQuery(items.ranked, { from: 50 });
    const near: string[] = await ctx.runAction(items.near, { vector: [50, 1], rank: 50 });
    const failure = await ctx.runMutation(components.outer.items.fail, { how: "data", caught: false }).catch((error) => error);
    const wrong = await ctx.runMutation(items.add, { name: 1 } as never).catch((error) => error);
    return {
      id,
      ranked: ranked.map((item) => item.name),
      near,
      failure: failure.data,
      wrong: wrong.message,
      hash: createHash("sha256").update(name).digest("hex").slice(0, 8),
    };
  },
});
