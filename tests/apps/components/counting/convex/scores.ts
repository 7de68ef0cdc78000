import { TableAggregate } from "@convex-dev/aggregate";
import { v } from "convex/values";
import { components } from "./_generated/api";
import type { DataModel } from "./_generated/dataModel";
import { mutation, query } from "./_generated/server";

const all = new TableAggregate<{ Key: number; DataModel: DataModel; TableName: "scores" }>(components.aggregate, {
  sortKey: (doc) => doc.score,
  sumValue: (doc) => doc.score,
});

const perGame = new TableAggregate<{ Namespace: string; Key: [string, number]; DataModel: DataModel; TableName: "scores" }>(
  components.perGame,
  { namespace: (doc) => doc.game, sortKey: (doc) => [doc.player, doc.score] },
);

export const add = mutation({
  args: { game: v.string(), player: v.string(), score: v.number() },
  handler: async (ctx, args) => {
    const id = await ctx.db.insert("scores", args);
    const doc = (await ctx.db.get("scores", id))!;
    await all.insert(ctx, doc);
    await perGame.insert(ctx, doc);
    return id;
  },
});

export const remove = mutation({
  args: { id: v.id("scores") },
  handler: async (ctx, { id }) => {
    const doc = (await ctx.db.get("scores", id))!;
    await ctx.db.delete("scores", id);
    await all.delete(ctx, doc);
    await perGame.delete(ctx, doc);
  },
});

export const summary = query({
  args: {},
  handler: async (ctx) => {
    const count = await all.count(ctx);
    return { count, sum: await all.sum(ctx), best: (await all.max(ctx))?.key ?? null };
  },
});

export const percentile = query({
  args: { p: v.number() },
  handler: async (ctx, { p }) => (await all.at(ctx, Math.floor((await all.count(ctx)) * p))).key,
});

export const rank = query({ args: { score: v.number() }, handler: async (ctx, { score }) => await all.indexOf(ctx, score) });

export const ofGame = query({
  args: { game: v.string(), player: v.optional(v.string()) },
  handler: async (ctx, { game, player }) =>
    await perGame.count(ctx, { namespace: game, bounds: player === undefined ? {} : { prefix: [player] } }),
});
