import { ConvexError, v } from "convex/values";
import { api, internal } from "./_generated/api";
import { action, internalAction, internalMutation, query } from "./_generated/server";

export const mark = internalMutation({
  args: { name: v.string() },
  handler: async (ctx, { name }) => void (await ctx.db.insert("marks", { name })),
});

export const marks = query({
  args: { name: v.string() },
  handler: async (ctx, { name }) => (await ctx.db.query("marks").withIndex("by_name", (q) => q.eq("name", name)).collect()).length,
});

export const slow = action({
  args: { name: v.string(), ms: v.number() },
  handler: async (ctx, { name, ms }): Promise<number> => {
    await ctx.runMutation(internal.probes.mark, { name });
    await new Promise((resolve) => setTimeout(resolve, ms));
    await ctx.runMutation(internal.probes.mark, { name });
    return await ctx.runQuery(api.probes.marks, { name });
  },
});

export const values = action({
  args: { big: v.int64(), bytes: v.bytes(), nested: v.any() },
  returns: v.object({ big: v.int64(), bytes: v.bytes(), nested: v.any() }),
  handler: async (_ctx, { big, bytes, nested }) => ({ big: big + 1n, bytes, nested }),
});

export const refuse = action({
  args: {},
  handler: async () => {
    console.log("about to refuse");
    throw new ConvexError({ code: "no", left: 3n });
  },
});

export const broken = action({
  args: {},
  handler: async () => {
    throw new Error("it broke");
  },
});

export const outer = action({
  args: { depth: v.number() },
  handler: async (ctx, { depth }): Promise<number> => (depth === 0 ? 0 : 1 + (await ctx.runAction(internal.probes.inner, { depth: depth - 1 }))),
});

export const inner = internalAction({
  args: { depth: v.number() },
  handler: async (ctx, { depth }): Promise<number> => (depth === 0 ? 0 : 1 + (await ctx.runAction(internal.probes.inner, { depth: depth - 1 }))),
});

export const forgetful = action({
  args: { name: v.string() },
  handler: async (ctx, { name }) => {
    void ctx.runMutation(internal.probes.mark, { name });
    return "gone";
  },
});

export const spin = action({
  args: {},
  handler: async () => {
    for (;;);
  },
});

export const transfer = action({
  args: { name: v.string() },
  handler: async (ctx, { name }) => {
    const outcomes = await Promise.allSettled(Array.from({ length: 20 }, () => ctx.runMutation(internal.probes.mark, { name })));
    return outcomes.filter((each) => each.status === "fulfilled").length;
  },
});
