import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  votes: defineTable({ voter: v.string(), option: v.string() }).index("by_voter", ["voter"]),
});
