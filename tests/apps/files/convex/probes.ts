// Every call of ctx.storage, for the driver: with whatever it is given.

import { mutationGeneric as mutation, queryGeneric as query } from "convex/server";
import { v } from "convex/values";

const any = { args: { file: v.any() } };

export const url = query({ ...any, handler: (ctx, { file }) => ctx.storage.getUrl(file) });
export const metadata = query({ ...any, handler: (ctx, { file }) => ctx.storage.getMetadata(file) });
export const document = query({ ...any, handler: (ctx, { file }) => ctx.db.system.get(file) });
export const documents = query({ args: {}, handler: (ctx) => ctx.db.system.query("_storage").order("desc").collect() });
export const page = query({
  args: { cursor: v.union(v.string(), v.null()) },
  handler: (ctx, { cursor }) => ctx.db.system.query("_storage").paginate({ cursor, numItems: 2 }),
});
export const expected = query({ args: { file: v.id("_storage") }, handler: async (_ctx, { file }) => file });
export const throughDb = query({ ...any, handler: (ctx, { file }) => (ctx.db as any).get(file) });
export const insertFile = mutation({ args: {}, handler: (ctx) => (ctx.db as any).insert("_storage", { sha256: "", size: 1 }) });
export const patchFile = mutation({ ...any, handler: (ctx, { file }) => (ctx.db as any).patch(file, { contentType: "a/b" }) });
export const deleteDocument = mutation({ ...any, handler: (ctx, { file }) => ctx.db.delete(file) });

export const remove = mutation({ ...any, handler: (ctx, { file }) => ctx.storage.delete(file) });
export const removeAndThrow = mutation({
  ...any,
  handler: async (ctx, { file }) => {
    await ctx.storage.delete(file);
    if ((await ctx.storage.getUrl(file)) !== null) throw new Error("a transaction sees its own deletion");
    throw new Error("changed my mind");
  },
});
export const removeCaught = mutation({
  ...any,
  handler: async (ctx, { file }) => {
    try {
      await ctx.storage.delete(file);
      return "deleted";
    } catch (error: any) {
      return error.message;
    }
  },
});
export const writeInQuery = query({ ...any, handler: (ctx, { file }) => (ctx as any).storage.delete?.(file) ?? "no such function" });
export const rawInQuery = query({
  args: { op: v.string(), args: v.any() },
  handler: async (_ctx, { op, args }) => JSON.parse(await (globalThis as any).Convex.asyncSyscall(op, JSON.stringify(args))),
});

const content = { args: { text: v.string(), type: v.optional(v.string()), sha256: v.optional(v.string()) } };
export const store = mutation({
  ...content,
  handler: (ctx, { text, type, sha256 }) => ctx.storage.store(new Blob([text], { type }), sha256 === undefined ? undefined : { sha256 }),
});
export const storeAndRead = mutation({
  ...content,
  handler: async (ctx, { text, type }) => {
    const id = await ctx.storage.store(new Blob([text], { type }));
    const blob = await ctx.storage.get(id);
    const [metadata, document] = [await ctx.storage.getMetadata(id), await ctx.db.system.get("_storage", id)];
    return { id, text: await blob!.text(), type: blob!.type, metadata, document };
  },
});
export const storeAndThrow = mutation({
  ...content,
  handler: async (ctx, { text }) => {
    await ctx.storage.store(new Blob([text]));
    throw new Error("after all not");
  },
});
export const storeNested = mutation({
  ...content,
  handler: async (ctx, args) => {
    const kept = await ctx.runMutation("probes:store" as any, args);
    try {
      await ctx.runMutation("probes:storeAndThrow" as any, args);
    } catch {
      return kept;
    }
  },
});
export const storeMany = mutation({
  args: { count: v.number(), bytes: v.number() },
  handler: async (ctx, { count, bytes }) => {
    // As npm's storage.store does it, without the time that its base64 takes.
    const args = JSON.stringify({ blob: "AAAA".repeat(bytes / 3), contentType: "" });
    for (let n = 0; n < count; n++) await (globalThis as any).Convex.asyncSyscall("1.0/storageStore", args);
    return (await (ctx as any).meta.getTransactionMetrics());
  },
});
export const read = mutation({
  ...any,
  handler: async (ctx, { file }) => {
    const blob = await ctx.storage.get(file);
    return blob === null ? null : { size: blob.size, type: blob.type, text: blob.size < 1000 ? await blob.text() : "" };
  },
});
