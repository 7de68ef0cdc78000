import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  // What every level of a chain leaves behind.
  steps: defineTable({
    chain: v.string(),
    level: v.string(),
    text: v.string(),
    file: v.optional(v.id("_storage")),
    place: v.optional(v.array(v.float64())),
    data: v.optional(v.any()),
  })
    .index("by_chain", ["chain", "level"])
    .searchIndex("by_text", { searchField: "text", filterFields: ["level"] })
    .vectorIndex("by_place", { vectorField: "place", dimensions: 4, filterFields: ["level"] }),
  ticks: defineTable({ at: v.float64(), chain: v.string() }),
});
