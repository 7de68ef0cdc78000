import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

const mark = v.union(v.literal("X"), v.literal("O"));

export default defineSchema({
  players: defineTable({ name: v.string(), wins: v.number(), room: v.union(v.id("rooms"), v.null()) })
    .index("by_name", ["name"])
    .index("by_wins", ["wins"]),
  rooms: defineTable({
    seats: v.number(),
    taken: v.number(),
    state: v.union(v.literal("waiting"), v.literal("playing"), v.literal("over")),
  }).index("by_state", ["state", "seats"]),
  games: defineTable({
    room: v.id("rooms"),
    players: v.array(v.id("players")),
    cells: v.array(v.union(mark, v.null())),
    turn: v.number(),
    winner: v.optional(v.id("players")),
  }).index("by_room", ["room"]),
  clicks: defineTable({ total: v.number() }),
});
