import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  tries: defineTable({ what: v.string() }).index("by_what", ["what"]),
  done: defineTable({ what: v.string(), result: v.any() }).index("by_what", ["what"]),
  people: defineTable({ name: v.string(), greeting: v.optional(v.string()) }),
  running: defineTable({ n: v.number() }),
});
