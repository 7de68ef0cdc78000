import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  links: defineTable({
    url: v.string(),
    title: v.union(v.string(), v.null()),
    state: v.union(v.literal("waiting"), v.literal("ready"), v.literal("failed")),
  }),
  marks: defineTable({ name: v.string() }).index("by_name", ["name"]),
});
