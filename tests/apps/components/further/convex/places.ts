import { GeospatialIndex } from "@convex-dev/geospatial";
import { v } from "convex/values";
import { components } from "./_generated/api";
import { mutation, query } from "./_generated/server";

const index = new GeospatialIndex<string, { kind: string }>(components.geospatial);
const point = v.object({ latitude: v.number(), longitude: v.number() });

export const add = mutation({
  args: { name: v.string(), at: point, kind: v.string() },
  handler: async (ctx, { name, at, kind }) => await index.insert(ctx, name, at, { kind }),
});

export const inside = query({
  args: { west: v.number(), south: v.number(), east: v.number(), north: v.number(), kind: v.optional(v.string()) },
  handler: async (ctx, { kind, ...rectangle }) => {
    const filter = kind === undefined ? undefined : (q: any) => q.eq("kind", kind);
    const found = await index.query(ctx, { shape: { type: "rectangle", rectangle }, filter, limit: 10 });
    return found.results.map(({ key }) => key).sort();
  },
});

export const nearest = query({
  args: { at: point, limit: v.number() },
  handler: async (ctx, { at, limit }) => (await index.nearest(ctx, { point: at, limit })).map(({ key }) => key),
});

export const remove = mutation({ args: { name: v.string() }, handler: async (ctx, { name }) => await index.remove(ctx, name) });
