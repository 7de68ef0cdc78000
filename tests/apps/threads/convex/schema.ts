import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  channels: defineTable({ name: v.string() }).index("by_name", ["name"]),
  messages: defineTable({
    channel: v.id("channels"),
    parent: v.optional(v.id("messages")),
    author: v.string(),
    body: v.string(),
    replies: v.number(),
    attachment: v.optional(v.bytes()),
    reactions: v.record(v.string(), v.array(v.string())),
    seq: v.int64(),
  })
    .index("by_channel", ["channel", "parent", "seq"])
    .index("by_parent", ["parent"]),
  counters: defineTable({ name: v.string(), value: v.int64() }).index("by_name", ["name"]),
  reads: defineTable({ channel: v.id("channels"), user: v.string(), seq: v.int64() }).index("by_user", ["user", "channel"]),
  typing: defineTable({ channel: v.id("channels"), user: v.string(), until: v.number() }).index("by_channel", ["channel", "user"]),
});
