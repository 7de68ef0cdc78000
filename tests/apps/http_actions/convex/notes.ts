import { internalAction, internalMutation, internalQuery } from "./_generated/server";
import { v } from "convex/values";

export const add = internalMutation({
  args: { text: v.string() },
  handler: async (ctx, { text }) => await ctx.db.insert("notes", { text }),
});

export const list = internalQuery({
  args: {},
  handler: async (ctx) => (await ctx.db.query("notes").collect()).map((note) => note.text),
});

export const shout = internalAction({ args: { text: v.string() }, handler: async (_ctx, { text }) => `${text.toUpperCase()}!` });
