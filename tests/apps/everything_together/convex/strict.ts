// A validator for each kind of function, and big values.

import { ConvexError, v } from "convex/values";
import { action, internalQuery, mutation, query } from "./_generated/server";

const args = { kind: v.string(), id: v.id("steps"), many: v.optional(v.array(v.bytes())) };
const size = (many?: ArrayBuffer[]) => (many ?? []).reduce((sum, bytes) => sum + bytes.byteLength, 0);

export const asQuery = query({ args, returns: v.number(), handler: async (_, { many }) => size(many) });
export const asMutation = mutation({ args, returns: v.number(), handler: async (_, { many }) => size(many) });
export const asAction = action({ args, returns: v.number(), handler: async (_, { many }) => size(many) });
export const lyingQuery = query({ args: {}, returns: v.number(), handler: async () => "a text" as unknown as number });
export const lyingMutation = mutation({ args: {}, returns: v.number(), handler: async () => "a text" as unknown as number });
export const lyingAction = action({ args: {}, returns: v.number(), handler: async () => "a text" as unknown as number });
export const hidden = internalQuery({ args: {}, handler: async () => 1 });

export const insert = mutation({
  args: { bytes: v.number() },
  handler: async (ctx, { bytes }) => await ctx.db.insert("steps", { chain: "big", level: "big", text: "", data: new ArrayBuffer(bytes) }),
});
export const read = query({
  args: { id: v.id("steps") },
  handler: async (ctx, { id }) => ((await ctx.db.get(id))?.data as ArrayBuffer | undefined)?.byteLength ?? null,
});
export const drop = mutation({ args: { id: v.id("steps") }, handler: async (ctx, { id }) => await ctx.db.delete(id) });
export const answer = action({ args: { bytes: v.number() }, handler: async (_, { bytes }) => new ArrayBuffer(bytes) });
export const anyId = query({
  args: { id: v.string() },
  handler: async (ctx, { id }) => {
    const tried: Record<string, unknown> = { normalized: ctx.db.normalizeId("steps", id) };
    try {
      tried.get = await ctx.db.get(id as never);
    } catch (error) {
      tried.get = error instanceof ConvexError ? "ConvexError" : (error as Error).message;
    }
    try {
      tried.url = await ctx.storage.getUrl(id as never);
    } catch (error) {
      tried.url = (error as Error).message;
    }
    return tried;
  },
});
