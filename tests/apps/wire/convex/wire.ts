import {
  actionGeneric as action,
  internalQueryGeneric as internalQuery,
  mutationGeneric as mutation,
  paginationOptsValidator,
  queryGeneric as query,
} from "convex/server";
import { ConvexError, v } from "convex/values";

export const list = query({
  args: { channel: v.string() },
  handler: async (ctx, { channel }) => {
    const rows = await ctx.db
      .query("messages")
      .withIndex("by_channel", (q) => q.eq("channel", channel))
      .collect();
    return rows.map((row) => row.body);
  },
});

export const hasAny = query({
  args: { channel: v.string() },
  handler: async (ctx, { channel }) => {
    const rows = await ctx.db
      .query("messages")
      .withIndex("by_channel", (q) => q.eq("channel", channel))
      .collect();
    return rows.length > 0;
  },
});

export const page = query({
  args: { channel: v.string(), paginationOpts: paginationOptsValidator },
  handler: async (ctx, { channel, paginationOpts }) =>
    await ctx.db
      .query("messages")
      .withIndex("by_channel", (q) => q.eq("channel", channel))
      .paginate(paginationOpts),
});

export const send = mutation({
  args: { channel: v.string(), body: v.string() },
  handler: async (ctx, args) => {
    console.log("sending", args.body);
    return await ctx.db.insert("messages", args);
  },
});

export const sendToBoth = mutation({
  args: { one: v.string(), other: v.string(), body: v.string() },
  handler: async (ctx, { one, other, body }) => {
    await ctx.db.insert("messages", { channel: one, body });
    await ctx.db.insert("messages", { channel: other, body });
  },
});

export const sendAndFail = mutation({
  args: { channel: v.string(), how: v.string() },
  handler: async (ctx, { channel, how }) => {
    await ctx.db.insert("messages", { channel, body: "never seen" });
    fail(how);
  },
});

export const failing = query({ args: { how: v.string() }, handler: async (_ctx, { how }) => fail(how) });

function fail(how: string): never {
  if (how === "data") throw new ConvexError({ code: 7n, why: "because" });
  if (how === "null") throw new ConvexError(null);
  throw new Error("plain trouble");
}

export const echo = query({ args: { value: v.any() }, handler: async (_ctx, { value }) => value });

export const big = query({
  args: { characters: v.number() },
  handler: async (_ctx, { characters }) => "é".repeat(characters),
});

export const who = query({
  args: {},
  handler: async (ctx) => (await ctx.auth.getUserIdentity())?.subject ?? null,
});

export const hidden = internalQuery({ args: {}, handler: async () => "secret" });

export const act = action({ args: {}, handler: async () => "acted" });
