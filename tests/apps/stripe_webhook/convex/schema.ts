import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  payments: defineTable({ paymentId: v.string(), cents: v.number(), currency: v.string() }).index("by_payment", ["paymentId"]),
  // Events that have been handled.
  events: defineTable({ eventId: v.string(), type: v.string() }).index("by_event", ["eventId"]),
});
