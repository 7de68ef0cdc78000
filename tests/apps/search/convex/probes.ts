// What an app would not do: misuse, and looking at what happens inside one function.

import { actionGeneric as action, mutationGeneric as mutation, queryGeneric as query } from "convex/server";
import { v } from "convex/values";

const searches: Record<string, (q: any) => any> = {
  missing: (q) => q,
  twice: (q) => q.search("content", "a").search("content", "b"),
  wrongField: (q) => q.search("title", "a"),
  notAFilter: (q) => q.search("content", "a").eq("title", "x"),
  nineFilters: (q) => Array.from({ length: 9 }).reduce((s: any) => s.eq("folder", "x"), q.search("content", "a")),
  notText: (q) => q.search("content", 7),
};

const attempted = async (run: () => Promise<unknown>) => {
  try {
    return { value: await run() };
  } catch (error: any) {
    return { error: error.message };
  }
};

export const misuse = query({
  args: { how: v.string() },
  handler: async (ctx, { how }) => {
    const db = ctx.db as any;
    if (how === "unknownIndex") {
      return await attempted(() => db.query("documents").withSearchIndex("nothing", (q: any) => q.search("content", "a")).collect());
    }
    if (how === "databaseIndex") {
      return await attempted(() => db.query("documents").withSearchIndex("by_owner", (q: any) => q.search("content", "a")).collect());
    }
    if (how === "searchIndexAsRange") return await attempted(() => db.query("documents").withIndex("search_content").collect());
    if (how === "vectorIndexAsRange") return await attempted(() => db.query("passages").withIndex("by_embedding").collect());
    return await attempted(() => db.query("documents").withSearchIndex("search_content", searches[how]).collect());
  },
});

export const nowhere = query({
  args: {},
  handler: (ctx) => (ctx.db as any).query("nowhere").withSearchIndex("any", (q: any) => q.search("a", "b")).collect(),
});

/** Everything, with a filter of its own after the search. */
export const all = query({
  args: { words: v.string(), except: v.optional(v.string()) },
  handler: async (ctx, { words, except }) => {
    const found = await ctx.db
      .query("documents")
      .withSearchIndex("search_content", (q: any) => q.search("content", words))
      .filter((q) => q.neq(q.field("title"), except ?? ""))
      .collect();
    return found.map(({ title }) => title);
  },
});

/** A mutation sees what it has just written, ranked with the rest; what it takes back leaves no trace. */
export const ownWrites = mutation({
  args: { owner: v.any() },
  handler: async (ctx, { owner }) => {
    const titles = async (words: string) =>
      (await ctx.db.query("documents").withSearchIndex("search_content", (q: any) => q.search("content", words)).collect()).map(({ title }) => title);
    const before = await titles("xylophone");
    const id = await ctx.db.insert("documents", { title: "own", content: "xylophone xylophone", ownerId: owner, collaborators: [] });
    const inserted = await titles("xylo");
    await ctx.db.patch(id, { content: "nothing of the kind" });
    const patched = await titles("xylophone");
    await ctx.db.delete(id);
    return { before, inserted, patched, deleted: await titles("kind") };
  },
});

export const fill = mutation({
  args: { count: v.number(), owner: v.any() },
  handler: async (ctx, { count, owner }) => {
    for (let n = 0; n < count; n++) {
      await ctx.db.insert("documents", { title: `bulk ${n}`, content: `plentiful number${n}`, ownerId: owner, collaborators: [], folder: "bulk" });
    }
  },
});

export const vectorMisuse = action({
  args: { table: v.string(), index: v.string(), query: v.any() },
  handler: async (ctx, { table, index, query }) => {
    const { filterOn, filterNot, ...rest } = query;
    const filter = filterOn ? (q: any) => q.eq(filterOn, "x") : filterNot ? () => true : undefined;
    return await attempted(() => ctx.vectorSearch(table as any, index as any, { ...rest, filter } as any));
  },
});
