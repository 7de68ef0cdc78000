import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({ lines: defineTable({ line: v.string() }) });
