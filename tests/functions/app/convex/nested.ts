import {
  internalMutationGeneric as internalMutation,
  internalQueryGeneric as internalQuery,
  mutationGeneric as mutation,
  queryGeneric as query,
} from "convex/server";
import { ConvexError, v } from "convex/values";

export const insertRow = internalMutation({
  args: { tag: v.string() },
  handler: async (ctx, { tag }) => await ctx.db.insert("anything", { tag }),
});

export const insertThenThrow = internalMutation({
  args: { tag: v.string(), data: v.optional(v.any()) },
  handler: async (ctx, { tag, data }) => {
    await ctx.db.insert("anything", { tag });
    console.log("about to throw", tag);
    if (data !== undefined) throw new ConvexError(data);
    throw new Error("thrown inside");
  },
});

export const tags = internalQuery({
  args: {},
  handler: async (ctx) => (await ctx.db.query("anything").collect()).map((row) => row.tag ?? null),
});

export const listTags = query({ args: {}, handler: async (ctx) => await ctx.runQuery("nested:tags" as any, {}) });

// Writes, runs a mutation that fails, goes on: only the failed one's writes are gone.
export const catchAndGoOn = mutation({
  args: {},
  handler: async (ctx) => {
    await ctx.db.insert("anything", { tag: "before" });
    let message = "";
    try {
      await ctx.runMutation("nested:insertThenThrow" as any, { tag: "lost" });
    } catch (error: any) {
      message = error.message;
    }
    await ctx.runMutation("nested:insertRow" as any, { tag: "kept" });
    return { message, seen: await ctx.runQuery("nested:tags" as any, {}) };
  },
});

// Tables that this mutation, and one that it runs, have only just made.
export const normalizeNew = mutation({
  args: {},
  handler: async (ctx) => {
    const db = ctx.db as any;
    const found: boolean[] = [];
    const own = await db.insert("fresh", {});
    found.push(db.normalizeId("fresh", own) === own, db.normalizeId("anything", own) === null);
    const nested = await ctx.runMutation("nested:insertRow" as any, { tag: "x" });
    found.push(db.normalizeId("anything", nested) === nested);
    try {
      await ctx.runMutation("nested:insertThenThrowInNew" as any, {});
    } catch (error: any) {
      found.push(db.normalizeId("lost", error.data.id) === null);
    }
    found.push(await ctx.runQuery("nested:normalizes" as any, { table: "fresh", id: own }));
    return found;
  },
});

export const normalizes = internalQuery({
  args: { table: v.string(), id: v.string() },
  handler: async (ctx, { table, id }) => (ctx.db as any).normalizeId(table, id) === id,
});

export const insertThenThrowInNew = internalMutation({
  args: {},
  handler: async (ctx) => {
    const id = await ctx.db.insert("lost", {});
    throw new ConvexError({ id, known: (ctx.db as any).normalizeId("lost", id) === id });
  },
});

export const failWithNested = mutation({
  args: {},
  handler: async (ctx) => {
    await ctx.db.insert("anything", { tag: "outer" });
    await ctx.runMutation("nested:insertThenThrow" as any, { tag: "inner" });
  },
});

export const catchData = mutation({
  args: { data: v.any() },
  handler: async (ctx, { data }) => {
    try {
      await ctx.runMutation("nested:insertThenThrow" as any, { tag: "x", data });
    } catch (error: any) {
      return { isConvexError: error instanceof ConvexError, data: error.data };
    }
  },
});

export const passData = mutation({
  args: { data: v.any() },
  handler: async (ctx, { data }) => {
    await ctx.runMutation("nested:insertThenThrow" as any, { tag: "x", data });
  },
});

export const badArgs = mutation({
  args: {},
  handler: async (ctx) => await ctx.runMutation("nested:insertRow" as any, { tag: 7 }),
});

export const missing = query({
  args: {},
  handler: async (ctx) => await ctx.runQuery("nested:doesNotExist" as any, {}),
});

export const mutationFromQuery = query({
  args: {},
  handler: async (ctx) => await (ctx as any).runMutation?.("nested:insertRow", { tag: "x" }),
});

