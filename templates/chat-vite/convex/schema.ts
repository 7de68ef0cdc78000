import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  messages: defineTable({
    channel: v.string(),
    author: v.string(),
    body: v.string(),
    key: v.optional(v.string()),
  })
    .index("by_channel", ["channel"])
    .index("by_key", ["key"]),
});
