import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export const money = v.object({ cents: v.int64(), currency: v.union(v.literal("EUR"), v.literal("USD")) });

export default defineSchema({
  products: defineTable({
    sku: v.string(),
    name: v.string(),
    price: money,
    stock: v.number(),
    category: v.optional(v.string()),
    attributes: v.record(v.string(), v.union(v.string(), v.number(), v.boolean())),
  })
    .index("by_sku", ["sku"])
    .index("by_category", ["category", "price.cents"]),
  carts: defineTable({ customer: v.string(), open: v.boolean() }).index("by_customer", ["customer", "open"]),
  cartLines: defineTable({ cart: v.id("carts"), product: v.id("products"), quantity: v.number() }).index("by_cart", ["cart", "product"]),
  orders: defineTable({
    customer: v.string(),
    lines: v.array(v.object({ product: v.id("products"), name: v.string(), quantity: v.number(), each: money })),
    total: money,
    coupon: v.optional(v.string()),
    state: v.union(v.object({ kind: v.literal("paid"), reference: v.string() }), v.object({ kind: v.literal("cancelled"), why: v.string() })),
  }).index("by_customer", ["customer"]),
  coupons: defineTable({ code: v.string(), percent: v.number(), left: v.number() }).index("by_code", ["code"]),
});