export const forever = query({
  args: { depth: v.number() },
  handler: async (ctx, { depth }): Promise<number> =>
    await ctx.runQuery("nested:forever" as any, { depth: depth + 1 }),
});

export const seesOwnWrites = mutation({
  args: {},
  handler: async (ctx) => {
    await ctx.db.insert("anything", { tag: "own" });
    return (await ctx.runQuery("nested:tags" as any, {})).includes("own");
  },
});

export const insertMany = internalMutation({
  args: { count: v.number() },
  handler: async (ctx, { count }) => {
    for (let i = 0; i < count; i++) await ctx.db.insert("anything", { tag: `many${i}` });
  },
});

// A nested call with a budget of its own: it may exceed that and its caller may go on.
export const withBudget = mutation({
  args: { count: v.number() },
  handler: async (ctx, { count }) => {
    let message = "";
    try {
      await ctx.runMutation("nested:insertMany" as any, { count }, { transactionLimits: { documentsWritten: 3 } } as any);
    } catch (error: any) {
      message = error.message;
    }
    await ctx.runMutation("nested:insertMany" as any, { count: 5 });
    return message;
  },
});

export const staleInQuery = query({
  args: {},
  handler: async () => {
    const call = { udfType: "snapshotQuery", name: "nested:listTags", args: {}, version: "1.48.0" };
    return await (globalThis as any).Convex.asyncSyscall("1.0/runUdf", JSON.stringify(call));
  },
});

export const staleQuery = mutation({
  args: {},
  handler: async (ctx) => {
    await ctx.db.insert("anything", { tag: "pending" });
    const stale = await ctx.runQuery("nested:tags" as any, {}, { useStaleSnapshot: true } as any);
    const fresh = await ctx.runQuery("nested:tags" as any, {});
    return { stale, fresh };
  },
});

export const withCommitTs = mutation({
  args: {},
  handler: async (ctx) => {
    const id = await ctx.db.insert("anything", { tag: "ts", at: (ctx.db as any).vars.commitTs });
    await ctx.runMutation("nested:keep" as any, { value: (ctx.db as any).vars.commitTs });
    return id;
  },
});
export const keep = internalMutation({
  args: { value: v.any() },
  handler: async (ctx, { value }) => {
    await ctx.db.insert("anything", { tag: "kept", value });
    return value;
  },
});
export const returnCommitTs = mutation({ args: {}, handler: async (ctx) => (ctx.db as any).vars.commitTs });

export const endless = internalQuery({
  args: {},
  handler: async () => {
    for (;;) {}
  },
});
export const catchesEndless = mutation({
  args: {},
  handler: async (ctx) => {
    await ctx.db.insert("anything", { tag: "never" });
    try {
      await ctx.runQuery("nested:endless" as any, {});
    } catch {
      return "caught";
    }
  },
});
export const nestedNow = query({
  args: {},
  handler: async (ctx) => await ctx.runQuery("behaviour:now" as any, {}),
});
export const nestedWhoami = query({
  args: {},
  handler: async (ctx) => await ctx.runQuery("behaviour:whoami" as any, {}),
});
export const insertNow = mutation({
  args: { text: v.string() },
  handler: async (ctx, { text }) => await ctx.db.insert("anything", { text }),
});

export const speak = internalMutation({
  args: { word: v.string(), thenRun: v.optional(v.string()) },
  handler: async (ctx, { word, thenRun }) => {
    console.log(`${word} begins`);
    if (thenRun !== undefined) await ctx.runMutation("nested:speak" as any, { word: thenRun });
    console.log(`${word} ends`);
  },
});

// Its lines and those of what it runs, two levels deep, belong in the order in which they are written.
export const converse = mutation({
  args: {},
  handler: async (ctx) => {
    console.log("first");
    await ctx.runMutation("nested:speak" as any, { word: "outer", thenRun: "inner" });
    console.log("between");
    const both = [
      ctx.runMutation("nested:speak" as any, { word: "left" }),
      ctx.runMutation("nested:speak" as any, { word: "right" }),
    ];
    console.log("after asking");
    await Promise.all(both);
    console.log("last");
  },
});
