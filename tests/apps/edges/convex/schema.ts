import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  rows: defineTable({ n: v.number(), pad: v.optional(v.string()) }).index("by_n", ["n"]),
  texts: defineTable({ body: v.string(), embedding: v.array(v.float64()) })
    .searchIndex("by_body", { searchField: "body" })
    .vectorIndex("by_embedding", { vectorField: "embedding", dimensions: 2 }),
  anything: defineTable(v.any()),
});
