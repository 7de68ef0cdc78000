import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export const status = v.union(v.literal("backlog"), v.literal("todo"), v.literal("doing"), v.literal("done"));

export default defineSchema({
  projects: defineTable({ key: v.string(), name: v.string(), lastNumber: v.number() }).index("by_key", ["key"]),
  members: defineTable({ name: v.string(), project: v.id("projects") }).index("by_project", ["project", "name"]),
  issues: defineTable({
    project: v.id("projects"),
    number: v.number(),
    title: v.string(),
    status,
    priority: v.number(),
    assignee: v.optional(v.id("members")),
    labels: v.array(v.string()),
    rank: v.number(),
  })
    .index("by_number", ["project", "number"])
    .index("by_status", ["project", "status", "rank"])
    .index("by_assignee", ["project", "assignee", "status"])
    .index("by_priority", ["project", "priority"]),
  comments: defineTable({ issue: v.id("issues"), author: v.string(), body: v.string(), edited: v.optional(v.number()) }).index(
    "by_issue",
    ["issue"],
  ),
  activity: defineTable({
    project: v.id("projects"),
    issue: v.id("issues"),
    what: v.union(
      v.object({ kind: v.literal("created") }),
      v.object({ kind: v.literal("moved"), from: status, to: status }),
      v.object({ kind: v.literal("assigned"), to: v.union(v.id("members"), v.null()) }),
      v.object({ kind: v.literal("commented"), comment: v.id("comments") }),
    ),
  })
    .index("by_project", ["project"])
    .index("by_issue", ["issue"]),
});
