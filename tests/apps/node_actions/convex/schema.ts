import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  payments: defineTable({ event: v.string(), amount: v.number() }).index("by_event", ["event"]),
  notes: defineTable({ text: v.string() }),
});
