import { v } from "convex/values";
import { internal } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import { internalMutation, mutation, query } from "./_generated/server";

export const write = mutation({
  args: { title: v.string(), touched: v.optional(v.number()) },
  handler: async (ctx, { title, touched }) =>
    await ctx.db.insert("posts", { title, state: "draft", touched: touched ?? Date.now() }),
});

/** Publish a post at a time. Planning it again replaces the earlier plan. */
export const publishAt = mutation({
  args: { post: v.id("posts"), at: v.number() },
  handler: async (ctx, { post, at }): Promise<Id<"_scheduled_functions">> => {
    const found = await ctx.db.get(post);
    if (found === null) throw new Error("There is no such post");
    if (found.publication !== undefined) await ctx.scheduler.cancel(found.publication);
    const publication = await ctx.scheduler.runAt(at, internal.posts.publish, { post });
    await ctx.db.patch(post, { publication });
    return publication;
  },
});

export const publish = internalMutation({
  args: { post: v.id("posts") },
  handler: async (ctx, { post }) => {
    await ctx.db.patch(post, { state: "published", touched: Date.now() });
  },
});

export const keepAsDraft = mutation({
  args: { post: v.id("posts") },
  handler: async (ctx, { post }) => {
    const found = await ctx.db.get(post);
    if (found?.publication !== undefined) await ctx.scheduler.cancel(found.publication);
  },
});

/** A post and how far its publication is; a subscriber sees every step. */
export const status = query({
  args: { post: v.id("posts") },
  handler: async (ctx, { post }) => {
    const found = await ctx.db.get(post);
    if (found === null) return null;
    const job = found.publication && (await ctx.db.system.get(found.publication));
    return { title: found.title, state: found.state, publication: job?.state.kind ?? "none" };
  },
});

export const titles = query({
  args: {},
  handler: async (ctx) => (await ctx.db.query("posts").collect()).map((post) => post.title),
});
