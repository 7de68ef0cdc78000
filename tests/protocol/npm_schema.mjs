// How npm_schema.json was recorded: node npm_schema.mjs > npm_schema.json, beside an installed convex 1.48.0.
import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";
const schema = defineSchema({
  messages: defineTable({ author: v.id("users"), body: v.string(), meta: v.optional(v.object({ tags: v.array(v.string()) })),
     kind: v.union(v.literal("text"), v.literal(1), v.literal(2n), v.literal(true), v.null()), emb: v.optional(v.array(v.float64())),
     extra: v.record(v.string(), v.any()), n: v.int64(), raw: v.bytes(), ok: v.boolean(), at: v.commitTs(), maybe: v.nullable(v.number()) })
    .index("by_author", ["author"]).index("by_tags", ["meta.tags", "author"])
    .index("later", {fields:["n"], staged:true})
    .searchIndex("s", { searchField: "body", filterFields: ["author"] })
    .vectorIndex("v", { vectorField: "emb", dimensions: 1536, filterFields: ["author"] }),
  users: defineTable(v.union(v.object({ type: v.literal("a"), x: v.number() }), v.object({ type: v.literal("b"), y: v.string() }))).index("by_x", ["x"]),
  loose: defineTable(v.any()),
});
console.log(JSON.stringify(JSON.parse(schema.export()),null,1));
