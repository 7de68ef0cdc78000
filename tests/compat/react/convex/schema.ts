import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  items: defineTable({ group: v.string(), n: v.number(), text: v.string() }).index("by_group", ["group", "n"]),
});
