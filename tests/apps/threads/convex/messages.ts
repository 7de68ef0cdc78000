import { paginationOptsValidator } from "convex/server";
import { ConvexError, v } from "convex/values";
import { mutation, query } from "./_generated/server";
import { next } from "./counters";

export const openChannel = mutation({
  args: { name: v.string() },
  handler: async (ctx, { name }) =>
    (await ctx.db.query("channels").withIndex("by_name", (q) => q.eq("name", name)).unique())?._id ?? (await ctx.db.insert("channels", { name })),
});

export const send = mutation({
  args: {
    channel: v.id("channels"),
    author: v.string(),
    body: v.string(),
    parent: v.optional(v.id("messages")),
    attachment: v.optional(v.bytes()),
  },
  handler: async (ctx, { channel, author, body, parent, attachment }) => {
    if (body.length > 500) throw new ConvexError({ kind: "TooLong", length: body.length, max: 500 });
    if (parent !== undefined) {
      const root = await ctx.db.get(parent);
      if (root === null || root.channel !== channel) throw new ConvexError({ kind: "NoThread" });
      if (root.parent !== undefined) throw new ConvexError({ kind: "NestedThread" });
      await ctx.db.patch(parent, { replies: root.replies + 1 });
    }
    const seq = await next(ctx, channel);
    return await ctx.db.insert("messages", { channel, author, body, parent, attachment, replies: 0, reactions: {}, seq });
  },
});

/** The channel itself, newest first; replies are in their threads. */
export const channel = query({
  args: { channel: v.id("channels"), paginationOpts: paginationOptsValidator },
  handler: async (ctx, { channel, paginationOpts }) => {
    const result = await ctx.db
      .query("messages")
      .withIndex("by_channel", (q) => q.eq("channel", channel).eq("parent", undefined))
      .order("desc")
      .paginate(paginationOpts);
    return { ...result, page: result.page.map(({ _id, author, body, replies, seq, reactions }) => ({ _id, author, body, replies, seq, reactions })) };
  },
});

export const thread = query({
  args: { root: v.id("messages") },
  handler: async (ctx, { root }) => {
    const first = await ctx.db.get(root);
    if (first === null) return null;
    const replies = await ctx.db.query("messages").withIndex("by_parent", (q) => q.eq("parent", root)).collect();
    return { root: first, replies: replies.map(({ author, body }) => `${author}: ${body}`) };
  },
});

export const react = mutation({
  args: { message: v.id("messages"), user: v.string(), emoji: v.string() },
  handler: async (ctx, { message, user, emoji }) => {
    const found = (await ctx.db.get(message))!;
    const users = found.reactions[emoji] ?? [];
    const after = users.includes(user) ? users.filter((other) => other !== user) : [...users, user];
    const { [emoji]: _, ...others } = found.reactions;
    await ctx.db.patch(message, { reactions: after.length === 0 ? others : { ...others, [emoji]: after } });
  },
});

export const remove = mutation({
  args: { message: v.id("messages") },
  handler: async (ctx, { message }) => {
    const found = await ctx.db.get(message);
    if (found === null) return 0;
    const replies = await ctx.db.query("messages").withIndex("by_parent", (q) => q.eq("parent", message)).collect();
    await Promise.all([message, ...replies.map((reply) => reply._id)].map((id) => ctx.db.delete(id)));
    return replies.length + 1;
  },
});

export const markRead = mutation({
  args: { channel: v.id("channels"), user: v.string(), seq: v.int64() },
  handler: async (ctx, { channel, user, seq }) => {
    const read = await ctx.db.query("reads").withIndex("by_user", (q) => q.eq("user", user).eq("channel", channel)).unique();
    if (read === null) await ctx.db.insert("reads", { channel, user, seq });
    else if (read.seq < seq) await ctx.db.patch(read._id, { seq });
  },
});

export const unread = query({
  args: { channel: v.id("channels"), user: v.string() },
  handler: async (ctx, { channel, user }) => {
    const read = await ctx.db.query("reads").withIndex("by_user", (q) => q.eq("user", user).eq("channel", channel)).unique();
    const rows = await ctx.db
      .query("messages")
      .withIndex("by_channel", (q) => q.eq("channel", channel).eq("parent", undefined).gt("seq", read?.seq ?? 0n))
      .collect();
    return rows.filter((row) => row.author !== user).length;
  },
});

export const setTyping = mutation({
  args: { channel: v.id("channels"), user: v.string(), typing: v.boolean() },
  handler: async (ctx, { channel, user, typing }) => {
    const row = await ctx.db.query("typing").withIndex("by_channel", (q) => q.eq("channel", channel).eq("user", user)).unique();
    if (typing && row === null) await ctx.db.insert("typing", { channel, user, until: Date.now() + 5000 });
    else if (typing) await ctx.db.patch(row!._id, { until: Date.now() + 5000 });
    else if (row !== null) await ctx.db.delete(row._id);
  },
});

export const typing = query({
  args: { channel: v.id("channels") },
  handler: async (ctx, { channel }) =>
    (await ctx.db.query("typing").withIndex("by_channel", (q) => q.eq("channel", channel)).collect())
      .filter((row) => row.until > Date.now())
      .map((row) => row.user),
});
