import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  users: defineTable({ name: v.string(), color: v.string() }).index("by_name", ["name"]),
  lists: defineTable({ title: v.string(), owner: v.id("users"), sharedWith: v.array(v.id("users")) }).index("by_owner", ["owner"]),
  todos: defineTable({
    list: v.id("lists"),
    text: v.string(),
    done: v.boolean(),
    due: v.optional(v.number()),
    by: v.id("users"),
  })
    .index("by_list", ["list"])
    .index("by_list_and_done", ["list", "done"]),
});
