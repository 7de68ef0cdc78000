import { mutationGeneric as mutation, paginationOptsValidator, queryGeneric as query } from "convex/server";
import { v } from "convex/values";

export const add = mutation({
  args: { n: v.any() },
  handler: async (ctx, { n }) => {
    console.log("adding", n);
    return await ctx.db.insert("notes", { n });
  },
});
export const all = query({
  args: {},
  handler: async (ctx) => (await ctx.db.query("notes").withIndex("by_n").collect()).map(({ n }) => n),
});
export const page = query({
  args: { paginationOpts: paginationOptsValidator },
  handler: async (ctx, { paginationOpts }) => {
    const page = await ctx.db.query("notes").withIndex("by_n").order("asc").paginate(paginationOpts);
    return { ...page, page: page.page.map(({ n }) => n) };
  },
});
export const greeting = query({ args: {}, handler: async () => process.env.GREETING ?? null });
