// A photo album: pages upload, everybody sees what there is, deleting a photo deletes its file.

import { ConvexError, v } from "convex/values";
import { mutation, query } from "./_generated/server";

export const generateUploadUrl = mutation({
  args: {},
  handler: async (ctx) => await ctx.storage.generateUploadUrl(),
});

export const add = mutation({
  args: { file: v.id("_storage"), caption: v.string(), author: v.string() },
  handler: async (ctx, photo) => {
    const uploaded = await ctx.db.system.get("_storage", photo.file);
    if (uploaded === null) throw new ConvexError("There is no such file.");
    if (!uploaded.contentType?.startsWith("image/") || uploaded.size > 5_000_000) {
      await ctx.storage.delete(photo.file);
      return { refused: "A photo is an image of at most 5 MB." };
    }
    return { id: await ctx.db.insert("photos", photo) };
  },
});

export const list = query({
  args: {},
  handler: async (ctx) => {
    const photos = await ctx.db.query("photos").order("desc").take(50);
    return Promise.all(
      photos.map(async ({ _id, caption, author, file }) => ({
        id: _id,
        caption,
        author,
        url: await ctx.storage.getUrl(file), // null once the file is deleted
      })),
    );
  },
});

export const remove = mutation({
  args: { id: v.id("photos") },
  handler: async (ctx, { id }) => {
    const photo = await ctx.db.get(id);
    if (photo === null) return;
    await ctx.storage.delete(photo.file);
    await ctx.db.delete(id);
  },
});
