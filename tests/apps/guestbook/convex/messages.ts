import { paginationOptsValidator } from "convex/server";
import { v } from "convex/values";
import { api, internal } from "./_generated/api";
import type { Doc } from "./_generated/dataModel";
import { action, internalMutation, internalQuery, mutation, query } from "./_generated/server";
import { tidy } from "./lib/text";

export const list = query({
  args: { room: v.optional(v.id("rooms")) },
  handler: async (ctx, args): Promise<Doc<"messages">[]> => {
    const room = args.room;
    if (room === undefined) {
      return await ctx.db.query("messages").order("desc").take(50);
    }
    return await ctx.db
      .query("messages")
      .withIndex("by_room", (q) => q.eq("room", room))
      .collect();
  },
});

export const page = query({
  args: { paginationOpts: paginationOptsValidator },
  handler: async (ctx, args) => await ctx.db.query("messages").paginate(args.paginationOpts),
});

export const send = mutation({
  args: { room: v.id("rooms"), author: v.string(), body: v.string() },
  returns: v.id("messages"),
  handler: async (ctx, args) => {
    console.log("sending as", args.author);
    return await ctx.db.insert("messages", { ...args, body: tidy(args.body), kind: "text" });
  },
});

export const like = internalMutation({
  args: { id: v.id("messages") },
  returns: v.int64(),
  handler: async (ctx, args) => {
    const message = await ctx.db.get(args.id);
    const likes = (message?.likes ?? 0n) + 1n;
    await ctx.db.patch(args.id, { likes });
    return likes;
  },
});

export const count = internalQuery({
  args: {},
  returns: v.number(),
  handler: async (ctx) => (await ctx.db.query("messages").collect()).length,
});

export const relay = action({
  args: { room: v.id("rooms"), body: v.string() },
  handler: async (ctx, args): Promise<number> => {
    await ctx.runMutation(api.messages.send, { ...args, author: "relay" });
    return await ctx.runQuery(internal.messages.count, {});
  },
});

export const sweep = internalMutation({
  args: { keep: v.number() },
  handler: async (ctx, args) => {
    const old = await ctx.db.query("messages").order("desc").collect();
    for (const message of old.slice(args.keep)) {
      await ctx.db.delete(message._id);
    }
  },
});
