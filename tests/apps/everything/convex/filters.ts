import { v } from "convex/values";
import { query } from "./_generated/server";

/** Builds an expression of the official filter builder out of JSON: ["eq", ["field", "a"], ["value", 1]]. */
function build(q: any, node: any): any {
  if (!Array.isArray(node)) throw new Error("an expression is a list");
  const [op, ...rest] = node;
  if (op === "field") return q.field(rest[0]);
  if (op === "value") return rest[0];
  if (op === "missing") return undefined;
  return q[op](...rest.map((part: any) => build(q, part)));
}

/** Tags of the rows an expression lets through, in index order; or what evaluating it said. */
export const tags = query({
  args: { expression: v.any(), table: v.optional(v.string()) },
  handler: async (ctx, { expression, table }) => {
    try {
      const rows = await (ctx.db as any)
        .query(table ?? "rows")
        .withIndex(table === undefined ? "by_a" : "by_creation_time")
        .filter((q: any) => build(q, expression))
        .collect();
      return rows.map((row: any) => row.tag ?? row.text);
    } catch (error: any) {
      return String(error.message);
    }
  },
});

/** Filter and limit apply in the order they are written. */
export const twoFilters = query({
  args: {},
  handler: async (ctx) =>
    (
      await ctx.db
        .query("points")
        .withIndex("by_x_y_z", (q) => q.eq("x", 1))
        .filter((q) => q.gt(q.field("y"), 0))
        .filter((q) => q.neq(q.field("z"), 1))
        .order("desc")
        .take(3)
    ).map(({ x, y, z }) => `${x}${y}${z}`),
});

export const typed = query({
  args: {},
  handler: async (ctx) =>
    (
      await ctx.db
        .query("points")
        .filter((q) =>
          q.and(
            q.or(q.eq(q.field("x"), 0), q.eq(q.field("x"), 2)),
            q.not(q.eq(q.field("y"), 1)),
            q.eq(q.mod(q.add(q.field("x"), q.field("y"), ), 2), 0),
            q.lt(q.sub(q.mul(q.field("z"), 2), q.div(q.field("x"), 2)), q.neg(-2)),
          ),
        )
        .collect()
    ).map(({ x, y, z }) => `${x}${y}${z}`),
});
