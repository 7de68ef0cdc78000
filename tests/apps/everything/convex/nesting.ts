import { ConvexError, v } from "convex/values";
import { api, internal } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import { internalMutation, internalQuery, mutation, query } from "./_generated/server";

export const secret = internalQuery({ args: { n: v.number() }, returns: v.number(), handler: async (_ctx, { n }) => n * 2 });

export const add = internalMutation({
  args: { text: v.string(), group: v.string() },
  handler: async (ctx, { text, group }): Promise<Id<"notes">> => await ctx.db.insert("notes", { text, group }),
});

export const addThenThrow = internalMutation({
  args: { text: v.string(), group: v.string(), data: v.optional(v.any()) },
  handler: async (ctx, { text, group, data }) => {
    await ctx.db.insert("notes", { text, group });
    if (data !== undefined) throw new ConvexError(data);
    throw new TypeError("thrown below");
  },
});

export const list = query({
  args: { group: v.string() },
  handler: async (ctx, { group }) =>
    (await ctx.db.query("notes").withIndex("by_group", (q) => q.eq("group", group)).collect()).map((note) => note.text),
});

export const queryInQuery = query({
  args: { n: v.number() },
  handler: async (ctx, { n }): Promise<number[]> => [
    await ctx.runQuery(internal.nesting.secret, { n }),
    ...(await Promise.all([1, 2].map((m) => ctx.runQuery(internal.nesting.secret, { n: n + m })))),
  ],
});

export const mutationInMutation = mutation({
  args: { group: v.string() },
  handler: async (ctx, { group }): Promise<string[][]> => {
    const seen: string[][] = [];
    const note = async () => seen.push(await ctx.runQuery(api.nesting.list, { group }));
    await ctx.db.insert("notes", { text: "parent 1", group });
    await ctx.runMutation(internal.nesting.add, { text: "child 1", group });
    await note();
    try {
      await ctx.runMutation(internal.nesting.addThenThrow, { text: "rolled back", group });
    } catch (error: any) {
      seen.push([error instanceof Error ? "Error" : typeof error, String(error.message).split("\n")[0]]);
    }
    await note();
    await Promise.all([2, 3].map((n) => ctx.runMutation(internal.nesting.add, { text: `child ${n}`, group })));
    await ctx.db.insert("notes", { text: "parent 2", group });
    await note();
    return seen;
  },
});

export const convexErrorFromBelow = mutation({
  args: { group: v.string() },
  handler: async (ctx, { group }) => {
    try {
      await ctx.runMutation(internal.nesting.addThenThrow, { text: "gone", group, data: { code: 7n, list: [1, "a", null] } });
    } catch (error) {
      if (!(error instanceof ConvexError)) return "not a ConvexError";
      return { data: error.data, left: (await ctx.db.query("notes").withIndex("by_group", (q) => q.eq("group", group)).collect()).length };
    }
    return "no error";
  },
});

export const uncaughtFromBelow = mutation({
  args: { group: v.string(), data: v.optional(v.any()) },
  handler: async (ctx, { group, data }) => {
    await ctx.db.insert("notes", { text: "parent", group });
    await ctx.runMutation(internal.nesting.addThenThrow, { text: "child", group, data });
  },
});

export const badArgumentsBelow = query({
  args: {},
  handler: async (ctx) => {
    try {
      await ctx.runQuery(internal.nesting.secret, { n: "three" } as any);
    } catch (error: any) {
      return String(error.message);
    }
    return "no error";
  },
});

export const mutationFromQuery = query({
  args: {},
  handler: async (ctx) => {
    try {
      await (ctx as any).runMutation(internal.nesting.add, { text: "x", group: "x" });
    } catch (error: any) {
      return String(error.message);
    }
    return "no error";
  },
});

export const wrongKindBelow = mutation({
  args: {},
  handler: async (ctx) => {
    try {
      await ctx.runQuery(internal.nesting.add as any, { text: "x", group: "x" });
    } catch (error: any) {
      return String(error.message);
    }
    return "no error";
  },
});

export const missingBelow = mutation({
  args: {},
  handler: async (ctx) => {
    try {
      await ctx.runMutation("nesting:noSuchThing" as any, {});
    } catch (error: any) {
      return String(error.message);
    }
    return "no error";
  },
});

/** Calls itself: `depth` levels below the first. */
export const dive = query({
  args: { depth: v.number() },
  handler: async (ctx, { depth }): Promise<number> =>
    depth === 0 ? 0 : 1 + (await ctx.runQuery(api.nesting.dive, { depth: depth - 1 })),
});
