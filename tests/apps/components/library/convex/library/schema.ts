import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  books: defineTable({ title: v.string(), copies: v.number(), cover: v.optional(v.id("_storage")) })
    .index("by_title", ["title"])
    .searchIndex("by_words", { searchField: "title" }),
  beats: defineTable({ n: v.number() }),
});
