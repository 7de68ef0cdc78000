import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({ notes: defineTable({ what: v.string(), value: v.any() }).index("by_what", ["what"]) });
