import { v } from "convex/values";
import { mutation, query } from "./_generated/server";
import schema from "./schema";

const fields = schema.tables.products.validator.fields;

export const put = mutation({
  args: { product: v.object(fields) },
  returns: v.id("products"),
  handler: async (ctx, { product }) => {
    const known = await ctx.db.query("products").withIndex("by_sku", (q) => q.eq("sku", product.sku)).unique();
    if (known === null) return await ctx.db.insert("products", product);
    await ctx.db.replace(known._id, product);
    return known._id;
  },
});

export const bySku = query({
  args: { sku: v.string() },
  returns: v.union(v.null(), v.object({ ...fields, _id: v.id("products"), _creationTime: v.number() })),
  handler: async (ctx, { sku }) => await ctx.db.query("products").withIndex("by_sku", (q) => q.eq("sku", sku)).unique(),
});

/** Of one category (or of none, when it is left out), cheapest first. */
export const inCategory = query({
  args: { category: v.optional(v.string()), below: v.optional(v.int64()) },
  handler: async (ctx, { category, below }) =>
    (
      await ctx.db
        .query("products")
        .withIndex("by_category", (q) => (below === undefined ? q.eq("category", category) : q.eq("category", category).lt("price.cents", below)))
        .collect()
    ).map((product) => product.sku),
});

export const putCoupon = mutation({
  args: { code: v.string(), percent: v.number(), left: v.number() },
  handler: async (ctx, coupon) => await ctx.db.insert("coupons", coupon),
});
