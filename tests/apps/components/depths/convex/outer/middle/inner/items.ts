import { ConvexError, v } from "convex/values";
import { internal } from "./_generated/api";
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

/** Writes a row and a job, then fails in the way it is asked to. */
export const fail = mutation({
  args: { how: v.union(v.literal("data"), v.literal("error"), v.literal("no")), stored: v.optional(v.id("_storage")) },
  handler: async (ctx, { how, stored }) => {
    console.warn("inner is asked to fail:", how);
    await ctx.db.insert("items", { name: `left by ${how}`, rank: 0, place: [0, 0] });
    await ctx.scheduler.runAfter(0, internal.items.beat, {});
    if (stored !== undefined) await ctx.storage.delete(stored);
    if (how === "data") throw new ConvexError({ code: "no_room", big: 12n, bytes: new ArrayBuffer(2) });
    if (how === "error") throw new TypeError("inner cannot go on");
    return null;
  },
});

export const keep = action({
  args: { text: v.string() },
  handler: async (ctx, { text }): Promise<string> => await ctx.storage.store(new Blob([text])),
});
