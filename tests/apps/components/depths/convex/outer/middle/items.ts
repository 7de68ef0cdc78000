import { v } from "convex/values";
import { components, internal } from "./_generated/api";
import { action, env, internalMutation, internalQuery, mutation, query } from "./_generated/server";

const fields = { name: v.string(), rank: v.number(), place: v.array(v.float64()) };

export const add = mutation({
  args: fields,
  returns: v.id("items"),
  handler: async (ctx, item) => await ctx.db.insert("items", item),
});

export const ranked = query({
  args: { from: v.number() },
  handler: async (ctx, { from }) =>
    await ctx.db
      .query("items")
      .withIndex("by_rank", (q) => q.gte("rank", from))
      .collect(),
});

export const search = query({
  args: { words: v.string() },
  handler: async (ctx, { words }) =>
    (await ctx.db.query("items").withSearchIndex("by_words", (q) => q.search("name", words)).collect()).map(
      ({ name }) => name,
    ),
});

export const names = internalQuery({
  args: { ids: v.array(v.id("items")) },
  handler: async (ctx, { ids }) => {
    const found = await Promise.all(ids.map(async (id) => await ctx.db.get("items", id)));
    return found.map((item) => item?.name ?? "gone");
  },
});

export const near = action({
  args: { vector: v.array(v.float64()), rank: v.optional(v.number()) },
  handler: async (ctx, { vector, rank }): Promise<string[]> => {
    const filter = rank === undefined ? undefined : (q: any) => q.eq("rank", rank);
    const found = await ctx.vectorSearch("items", "by_place", { vector, limit: 3, filter });
    return await ctx.runQuery(internal.items.names, { ids: found.map(({ _id }) => _id) });
  },
});

export const beat = internalMutation({
  args: {},
  handler: async (ctx) => {
    await ctx.db.insert("beats", { n: 1 });
  },
});

export const state = query({
  args: {},
  handler: async (ctx) => ({
    word: env.WORD,
    beats: (await ctx.db.query("beats").take(2)).length,
    identity: await ctx.auth.getUserIdentity(),
    jobs: (await ctx.db.system.query("_scheduled_functions").collect()).length,
    files: (await ctx.db.system.query("_storage").collect()).length,
    items: (await ctx.db.query("items").collect()).map(({ name }) => name),
  }),
});

/** Hands on what inner fails with, or goes on after it. */
export const fail = mutation({
  args: { how: v.any(), stored: v.optional(v.string()), caught: v.boolean() },
  handler: async (ctx, { how, stored, caught }): Promise<unknown> => {
    await ctx.db.insert("items", { name: `before ${how}`, rank: 1, place: [0, 1] });
    if (!caught) return await ctx.runMutation(components.inner.items.fail, { how, stored });
    try {
      return await ctx.runMutation(components.inner.items.fail, { how, stored });
    } catch (error) {
      await ctx.db.insert("items", { name: `after ${how}`, rank: 2, place: [0, 1] });
      return { message: (error as Error).message, data: (error as { data?: unknown }).data ?? null };
    }
  },
});

export const keepBelow = action({
  args: { text: v.string() },
  handler: async (ctx, { text }): Promise<string> => await ctx.runAction(components.inner.items.keep, { text }),
});

export const below = query({ args: {}, handler: async (ctx): Promise<unknown> => await ctx.runQuery(components.inner.items.state, {}) });
export const addBelow = mutation({
  args: fields,
  handler: async (ctx, item): Promise<string> => await ctx.runMutation(components.inner.items.add, item),
});
export const nearBelow = action({
  args: { vector: v.array(v.float64()) },
  handler: async (ctx, { vector }): Promise<string[]> => await ctx.runAction(components.inner.items.near, { vector }),
});
