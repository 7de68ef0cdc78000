"use node";
import { v } from "convex/values";
import { Jimp } from "jimp";
import { PNG } from "pngjs";
import { action } from "./_generated/server";

/** A picture, made and kept: its storage id. */
export const draw = action({
  args: { size: v.number() },
  returns: v.id("_storage"),
  handler: async (ctx, { size }) => {
    const png = new PNG({ width: size, height: size });
    for (let i = 0; i < png.data.length; i += 4) png.data.set([255, (i / 4) % 256, 0, 255], i);
    return await ctx.storage.store(new Blob([new Uint8Array(PNG.sync.write(png))], { type: "image/png" }));
  },
});

/** A stored picture made smaller, as a new file. */
export const shrink = action({
  args: { id: v.id("_storage"), width: v.number() },
  handler: async (ctx, { id, width }) => {
    const blob = await ctx.storage.get(id);
    if (blob === null) return null;
    const image = await Jimp.read(Buffer.from(await blob.arrayBuffer()));
    image.resize({ w: width });
    const smaller = await image.getBuffer("image/png");
    const stored = await ctx.storage.store(new Blob([new Uint8Array(smaller)], { type: "image/png" }));
    const { width: w, height: h } = PNG.sync.read(Buffer.from(smaller));
    return { id: stored, w, h, bytes: smaller.length };
  },
});
