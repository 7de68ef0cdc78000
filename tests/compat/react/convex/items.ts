import { paginationOptsValidator } from "convex/server";
import { ConvexError, v } from "convex/values";
import { mutation, query } from "./_generated/server";

export const page = query({
  args: { group: v.string(), paginationOpts: paginationOptsValidator },
  handler: async (ctx, { group, paginationOpts }) =>
    await ctx.db.query("items").withIndex("by_group", (q) => q.eq("group", group)).paginate(paginationOpts),
});

/** Reads at most five rows a page, so that a filter that drops most of them ends pages early. */
export const sparsePage = query({
  args: { group: v.string(), paginationOpts: paginationOptsValidator },
  handler: async (ctx, { group, paginationOpts }) =>
    await ctx.db
      .query("items")
      .withIndex("by_group", (q) => q.eq("group", group))
      .filter((q) => q.eq(q.mod(q.field("n"), 3), 0))
      .paginate({ ...paginationOpts, maximumRowsRead: 5 }),
});

export const failingPage = query({
  args: { group: v.string(), paginationOpts: paginationOptsValidator },
  handler: async (ctx, { group, paginationOpts }) => {
    if (group === "forbidden") throw new ConvexError({ code: "FORBIDDEN", group });
    return await ctx.db.query("items").withIndex("by_group", (q) => q.eq("group", group)).paginate(paginationOpts);
  },
});

export const texts = query({
  args: { group: v.string() },
  handler: async (ctx, { group }) =>
    (await ctx.db.query("items").withIndex("by_group", (q) => q.eq("group", group)).collect()).map((item) => item.text),
});

export const countAtLeast = query({
  args: { group: v.string(), least: v.number() },
  handler: async (ctx, { group, least }) => {
    const items = await ctx.db.query("items").withIndex("by_group", (q) => q.eq("group", group)).collect();
    if (items.length < least) throw new ConvexError({ code: "TOO_FEW", have: items.length, least });
    return items.length;
  },
});

export const add = mutation({
  args: { group: v.string(), ns: v.array(v.number()), refuse: v.optional(v.boolean()) },
  handler: async (ctx, { group, ns, refuse }) => {
    for (const n of ns) await ctx.db.insert("items", { group, n, text: `#${n}` });
    if (refuse) throw new ConvexError({ code: "REFUSED", ns });
    return ns.length;
  },
});

export const rename = mutation({
  args: { id: v.id("items"), text: v.string() },
  handler: async (ctx, { id, text }) => await ctx.db.patch(id, { text }),
});

export const remove = mutation({
  args: { group: v.string(), from: v.number(), to: v.number() },
  handler: async (ctx, { group, from, to }) => {
    const items = await ctx.db.query("items").withIndex("by_group", (q) => q.eq("group", group).gte("n", from).lte("n", to)).collect();
    for (const item of items) await ctx.db.delete(item._id);
    return items.length;
  },
});
