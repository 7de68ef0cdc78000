import { v } from "convex/values";
import { internal } from "./_generated/api";
import type { Doc, Id } from "./_generated/dataModel";
import { action, internalMutation, internalQuery } from "./_generated/server";
import { embed } from "./embedding";

const kind = v.union(v.literal("heading"), v.literal("paragraph"));

export const add = action({
  args: { document: v.id("documents"), text: v.string(), kind },
  handler: async (ctx, passage): Promise<Id<"passages">> =>
    await ctx.runMutation(internal.passages.insert, { ...passage, embedding: await embed(passage.text) }),
});

export const insert = internalMutation({
  args: { document: v.id("documents"), text: v.string(), kind, embedding: v.array(v.float64()) },
  handler: async (ctx, passage) => await ctx.db.insert("passages", passage),
});

export const similar = action({
  args: { text: v.string(), kinds: v.array(kind) },
  handler: async (ctx, { text, kinds }): Promise<{ text: string; score: number }[]> => {
    const results = await ctx.vectorSearch("passages", "by_embedding", {
      vector: await embed(text),
      limit: 5,
      filter: (q) => q.or(...kinds.map((kind) => q.eq("kind", kind))),
    });
    // A search gives ids and scores. The passages are read afterwards, and one may have gone by then.
    const passages = await ctx.runQuery(internal.passages.byIds, { ids: results.map(({ _id }) => _id) });
    return results.flatMap(({ _score }, i) => {
      const passage = passages[i];
      return passage === null ? [] : [{ text: passage.text, score: _score }];
    });
  },
});

export const byIds = internalQuery({
  args: { ids: v.array(v.id("passages")) },
  handler: async (ctx, { ids }): Promise<(Doc<"passages"> | null)[]> =>
    await Promise.all(ids.map((id) => ctx.db.get(id))),
});
