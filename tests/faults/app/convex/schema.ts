import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  pairs: defineTable({ worker: v.number(), n: v.number(), side: v.string() }).index("by_worker", ["worker", "n"]),
});
