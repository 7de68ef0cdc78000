import { createFunctionHandle } from "convex/server";
import { v } from "convex/values";
import { components, internal } from "./_generated/api";
import { action, internalMutation, mutation, query } from "./_generated/server";

export const addBook = mutation({
  args: { title: v.string(), copies: v.number(), annex: v.optional(v.boolean()) },
  handler: async (ctx, { annex, ...book }): Promise<string> =>
    await ctx.runMutation((annex ? components.annex : components.library).books.add, book),
});

export const books = query({
  args: { annex: v.optional(v.boolean()) },
  handler: async (ctx, { annex }): Promise<{ title: string; copies: number; _id: string }[]> =>
    await ctx.runQuery((annex ? components.annex : components.library).books.list, {}),
});

export const lend = mutation({
  args: { book: v.string(), reader: v.string(), ifNone: v.optional(v.string()) },
  handler: async (ctx, { book, reader, ifNone }): Promise<string> => {
    await ctx.db.insert("loans", { book, reader });
    try {
      const left: number = await ctx.runMutation(components.library.books.take, { id: book });
      return `${left} left`;
    } catch (error) {
      if (ifNone === undefined) throw error;
      await ctx.db.insert("notes", { text: ifNone });
      return (error as Error).message.split("\n")[0];
    }
  },
});

export const loans = query({ args: {}, handler: async (ctx) => (await ctx.db.query("loans").collect()).length });
export const notes = query({
  args: {},
  handler: async (ctx) => (await ctx.db.query("notes").collect()).map(({ text }) => text),
});

/** Calls a query of the library by its name: whatever a test wants to see. */
export const ask = query({
  args: { name: v.string(), args: v.optional(v.any()) },
  handler: async (ctx, { name, args }) => await ctx.runQuery((components.library as any).books[name], args ?? {}),
});

export const tell = mutation({
  args: { name: v.string(), args: v.optional(v.any()) },
  handler: async (ctx, { name, args }) => await ctx.runMutation((components.library as any).books[name], args ?? {}),
});

export const askUnknown = query({
  args: {},
  handler: async (ctx) => await ctx.runQuery((components as any).nowhere.books.list, {}),
});

export const where = query({ args: {}, handler: async (ctx) => await ctx.meta.getFunctionMetadata() });

export const order = action({
  args: { title: v.string() },
  handler: async (ctx, { title }): Promise<{ id: string; url: string | null }> => {
    const id: string = await ctx.runAction(components.library.books.order, { title });
    return { id, url: await ctx.runQuery(components.library.books.cover, { id }) };
  },
});

// ---- handles

export const note = internalMutation({
  args: { text: v.string() },
  handler: async (ctx, { text }) => {
    const who = await ctx.auth.getUserIdentity();
    await ctx.db.insert("notes", { text: who === null ? text : `${text} (${who.subject})` });
    return "noted";
  },
});

export const noteThroughLibrary = mutation({
  args: { text: v.string(), later: v.optional(v.boolean()) },
  handler: async (ctx, { text, later }): Promise<unknown> => {
    const fn = await createFunctionHandle(internal.loans.note);
    return await ctx.runMutation(components.library.books.callBack, { fn, args: { text }, later });
  },
});

export const handle = query({ args: {}, handler: async (): Promise<string> => await createFunctionHandle(internal.loans.note) });

export const handleInside = query({
  args: {},
  handler: async (): Promise<string> => await createFunctionHandle(components.library.books.list as any),
});

export const handleOfInternal = query({
  args: {},
  handler: async (): Promise<string> => await createFunctionHandle((components.library as any).books.secret),
});

export const runHandle = query({
  args: { fn: v.string() },
  handler: async (ctx, { fn }) => await ctx.runQuery(fn as any, {}),
});

export const runMutationHandle = mutation({
  args: { fn: v.string(), args: v.any() },
  handler: async (ctx, { fn, args }) => await ctx.runMutation(fn as any, args),
});
