import { v } from "convex/values";
import { mutation, query } from "./_generated/server";

export const write = mutation({
  args: { line: v.string() },
  returns: v.null(),
  handler: async (ctx, { line }) => {
    console.log("audited", line);
    await ctx.db.insert("lines", { line });
    return null;
  },
});

export const lines = query({
  args: {},
  handler: async (ctx) => (await ctx.db.query("lines").collect()).map(({ line }) => line),
});

export const where = query({ args: {}, handler: async (ctx) => await ctx.meta.getFunctionMetadata() });
