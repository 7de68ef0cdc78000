import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  cards: defineTable({
    owner: v.string(),
    title: v.string(),
    editors: v.array(v.string()),
  }).index("by_owner", ["owner"]),
  presence: defineTable({
    room: v.string(),
    user: v.string(),
    cursor: v.object({ x: v.number(), y: v.number() }),
    leaving: v.id("_scheduled_functions"),
  }).index("by_room_and_user", ["room", "user"]),
});
