import { getAuthSessionId, getAuthUserId } from "@convex-dev/auth/server";
import { mutation, query } from "./_generated/server";
import { ConvexError, v } from "convex/values";

export const me = query({
  args: {},
  handler: async (ctx) => {
    const id = await getAuthUserId(ctx);
    const user = id === null ? null : await ctx.db.get("users", id);
    return user && { id: user._id, email: user.email, name: user.name, session: await getAuthSessionId(ctx) };
  },
});

export const list = query({
  args: {},
  handler: async (ctx) => (await ctx.db.query("messages").collect()).map(({ body }) => body),
});

export const send = mutation({
  args: { body: v.string() },
  handler: async (ctx, { body }) => {
    const author = await getAuthUserId(ctx);
    if (author === null) throw new ConvexError("Sign in first.");
    await ctx.db.insert("messages", { author, body });
  },
});
