import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  accounts: defineTable({ number: v.number(), balance: v.int64(), frozen: v.optional(v.boolean()) })
    .index("by_number", ["number"])
    .index("by_balance", ["balance"]),
  transfers: defineTable({ from: v.number(), to: v.number(), amount: v.int64() }),
});
