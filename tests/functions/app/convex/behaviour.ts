import {
  actionGeneric as action,
  internalQueryGeneric as internalQuery,
  mutationGeneric as mutation,
  queryGeneric as query,
} from "convex/server";
import { ConvexError, v } from "convex/values";

export const throwError = query({
  args: {},
  handler: async () => {
    throw new TypeError("secret detail");
  },
});

export const throwData = query({
  args: { data: v.any() },
  handler: async (_ctx, { data }) => {
    throw new ConvexError(data);
  },
});

export const logs = query({
  args: {},
  handler: async () => {
    console.log("hello", { n: 1 });
    console.warn("careful");
    return null;
  },
});

export const internalOnly = internalQuery({ args: {}, handler: async () => "internal" });
export const anAction = action({ args: {}, handler: async () => 1 });

// Nobody awaits the insert; it happens all the same.
export const unawaited = mutation({
  args: {},
  handler: async (ctx) => {
    void ctx.db.insert("anything", { tag: "unawaited" });
    return "done";
  },
});

export const countRows = query({
  args: {},
  handler: async (ctx) => (await ctx.db.query("anything").collect()).length,
});

export const countInternal = query({
  args: { table: v.string() },
  handler: async (ctx, { table }) => await (ctx.db as any).query(table).count(),
});

export const environment = query({
  args: { name: v.string() },
  handler: async (_ctx, { name }) => process.env[name] ?? null,
});

export const now = query({ args: {}, handler: async () => Date.now() });
export const whoami = query({ args: {}, handler: async (ctx) => await ctx.auth.getUserIdentity() });

export const normalize = query({
  args: { table: v.string(), id: v.string() },
  handler: async (ctx, { table, id }) => (ctx.db as any).normalizeId(table, id),
});

export const idOfLater = query({
  args: { table: v.string(), id: v.id("later") },
  handler: async (_ctx, { id }) => id,
});

export const systemNormalize = query({
  args: { table: v.string(), id: v.string() },
  handler: async (ctx, { table, id }) => (ctx.db.system as any).normalizeId(table, id),
});

export const getAny = query({ args: { id: v.string() }, handler: async (ctx, { id }) => await ctx.db.get(id as any) });

export const systemRows = query({
  args: {},
  handler: async (ctx) => ({
    files: await ctx.db.system.query("_storage").collect(),
    jobs: await ctx.db.system.query("_scheduled_functions").collect(),
  }),
});

export const systemGet = query({
  args: { id: v.string() },
  handler: async (ctx, { id }) => await ctx.db.system.get(id as any),
});

export const writeInQuery = query({
  args: {},
  handler: async () => await (globalThis as any).Convex.asyncSyscall("1.0/insert", '{"table":"anything","value":{}}'),
});

export const unknownSyscall = query({
  args: {},
  handler: async () => await (globalThis as any).Convex.asyncSyscall("1.0/nonsense", "{}"),
});

export const send = mutation({
  args: { channel: v.string(), body: v.string() },
  handler: async (ctx, args) => await ctx.db.insert("messages", args),
});

export const sendBadly = mutation({
  args: {},
  handler: async (ctx) => await ctx.db.insert("messages", { channel: 5, body: "x" } as any),
});

export const page = query({
  args: { channel: v.string(), paginationOpts: v.any() },
  handler: async (ctx, { channel, paginationOpts }) =>
    await ctx.db
      .query("messages")
      .withIndex("by_channel", (q: any) => q.eq("channel", channel))
      .paginate(paginationOpts),
});

export const twoPages = query({
  args: {},
  handler: async (ctx) => {
    const opts = { numItems: 1, cursor: null };
    await ctx.db.query("messages").paginate(opts);
    return await ctx.db.query("messages").paginate(opts);
  },
});

export const fill = mutation({
  args: { count: v.number(), size: v.number() },
  handler: async (ctx, { count, size }) => {
    const text = "x".repeat(size);
    for (let i = 0; i < count; i++) await ctx.db.insert("anything", { i, text });
  },
});

export const collectAll = query({
  args: {},
  handler: async (ctx) => (await ctx.db.query("anything").collect()).length,
});

// A filter, on what no index knows.
export const numbered = query({
  args: { i: v.number() },
  handler: async (ctx, { i }) => {
    const found = await ctx.db.query("anything").filter((q: any) => q.eq(q.field("i"), i)).collect();
    return found.map((row: any) => row.i);
  },
});

export const readFirst = query({
  args: { count: v.number() },
  handler: async (ctx, { count }) => (await ctx.db.query("anything").take(count)).length,
});

export const readMany = query({
  args: { ids: v.array(v.string()) },
  handler: async (ctx, { ids }) => {
    for (const id of ids) await ctx.db.get(id as any);
    return ids.length;
  },
});

export const metadata = query({
  args: {},
  handler: async () => {
    const ask = async (op: string) => JSON.parse(await (globalThis as any).Convex.asyncSyscall(op, "{}"));
    return {
      fn: await ask("1.0/getFunctionMetadata"),
      deployment: await ask("1.0/getDeploymentMetadata"),
      metrics: await ask("1.0/getTransactionMetrics"),
    };
  },
});

export const logMany = query({
  args: { count: v.number() },
  handler: async (_ctx, { count }) => {
    for (let i = 0; i < count; i++) console.log(i);
  },
});

export const unawaitedThenThrow = mutation({
  args: {},
  handler: async (ctx) => {
    void ctx.db.insert("anything", { tag: "skipped" });
    throw new Error("thrown");
  },
});

export const catchLimit = mutation({
  args: { count: v.number() },
  handler: async (ctx, { count }) => {
    try {
      for (let i = 0; i < count; i++) await ctx.db.insert("anything", { i });
    } catch (error: any) {
      return error.message;
    }
  },
});
