import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  items: defineTable({ name: v.string(), rank: v.number(), place: v.array(v.float64()) })
    .index("by_rank", ["rank"])
    .searchIndex("by_words", { searchField: "name", filterFields: ["rank"] })
    .vectorIndex("by_place", { vectorField: "place", dimensions: 2, filterFields: ["rank"] }),
  beats: defineTable({ n: v.number() }),
});
