import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  posts: defineTable({
    title: v.string(),
    state: v.union(v.literal("draft"), v.literal("published")),
    touched: v.number(),
    publication: v.optional(v.id("_scheduled_functions")),
  }).index("by_state", ["state", "touched"]),
  events: defineTable({ kind: v.string(), at: v.number() }).index("by_time", ["at"]),
  days: defineTable({ day: v.string(), kind: v.string(), count: v.number() }).index("by_day", ["day", "kind"]),
  ran: defineTable({ what: v.string(), n: v.optional(v.number()), at: v.optional(v.number()) }).index("by_what", ["what"]),
});
