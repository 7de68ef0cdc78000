// Every call of ctx.storage in actions, for the driver.

import { actionGeneric as action } from "convex/server";
import { v } from "convex/values";

const any = { args: { file: v.any() } };

export const url = action({ ...any, handler: (ctx, { file }) => ctx.storage.getUrl(file) });
export const metadata = action({ ...any, handler: (ctx, { file }) => ctx.storage.getMetadata(file) });
export const remove = action({ ...any, handler: (ctx, { file }) => ctx.storage.delete(file) });
export const uploadUrl = action({ args: {}, handler: (ctx) => ctx.storage.generateUploadUrl() });
export const store = action({
  args: { text: v.string(), type: v.optional(v.string()), sha256: v.optional(v.string()) },
  handler: (ctx, { text, type, sha256 }) => ctx.storage.store(new Blob([text], { type }), { sha256 }),
});
export const storeAndThrow = action({
  args: {},
  handler: async (ctx) => {
    throw new Error(await ctx.storage.store(new Blob(["stays"])));
  },
});
export const storeLarge = action({
  args: { bytes: v.number() },
  handler: (ctx, { bytes }) => ctx.storage.store(new Blob([new Uint8Array(bytes).fill(7)], { type: "application/x-sevens" })),
});
export const read = action({
  ...any,
  handler: async (ctx, { file }) => {
    const blob = await ctx.storage.get(file);
    if (blob === null) return null;
    const digest = await crypto.subtle.digest("SHA-256", await blob.arrayBuffer());
    return { size: blob.size, type: blob.type, sha256: [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("") };
  },
});
export const caught = action({
  ...any,
  handler: async (ctx, { file }) => {
    const failed: Record<string, string> = {};
    for (const name of ["getUrl", "getMetadata", "get", "delete"] as const) {
      try {
        await (ctx.storage as any)[name](file);
      } catch (error: any) {
        failed[name] = error.message;
      }
    }
    try {
      await (ctx.storage as any).store("no blob");
    } catch (error: any) {
      failed.store = error.message;
    }
    return failed;
  },
});
