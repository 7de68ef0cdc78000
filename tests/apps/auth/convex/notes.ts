import { mutation, query } from "./_generated/server";
import { ConvexError, v } from "convex/values";
import { currentUser } from "./users";

export const mine = query({
  args: {},
  handler: async (ctx) => {
    const user = await currentUser(ctx);
    const notes = await ctx.db
      .query("notes")
      .withIndex("by_owner", (q) => q.eq("owner", user._id))
      .collect();
    return notes.map((note) => note.text);
  },
});

export const add = mutation({
  args: { text: v.string() },
  handler: async (ctx, { text }) => {
    const user = await currentUser(ctx);
    return await ctx.db.insert("notes", { owner: user._id, text });
  },
});

/** Only the note's owner may change it. */
export const edit = mutation({
  args: { id: v.id("notes"), text: v.string() },
  handler: async (ctx, { id, text }) => {
    const user = await currentUser(ctx);
    const note = await ctx.db.get("notes", id);
    if (note === null || note.owner !== user._id) throw new ConvexError("That is not your note.");
    await ctx.db.patch("notes", id, { text });
  },
});
