// A mutation may write and read small files itself, in its own transaction.

import { v } from "convex/values";
import { mutation } from "./_generated/server";

export const write = mutation({
  args: { lines: v.array(v.string()) },
  handler: async (ctx, { lines }) =>
    await ctx.storage.store(new Blob([lines.join("\n")], { type: "text/plain" })),
});

export const append = mutation({
  args: { file: v.id("_storage"), line: v.string() },
  handler: async (ctx, { file, line }) => {
    const blob = await ctx.storage.get(file);
    if (blob === null) throw new Error("There is no such report.");
    const longer = await ctx.storage.store(new Blob([await blob.text(), "\n", line], { type: blob.type }));
    await ctx.storage.delete(file);
    return longer;
  },
});
