import { paginationOptsValidator } from "convex/server";
import { ConvexError, v } from "convex/values";
import { mutation, query } from "./_generated/server";

export const create = mutation({
  args: {
    title: v.string(),
    content: v.string(),
    ownerId: v.id("users"),
    collaborators: v.array(v.id("users")),
    folder: v.optional(v.string()),
  },
  handler: async (ctx, document) => await ctx.db.insert("documents", document),
});

export const edit = mutation({
  args: { id: v.id("documents"), as: v.id("users"), content: v.string() },
  handler: async (ctx, { id, as, content }) => {
    const document = await ctx.db.get(id);
    if (document === null) throw new ConvexError("There is no such document.");
    if (document.ownerId !== as && !document.collaborators.includes(as)) {
      throw new ConvexError("Only the owner and collaborators may edit this document.");
    }
    await ctx.db.patch(id, { content });
  },
});

export const remove = mutation({
  args: { id: v.id("documents") },
  handler: async (ctx, { id }) => await ctx.db.delete(id),
});

// The documents that a user may see and that have one of these words, the best first.
export const search = query({
  args: { words: v.string(), as: v.id("users"), mine: v.boolean(), folder: v.optional(v.string()) },
  handler: async (ctx, { words, as, mine, folder }) => {
    const found = await ctx.db
      .query("documents")
      .withSearchIndex("search_content", (q) => {
        let search = q.search("content", words);
        if (mine) search = search.eq("ownerId", as);
        if (folder !== undefined) search = search.eq("folder", folder);
        return search;
      })
      .take(50);
    return found.filter(({ ownerId, collaborators }) => ownerId === as || collaborators.includes(as));
  },
});

export const searchTitles = query({
  args: { words: v.string(), paginationOpts: paginationOptsValidator },
  handler: async (ctx, { words, paginationOpts }) =>
    await ctx.db
      .query("documents")
      .withSearchIndex("search_title", (q) => q.search("title", words))
      .paginate(paginationOpts),
});
