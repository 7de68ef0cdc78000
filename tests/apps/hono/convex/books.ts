import { internalMutation, internalQuery } from "./_generated/server";
import { v } from "convex/values";

export const add = internalMutation({
  args: { title: v.string(), pages: v.number() },
  handler: async (ctx, book) => await ctx.db.insert("books", book),
});

export const find = internalQuery({
  args: { title: v.string() },
  handler: async (ctx, { title }) => await ctx.db.query("books").withIndex("by_title", (q) => q.eq("title", title)).first(),
});

export const list = internalQuery({ args: {}, handler: async (ctx) => await ctx.db.query("books").collect() });
