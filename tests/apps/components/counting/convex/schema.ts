import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  messages: defineTable({ author: v.string(), body: v.string() }),
  scores: defineTable({ game: v.string(), player: v.string(), score: v.number() }).index("by_game", ["game"]),
});
