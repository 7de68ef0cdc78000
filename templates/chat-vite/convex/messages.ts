import { paginationOptsValidator } from "convex/server";
import { v } from "convex/values";
import { mutation, query } from "./_generated/server";

/** One page of a channel's messages, newest first. */
export const list = query({
  args: { channel: v.string(), paginationOpts: paginationOptsValidator },
  handler: async (ctx, { channel, paginationOpts }) => {
    return await ctx.db
      .query("messages")
      .withIndex("by_channel", (q) => q.eq("channel", channel))
      .order("desc")
      .paginate(paginationOpts);
  },
});

/** The line above the messages. Edit the text and save: every open page changes without a reload. */
export const topic = query({
  args: { channel: v.string() },
  handler: async (ctx, { channel }) => {
    const newest = await ctx.db
      .query("messages")
      .withIndex("by_channel", (q) => q.eq("channel", channel))
      .order("desc")
      .first();
    return newest === null ? `Welcome to #${channel}` : `#${channel}: last message from ${newest.author}`;
  },
});

/** Write a message. A `key` that was seen before is a message that came twice: it is written once. */
export const send = mutation({
  args: { channel: v.string(), author: v.string(), body: v.string(), key: v.optional(v.string()) },
  handler: async (ctx, message) => {
    if (message.body.trim() === "") {
      throw new Error("A message needs a text");
    }
    if (message.key !== undefined) {
      const known = await ctx.db
        .query("messages")
        .withIndex("by_key", (q) => q.eq("key", message.key))
        .first();
      if (known !== null) return known._id;
    }
    return await ctx.db.insert("messages", message);
  },
});
