import { createFunctionHandle, type FunctionHandle } from "convex/server";
import { v } from "convex/values";
import { api, components, internal } from "./_generated/api";
import { action, env, internalMutation, internalQuery, mutation, query } from "./_generated/server";

export const add = mutation({
  args: { title: v.string(), copies: v.number() },
  returns: v.string(),
  handler: async (ctx, args): Promise<string> => {
    await ctx.runMutation(components.audit.log.write, { line: `added ${args.title}` });
    return await ctx.db.insert("books", args);
  },
});

export const list = query({
  args: {},
  handler: async (ctx) => await ctx.db.query("books").withIndex("by_title").collect(),
});

export const find = query({
  args: { words: v.string() },
  handler: async (ctx, { words }) =>
    await ctx.db.query("books").withSearchIndex("by_words", (q) => q.search("title", words)).collect(),
});

/** Throws when there is none left, after it has already written. */
export const take = mutation({
  args: { id: v.id("books") },
  returns: v.number(),
  handler: async (ctx, { id }) => {
    const book = await ctx.db.get("books", id);
    if (book === null) throw new Error("no such book");
    await ctx.db.patch("books", id, { copies: book.copies - 1 });
    await ctx.runMutation(components.audit.log.write, { line: `took ${book.title}` });
    if (book.copies === 0) throw new Error(`no copy of ${book.title} left`);
    return book.copies - 1;
  },
});

export const history = query({
  args: {},
  handler: async (ctx): Promise<string[]> => await ctx.runQuery(components.audit.log.lines, {}),
});

declare const process: { env: Record<string, string | undefined> };

/** What a component sees of the world. */
export const surroundings = query({
  args: {},
  handler: async (ctx): Promise<Record<string, unknown>> => ({
    identity: await ctx.auth.getUserIdentity(),
    name: env.LIBRARY_NAME,
    town: env.TOWN ?? null,
    secret: process.env.SECRET ?? null,
    site: typeof process.env.CONVEX_SITE_URL,
  }),
});

export const pages = query({
  args: {},
  handler: async (ctx) => await ctx.db.query("books").paginate({ cursor: null, numItems: 1 }),
});

export const wrongReturn = query({ args: {}, returns: v.number(), handler: async () => "three" as never });

export const chatty = mutation({
  args: { word: v.string() },
  handler: async (ctx, { word }) => {
    console.log("the library says", word);
    await ctx.runMutation(components.audit.log.write, { line: word });
  },
});

// ---- handles

/** Calls back whoever asks, now or later. */
export const callBack = mutation({
  args: { fn: v.string(), args: v.any(), later: v.optional(v.boolean()) },
  handler: async (ctx, { fn, args, later }) => {
    const handle = fn as FunctionHandle<"mutation">;
    if (later) return await ctx.scheduler.runAfter(0, handle, args);
    return await ctx.runMutation(handle, args);
  },
});

export const handleOfSecret = mutation({
  args: {},
  handler: async (): Promise<string> => await createFunctionHandle(internal.books.secret),
});

export const secret = internalQuery({ args: {}, handler: async () => `secret of ${env.LIBRARY_NAME}` });

// ---- later

export const addLater = mutation({
  args: { title: v.string(), ms: v.number() },
  handler: async (ctx, { title, ms }): Promise<string> =>
    await ctx.scheduler.runAfter(ms, internal.books.addNow, { title }),
});

export const addNow = internalMutation({
  args: { title: v.string() },
  handler: async (ctx, { title }) => {
    await ctx.db.insert("books", { title, copies: 1 });
  },
});

export const job = query({
  args: { id: v.id("_scheduled_functions") },
  handler: async (ctx, { id }) => (await ctx.db.system.get("_scheduled_functions", id))?.state.kind ?? null,
});

export const beat = internalMutation({
  args: {},
  handler: async (ctx) => {
    const n = (await ctx.db.query("beats").collect()).length;
    await ctx.db.insert("beats", { n });
  },
});

export const beats = query({ args: {}, handler: async (ctx) => (await ctx.db.query("beats").collect()).length });

// ---- actions and files

export const order = action({
  args: { title: v.string() },
  handler: async (ctx, { title }): Promise<string> => {
    if ((await ctx.auth.getUserIdentity()) !== null) throw new Error("a component knows who calls");
    const stored = await ctx.storage.store(new Blob([`cover of ${title}`], { type: "text/plain" }));
    const id: string = await ctx.runMutation(api.books.add, { title, copies: 2 });
    await ctx.runMutation(internal.books.setCover, { id: id as never, cover: stored });
    return id;
  },
});

export const setCover = internalMutation({
  args: { id: v.id("books"), cover: v.id("_storage") },
  handler: async (ctx, { id, cover }) => {
    await ctx.db.patch("books", id, { cover });
  },
});

export const cover = query({
  args: { id: v.id("books") },
  handler: async (ctx, { id }) => {
    const book = await ctx.db.get("books", id);
    return book?.cover ? await ctx.storage.getUrl(book.cover) : null;
  },
});

export const uploadUrl = mutation({ args: {}, handler: async (ctx) => await ctx.storage.generateUploadUrl() });

export const files = query({
  args: {},
  handler: async (ctx) => (await ctx.db.system.query("_storage").collect()).length,
});
