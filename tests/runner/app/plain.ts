// What an ordinary module looks like.
import { ConvexError, v } from "convex/values";
import { internalMutation, mutation, query } from "./_generated/server";

export const get = query({
  args: { id: v.id("messages") },
  returns: v.any(),
  handler: async (ctx, { id }) => await ctx.db.get(id),
});

export const send = mutation({
  args: { body: v.string() },
  handler: async (ctx, args) => await ctx.db.insert("messages", args),
});

export const hidden = internalMutation(async () => null);

export const echo = query(async (_ctx, args: any) => args);

export const normalize = query(async (ctx, { table, id }: any) => {
  const db: any = table.startsWith("_") ? ctx.db.system : ctx.db;
  return db.normalizeId(table, id);
});

export const convexError = query(async () => {
  throw new ConvexError({ code: 7n, why: ["a", null] });
});

function deepest(): never {
  throw new RangeError("too deep");
}

export const mapped = query(async () => {
  await null;
  deepest();
});

export const caught = mutation(async (ctx) => {
  try {
    await ctx.db.insert("refused", {});
  } catch (error: any) {
    return { message: error.message, data: error.data ?? null };
  }
});

export const nested = mutation(async (ctx, { fn }: any) => await ctx.runMutation(fn, {}));
