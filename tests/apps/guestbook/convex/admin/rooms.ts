import { v } from "convex/values";
import { mutation, query } from "../_generated/server";
import { tidy } from "../lib/text";

declare const process: { env: Record<string, string | undefined> };

export const create = mutation({
  args: { name: v.string() },
  handler: async (ctx, args) => await ctx.db.insert("rooms", { name: tidy(args.name) }),
});

export const greeting = query({
  args: {},
  returns: v.string(),
  handler: async () => process.env.GREETING ?? "no greeting",
});

export const whoami = query({
  args: {},
  handler: async (ctx) => (await ctx.auth.getUserIdentity())?.name ?? null,
});

export default query({
  args: {},
  handler: async (ctx) => (await ctx.db.query("rooms").withIndex("by_name").collect()).map((room) => room.name),
});
