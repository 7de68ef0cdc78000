import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

/** One field of every kind of validator there is. */
export const everyKind = {
  nothing: v.null(),
  float: v.number(),
  whole: v.int64(),
  flag: v.boolean(),
  text: v.string(),
  data: v.bytes(),
  list: v.array(v.union(v.string(), v.number())),
  inner: v.object({ x: v.number(), y: v.optional(v.string()), deep: v.object({ longs: v.array(v.int64()) }) }),
  map: v.record(v.string(), v.number()),
  byRow: v.record(v.id("rows"), v.boolean()),
  either: v.union(v.literal("on"), v.literal(1), v.literal(2n), v.literal(true), v.null()),
  exactly: v.literal("exact"),
  row: v.id("rows"),
  anything: v.any(),
  maybe: v.optional(v.string()),
};

export default defineSchema(
  {
    kinds: defineTable(everyKind).index("by_inner", ["inner.x", "inner.deep.longs"]),

    // Values of every type meet in one field, and some rows lack it.
    rows: defineTable({ tag: v.string(), a: v.optional(v.any()), b: v.optional(v.any()) })
      .index("by_a", ["a"])
      .index("by_a_b", ["a", "b"])
      .index("by_tag", ["tag"]),

    points: defineTable({ x: v.number(), y: v.number(), z: v.number(), label: v.optional(v.string()) })
      .index("by_x_y_z", ["x", "y", "z"])
      .index("by_label", ["label"]),

    // A union of objects.
    shapes: defineTable(
      v.union(
        v.object({ kind: v.literal("circle"), radius: v.number() }),
        v.object({ kind: v.literal("box"), width: v.number(), height: v.number() }),
      ),
    ).index("by_kind", ["kind"]),

    notes: defineTable({
      text: v.string(),
      group: v.optional(v.string()),
      size: v.optional(v.number()),
      nested: v.optional(v.object({ a: v.optional(v.number()), b: v.optional(v.number()) })),
    }).index("by_group", ["group"]),

    authors: defineTable({ name: v.string() }).index("name", ["name"]),
    books: defineTable({ title: v.string(), authorId: v.id("authors"), year: v.number() })
      .index("authorId", ["authorId"])
      .index("by_year", ["year"]),
    tags: defineTable({ name: v.string() }),
    bookTags: defineTable({ bookId: v.id("books"), tagId: v.id("tags") })
      .index("bookId", ["bookId"])
      .index("tagId", ["tagId"]),
    tallies: defineTable({ name: v.string(), total: v.number() }).index("by_name", ["name"]),
  },
  { strictTableNameTypes: false },
);
