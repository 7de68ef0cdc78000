import { paginationOptsValidator } from "convex/server";
import { v } from "convex/values";
import { mutation, query } from "./_generated/server";

export const seed = mutation({
  args: { count: v.number(), group: v.optional(v.string()) },
  handler: async (ctx, { count, group }) => {
    for (let n = 0; n < count; n++) await ctx.db.insert("notes", { text: `n${n}`, group, size: n });
  },
});

export const clear = mutation({
  args: {},
  handler: async (ctx) => {
    for await (const note of ctx.db.query("notes")) await ctx.db.delete(note._id);
  },
});

export const everyWay = query({
  args: { group: v.string() },
  handler: async (ctx, { group }) => {
    const notes = () => ctx.db.query("notes").withIndex("by_group", (q) => q.eq("group", group));
    const text = (rows: { text: string }[]) => rows.map((row) => row.text);
    const iterated: string[] = [];
    for await (const note of notes()) iterated.push(note.text);
    const stopped: string[] = [];
    for await (const note of notes().order("desc")) {
      stopped.push(note.text);
      if (stopped.length === 2) break;
    }
    const iterator = notes()[Symbol.asyncIterator]();
    const byHand = [(await iterator.next()).value?.text, (await iterator.next()).value?.text];
    await iterator.return?.();
    const asked = await Promise.all([notes().first(), notes().order("desc").first(), notes().take(2)]);
    return {
      collect: text(await notes().collect()),
      descending: text(await notes().order("desc").collect()),
      ascending: text(await notes().order("asc").collect()),
      take: text(await notes().take(2)),
      takeNone: text(await notes().take(0)),
      takeMany: text(await notes().take(100)),
      first: (await notes().first())?.text ?? null,
      firstOfNone: await ctx.db.query("notes").withIndex("by_group", (q) => q.eq("group", "nobody")).first(),
      uniqueOfNone: await ctx.db.query("notes").withIndex("by_group", (q) => q.eq("group", "nobody")).unique(),
      uniqueOfOne: (await notes().filter((q) => q.eq(q.field("text"), "n1")).unique())?.text ?? null,
      iterated,
      stopped,
      byHand,
      together: [asked[0]?.text, asked[1]?.text, asked[2].length],
    };
  },
});

export const uniqueOfTwo = query({
  args: { group: v.string() },
  handler: async (ctx, { group }) =>
    await ctx.db.query("notes").withIndex("by_group", (q) => q.eq("group", group)).unique(),
});

export const page = query({
  args: { group: v.string(), paginationOpts: paginationOptsValidator, order: v.optional(v.union(v.literal("asc"), v.literal("desc"))) },
  handler: async (ctx, { group, paginationOpts, order }) => {
    const result = await ctx.db
      .query("notes")
      .withIndex("by_group", (q) => q.eq("group", group))
      .order(order ?? "asc")
      .paginate(paginationOpts);
    return { ...result, page: result.page.map((note) => note.text) };
  },
});

export const filteredPage = query({
  args: { group: v.string(), paginationOpts: paginationOptsValidator },
  handler: async (ctx, { group, paginationOpts }) => {
    const result = await ctx.db
      .query("notes")
      .withIndex("by_group", (q) => q.eq("group", group))
      .filter((q) => q.eq(q.mod(q.field("size"), 3), 0))
      .paginate(paginationOpts);
    return { ...result, page: result.page.map((note) => note.text) };
  },
});

export const twoPages = query({
  args: {},
  handler: async (ctx) => {
    await ctx.db.query("notes").paginate({ numItems: 1, cursor: null });
    await ctx.db.query("notes").paginate({ numItems: 1, cursor: null });
  },
});

export const normalize = query({
  args: { table: v.string(), text: v.string() },
  handler: async (ctx, { table, text }) => (ctx.db as any).normalizeId(table, text),
});

export const normalizeSystem = query({
  args: { table: v.string(), text: v.string() },
  handler: async (ctx, { table, text }) => (ctx.db.system as any).normalizeId(table, text),
});

export const system = query({
  args: { id: v.optional(v.string()) },
  handler: async (ctx, { id }) => ({
    files: await ctx.db.system.query("_storage").collect(),
    jobs: await ctx.db.system.query("_scheduled_functions").order("desc").take(5),
    one: id === undefined ? null : await ctx.db.system.get(id as any),
  }),
});

export const systemMistake = query({
  args: { which: v.string(), id: v.string() },
  handler: async (ctx, { which, id }) => {
    const mistakes: Record<string, () => Promise<unknown>> = {
      userTableThroughSystem: () => (ctx.db.system as any).get(id),
      queryUserTableThroughSystem: () => (ctx.db.system as any).query("notes").collect(),
      systemTableThroughDb: () => (ctx.db as any).query("_storage").collect(),
    };
    try {
      return JSON.stringify(await mistakes[which]());
    } catch (error: any) {
      return `error: ${error.message}`;
    }
  },
});

/** A table that no schema names and nothing was ever put in. */
export const missingTable = query({
  args: {},
  handler: async (ctx) => await (ctx.db as any).query("never_created").withIndex("by_whatever").collect(),
});
