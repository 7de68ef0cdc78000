import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  rooms: defineTable({ name: v.string() }).index("by_name", ["name"]),
  messages: defineTable({
    room: v.id("rooms"),
    author: v.string(),
    body: v.string(),
    kind: v.union(v.literal("text"), v.literal("image")),
    likes: v.optional(v.int64()),
    meta: v.optional(v.record(v.string(), v.array(v.number()))),
  })
    .index("by_room", ["room"])
    .index("by_author", ["author", "kind"]),
});
