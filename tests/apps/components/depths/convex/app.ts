import { createFunctionHandle } from "convex/server";
import { v } from "convex/values";
import { components, internal } from "./_generated/api";
import { action, internalMutation, mutation, query } from "./_generated/server";

const outer = (second?: boolean) => (second ? components.second : components.outer);
const which = { second: v.optional(v.boolean()) };

export const add = mutation({
  args: { ...which, below: v.boolean(), name: v.string(), rank: v.number(), place: v.array(v.float64()) },
  handler: async (ctx, { second, below, ...item }): Promise<string> =>
    below
      ? await ctx.runMutation(outer(second).items.addBelow, item)
      : await ctx.runMutation(outer(second).items.add, item),
});

export const addHere = mutation({
  args: { name: v.string(), rank: v.number(), place: v.array(v.float64()) },
  handler: async (ctx, item) => {
    await ctx.db.insert("items", item);
  },
});

export const near = action({
  args: { ...which, below: v.optional(v.boolean()), vector: v.array(v.float64()), rank: v.optional(v.number()) },
  handler: async (ctx, { second, below, vector, rank }): Promise<string[]> =>
    below
      ? await ctx.runAction(outer(second).items.nearBelow, { vector })
      : await ctx.runAction(outer(second).items.near, { vector, rank }),
});

export const search = query({
  args: { ...which, words: v.string() },
  handler: async (ctx, { second, words }): Promise<string[]> =>
    await ctx.runQuery(outer(second).items.search, { words }),
});

export const ranked = query({
  args: { ...which, from: v.number() },
  handler: async (ctx, { second, from }): Promise<string[]> =>
    (await ctx.runQuery(outer(second).items.ranked, { from })).map(({ name }: { name: string }) => name),
});

export const all = query({
  args: which,
  handler: async (ctx, { second }): Promise<any> => ({
    outer: await ctx.runQuery(outer(second).items.state, {}),
    ...(await ctx.runQuery(outer(second).items.all, {})),
  }),
});

export const paged = query({ args: {}, handler: async (ctx): Promise<any> => await ctx.runQuery(components.outer.items.paged, {}) });

export const fail = mutation({
  args: { how: v.string(), stored: v.optional(v.string()), caught: v.boolean() },
  handler: async (ctx, args): Promise<any> => {
    const result = await ctx.runMutation(components.outer.items.fail, args);
    await ctx.db.insert("items", { name: "went on", rank: 0, place: [] });
    return result;
  },
});

export const keepBelow = action({
  args: { text: v.string() },
  handler: async (ctx, { text }): Promise<string> => await ctx.runAction(components.outer.items.keepBelow, { text }),
});

// ---- handles

export const hear = internalMutation({
  args: { text: v.string() },
  handler: async (ctx, { text }) => {
    await ctx.db.insert("items", { name: `heard ${text}`, rank: 0, place: [] });
    return `heard ${text}`;
  },
});

export const remember = mutation({
  args: {},
  handler: async (ctx): Promise<string> => {
    const fn = await createFunctionHandle(internal.app.hear);
    await ctx.runMutation(components.outer.items.remember, { fn });
    return fn;
  },
});

export const callRemembered = mutation({
  args: { text: v.string() },
  handler: async (ctx, { text }): Promise<string> =>
    await ctx.runMutation(components.outer.items.callRemembered, { text }),
});

export const scheduleRemembered = mutation({
  args: { text: v.string() },
  handler: async (ctx, { text }): Promise<string> =>
    await ctx.runMutation(components.outer.items.scheduleRemembered, { text }),
});

export const here = query({
  args: {},
  handler: async (ctx) => (await ctx.db.query("items").collect()).map(({ name }) => name),
});
