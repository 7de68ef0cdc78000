import { action, internalMutation, internalQuery, mutation, query } from "./_generated/server";
import { api, internal } from "./_generated/api";
import { v } from "convex/values";

type Seen = { own: string | undefined; query: string | null; mutation: string | null };

export const seenByQuery = internalQuery({
  args: {},
  handler: async (ctx) => (await ctx.auth.getUserIdentity())?.subject,
});

export const seenByMutation = internalMutation({
  args: {},
  handler: async (ctx) => (await ctx.auth.getUserIdentity())?.subject,
});

/** What an action runs is run in its caller's name. */
export const fromAction = action({
  args: {},
  handler: async (ctx): Promise<Seen> => ({
    own: (await ctx.auth.getUserIdentity())?.subject,
    query: await ctx.runQuery(internal.everywhere.seenByQuery),
    mutation: await ctx.runMutation(internal.everywhere.seenByMutation),
  }),
});

/** The token itself, for a service that wants to see it. */
export const token = mutation({
  args: {},
  handler: async (ctx) => (await ctx.meta.getRequestMetadata()).authToken,
});

export const tokenInAction = action({
  args: {},
  handler: async (ctx) => (await ctx.meta.getRequestMetadata()).authToken,
});

/** An action that runs another. */
export const fromNestedAction = action({
  args: {},
  handler: async (ctx): Promise<Seen> => await ctx.runAction(api.everywhere.fromAction, {}),
});

/** What is scheduled is run in nobody's name: pass on who it is for. */
export const later = mutation({
  args: {},
  handler: async (ctx) => {
    await ctx.scheduler.runAfter(0, internal.everywhere.record, {});
  },
});

export const record = internalMutation({
  args: {},
  handler: async (ctx) => {
    const identity = await ctx.auth.getUserIdentity();
    const tokenIdentifier = identity === null ? "nobody" : "somebody";
    await ctx.db.insert("users", { tokenIdentifier, name: "scheduled" });
  },
});

export const recorded = query({
  args: { tokenIdentifier: v.string() },
  handler: async (ctx, { tokenIdentifier }) =>
    (await ctx.db.query("users").withIndex("by_token", (q) => q.eq("tokenIdentifier", tokenIdentifier)).collect()).length,
});
