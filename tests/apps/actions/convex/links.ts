import { v } from "convex/values";
import { internal } from "./_generated/api";
import { internalMutation, internalQuery, mutation, query } from "./_generated/server";

export const list = query({
  args: {},
  handler: async (ctx) => await ctx.db.query("links").order("desc").take(50),
});

export const add = mutation({
  args: { url: v.string() },
  handler: async (ctx, { url }) => {
    const link = await ctx.db.insert("links", { url, title: null, state: "waiting" });
    await ctx.scheduler.runAfter(0, internal.titles.fill, { link });
    return link;
  },
});

export const get = internalQuery({
  args: { link: v.id("links") },
  handler: async (ctx, { link }) => await ctx.db.get(link),
});

export const setTitle = internalMutation({
  args: { link: v.id("links"), title: v.union(v.string(), v.null()) },
  handler: async (ctx, { link, title }) => {
    await ctx.db.patch(link, { title, state: title === null ? "failed" : "ready" });
  },
});
