import { asyncMap, omit, pick, pruneNull } from "convex-helpers";
import { filter } from "convex-helpers/server/filter";
import { getPage, paginator } from "convex-helpers/server/pagination";
import { getAll, getManyFrom, getManyVia, getOneFrom, getOrThrow } from "convex-helpers/server/relationships";
import { mergedStream, stream } from "convex-helpers/server/stream";
import { zCustomQuery, zid } from "convex-helpers/server/zod4";
import { doc, literals, nullable, partial } from "convex-helpers/validators";
import { NoOp } from "convex-helpers/server/customFunctions";
import { paginationOptsValidator } from "convex/server";
import { v } from "convex/values";
import { z } from "zod";
import { mutation, query } from "./_generated/server";
import { keyedQuery, tallyingMutation } from "./lib/functions";
import schema from "./schema";

/** Three authors, twelve books, tags by the parity of the book. */
export const stock = tallyingMutation({
  args: {},
  handler: async (ctx) => {
    const tags = await asyncMap(["even", "odd"], (name) => ctx.db.insert("tags", { name }));
    for (const [n, name] of ["Ada", "Grace", "Edsger"].entries()) {
      const authorId = await ctx.db.insert("authors", { name });
      for (let m = 0; m < 4; m++) {
        const bookId = await ctx.db.insert("books", { title: `${name} ${m}`, authorId, year: 1880 + 10 * m + 5 * n });
        await ctx.db.insert("bookTags", { bookId, tagId: tags[m % 2] });
      }
    }
  },
});

export const dropBook = tallyingMutation({
  args: { title: v.string() },
  handler: async (ctx, { title }) => {
    const book = await ctx.db.query("books").filter((q) => q.eq(q.field("title"), title)).unique();
    await ctx.db.delete(book!._id);
  },
});

export const tally = query({
  args: {},
  handler: async (ctx) => (await getOneFrom(ctx.db, "tallies", "by_name", "books", "name"))?.total ?? 0,
});

export const byAuthor = query({
  args: { name: v.string() },
  handler: async (ctx, { name }) => {
    const author = await getOneFrom(ctx.db, "authors", "name", name);
    if (author === null) return null;
    const books = await getManyFrom(ctx.db, "books", "authorId", author._id);
    const tags = await asyncMap(books, async (book) =>
      // With strictTableNameTypes off any table may exist, which the types of this helper do not foresee.
      (await (getManyVia as any)(ctx.db, "bookTags", "tagId", "bookId", book._id, "bookId")).map((tag: any) => tag.name as string),
    );
    return {
      ...omit(author, ["_id", "_creationTime"]),
      books: books.map((book, n) => ({ ...pick(book, ["title", "year"]), tags: tags[n] })),
      authors: pruneNull(await getAll(ctx.db, books.map((book) => book.authorId))).length,
    };
  },
});

export const missing = query({
  args: { id: v.id("books") },
  handler: async (ctx, { id }) => (await getOrThrow(ctx, id)).title,
});

/** `filter` of convex-helpers takes a TypeScript predicate, also under pagination. */
export const filtered = query({
  args: { paginationOpts: v.optional(paginationOptsValidator) },
  handler: async (ctx, { paginationOpts }) => {
    const books = filter(ctx.db.query("books"), async (book) => (await ctx.db.get(book.authorId))!.name !== "Ada" && book.title.endsWith("1"));
    if (paginationOpts !== undefined) return (await books.paginate(paginationOpts)).page.map((book) => book.title);
    return (await books.collect()).map((book) => book.title);
  },
});

export const merged = query({
  args: { paginationOpts: paginationOptsValidator },
  handler: async (ctx, { paginationOpts }) => {
    const authors = await ctx.db.query("authors").collect();
    const streams = [[1880, 1890], [1905, 1910]].map(([from, to]) =>
      stream(ctx.db, schema).query("books").withIndex("by_year", (q) => q.gte("year", from).lte("year", to)),
    );
    const result = await mergedStream(streams, ["year"])
      .filterWith(async (book) => book.authorId !== authors[0]._id)
      .paginate(paginationOpts);
    return { ...result, page: result.page.map((book) => book.title) };
  },
});

export const manualPage = query({
  args: { start: v.optional(v.array(v.any())) },
  handler: async (ctx, { start }) => {
    const { page, hasMore, indexKeys } = await getPage(ctx, { table: "books", index: "by_year", schema, startIndexKey: start, targetMaxRows: 5 });
    return { titles: page.map((book) => book.title), hasMore, last: indexKeys[indexKeys.length - 1] };
  },
});

export const paginatorPage = query({
  args: { paginationOpts: paginationOptsValidator },
  handler: async (ctx, { paginationOpts }) => {
    const result = await paginator(ctx.db, schema).query("books").withIndex("by_year").order("desc").paginate(paginationOpts);
    return { ...result, page: result.page.map((book) => book.title) };
  },
});

export const restricted = keyedQuery({
  args: { limit: v.number() },
  handler: async (ctx, { limit }) => ({
    reader: ctx.reader,
    titles: (await ctx.db.query("books").withIndex("by_year").take(limit)).map((book) => book.title),
  }),
});

const zodQuery = zCustomQuery(query, NoOp);

export const withZod = zodQuery({
  args: { email: z.email(), age: z.number().int().min(18), author: zid("authors").optional(), extra: z.object({ tags: z.array(z.string()).max(2) }) },
  returns: z.object({ greeting: z.string(), tags: z.number() }),
  handler: async (_ctx, { email, age, extra }) => ({ greeting: `${email} is ${age}`, tags: extra.tags.length }),
});

export const helperValidators = query({
  args: {
    level: literals("low", "high"),
    name: nullable(v.string()),
    changes: v.object(partial({ title: v.string(), year: v.number() })),
  },
  returns: v.array(doc(schema, "books")),
  handler: async (ctx, { level, changes }) =>
    level === "low" ? [] : await ctx.db.query("books").withIndex("by_year", (q) => q.eq("year", changes.year ?? 0)).collect(),
});

export const plain = mutation({ args: {}, handler: async () => null });
