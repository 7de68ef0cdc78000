import { v } from "convex/values";
import { internal } from "./_generated/api";
import { internalMutation, mutation, query } from "./_generated/server";

/** Who says nothing for so long has left. Clients beat three times as often. */
const GONE_AFTER_MS = 3_000;

/** I am here, and my cursor is there. Puts off my leaving each time. */
export const beat = mutation({
  args: { room: v.string(), user: v.string(), cursor: v.object({ x: v.number(), y: v.number() }) },
  handler: async (ctx, { room, user, cursor }) => {
    const leaving = await ctx.scheduler.runAfter(GONE_AFTER_MS, internal.presence.leave, { room, user });
    const here = await ctx.db
      .query("presence")
      .withIndex("by_room_and_user", (q) => q.eq("room", room).eq("user", user))
      .unique();
    if (here === null) {
      await ctx.db.insert("presence", { room, user, cursor, leaving });
    } else {
      await ctx.scheduler.cancel(here.leaving);
      await ctx.db.patch(here._id, { cursor, leaving });
    }
  },
});

export const leave = internalMutation({
  args: { room: v.string(), user: v.string() },
  handler: async (ctx, { room, user }) => {
    const here = await ctx.db
      .query("presence")
      .withIndex("by_room_and_user", (q) => q.eq("room", room).eq("user", user))
      .unique();
    if (here !== null) await ctx.db.delete(here._id);
  },
});

/** Everybody in the room. No clock is read, so the result changes exactly when somebody moves, comes or goes. */
export const list = query({
  args: { room: v.string() },
  handler: async (ctx, { room }) => {
    const here = await ctx.db
      .query("presence")
      .withIndex("by_room_and_user", (q) => q.eq("room", room))
      .collect();
    return here.map(({ user, cursor }) => ({ user, cursor }));
  },
});
