import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  users: defineTable({ name: v.string() }),
  documents: defineTable({
    title: v.string(),
    content: v.string(),
    ownerId: v.id("users"),
    collaborators: v.array(v.id("users")),
    folder: v.optional(v.string()),
  })
    .index("by_owner", ["ownerId"])
    .searchIndex("search_content", { searchField: "content", filterFields: ["ownerId", "folder"] })
    .searchIndex("search_title", { searchField: "title" }),
  passages: defineTable({
    document: v.id("documents"),
    text: v.string(),
    kind: v.union(v.literal("heading"), v.literal("paragraph")),
    embedding: v.array(v.float64()),
  })
    .index("by_document", ["document"])
    .vectorIndex("by_embedding", { vectorField: "embedding", dimensions: 64, filterFields: ["kind", "document"] }),
});
