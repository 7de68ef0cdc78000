import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  // An id of the component's table is a string here.
  loans: defineTable({ book: v.string(), reader: v.string() }).index("by_book", ["book"]),
  notes: defineTable({ text: v.string() }),
});
