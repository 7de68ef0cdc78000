import { v } from "convex/values";
import { mutation, query } from "./_generated/server";

/** `value` left out means that the row lacks the field. */
export const seed = mutation({
  args: { rows: v.array(v.object({ tag: v.string(), a: v.optional(v.any()), b: v.optional(v.any()) })) },
  handler: async (ctx, { rows }) => {
    const ids = [];
    for (const row of rows) ids.push(await ctx.db.insert("rows", row));
    return ids;
  },
});

export const clear = mutation({
  args: {},
  handler: async (ctx) => {
    for (const row of await ctx.db.query("rows").collect()) await ctx.db.delete(row._id);
  },
});

const step = v.object({
  op: v.union(v.literal("eq"), v.literal("lt"), v.literal("lte"), v.literal("gt"), v.literal("gte")),
  field: v.string(),
  value: v.optional(v.any()),
});

/** Tags of the rows in a range; a step without a value compares with `undefined`. */
export const tags = query({
  args: {
    index: v.string(),
    steps: v.array(step),
    order: v.optional(v.union(v.literal("asc"), v.literal("desc"))),
    limit: v.optional(v.number()),
  },
  handler: async (ctx, { index, steps, order, limit }) => {
    const range = (ctx.db as any)
      .query("rows")
      .withIndex(index, (q: any) => steps.reduce((so_far, { op, field, value }) => so_far[op](field, value), q));
    const ordered = order === undefined ? range : range.order(order);
    const rows = limit === undefined ? await ordered.collect() : await ordered.take(limit);
    return rows.map((row: any) => row.tag);
  },
});

export const seedPoints = mutation({
  args: {},
  handler: async (ctx) => {
    for (const point of await ctx.db.query("points").collect()) await ctx.db.delete(point._id);
    for (let x = 0; x < 3; x++) for (let y = 0; y < 3; y++) for (let z = 0; z < 3; z++) await ctx.db.insert("points", { x, y, z });
  },
});

const short = (points: { x: number; y: number; z: number }[]) => points.map(({ x, y, z }) => `${x}${y}${z}`);

export const pointsEqEq = query({
  args: {},
  handler: async (ctx) =>
    short(await ctx.db.query("points").withIndex("by_x_y_z", (q) => q.eq("x", 1).eq("y", 2)).collect()),
});

export const pointsEqRange = query({
  args: {},
  handler: async (ctx) =>
    short(await ctx.db.query("points").withIndex("by_x_y_z", (q) => q.eq("x", 1).gt("y", 0).lte("y", 2)).collect()),
});

export const pointsFull = query({
  args: {},
  handler: async (ctx) =>
    short(
      await ctx.db.query("points").withIndex("by_x_y_z", (q) => q.eq("x", 2).eq("y", 0).gte("z", 1)).order("desc").collect(),
    ),
});

export const pointsWholeIndex = query({
  args: {},
  handler: async (ctx) => short(await ctx.db.query("points").withIndex("by_x_y_z").order("desc").take(2)),
});

/** `_creationTime` can be named after the fields of an index. */
export const pointsCreatedAfter = query({
  args: { x: v.number(), y: v.number(), z: v.number(), after: v.number() },
  handler: async (ctx, { x, y, z, after }) =>
    short(
      await ctx.db
        .query("points")
        .withIndex("by_x_y_z", (q) => q.eq("x", x).eq("y", y).eq("z", z).gt("_creationTime", after))
        .collect(),
    ),
});

export const pointsMissingLabel = query({
  args: {},
  handler: async (ctx) =>
    (await ctx.db.query("points").withIndex("by_label", (q) => q.eq("label", undefined)).collect()).length,
});

export const byCreationTime = query({
  args: { after: v.number(), until: v.number() },
  handler: async (ctx, { after, until }) =>
    (
      await ctx.db
        .query("rows")
        .withIndex("by_creation_time", (q) => q.gt("_creationTime", after).lte("_creationTime", until))
        .collect()
    ).map((row) => row.tag),
});

export const byId = query({
  args: { from: v.id("rows"), order: v.union(v.literal("asc"), v.literal("desc")) },
  handler: async (ctx, { from, order }) => ({
    exact: (await ctx.db.query("rows").withIndex("by_id", (q) => q.eq("_id", from)).unique())?._id,
    from: (await ctx.db.query("rows").withIndex("by_id", (q) => q.gte("_id", from)).order(order).collect()).map((r) => r._id),
    below: (await ctx.db.query("rows").withIndex("by_id", (q) => q.lt("_id", from)).collect()).map((r) => r._id),
  }),
});

export const times = query({
  args: {},
  handler: async (ctx) => (await ctx.db.query("rows").collect()).map((row) => [row.tag, row._creationTime, row._id] as const),
});

/** What the named mistake says, caught where user code would catch it. */
export const mistake = query({
  args: { which: v.string() },
  handler: async (ctx, { which }) => {
    const db = ctx.db as any;
    const mistakes: Record<string, () => Promise<unknown>> = {
      unknownIndex: () => db.query("points").withIndex("by_nothing").collect(),
      fieldNotInIndex: () => db.query("points").withIndex("by_x_y_z", (q: any) => q.eq("label", "a")).collect(),
      gapInPrefix: () => db.query("points").withIndex("by_x_y_z", (q: any) => q.eq("x", 1).eq("z", 1)).collect(),
      boundsOnTwoFields: () => db.query("points").withIndex("by_x_y_z", (q: any) => q.gt("x", 1).lt("y", 1)).collect(),
      twoLowerBounds: () => db.query("points").withIndex("by_x_y_z", (q: any) => q.gt("x", 1).gte("x", 1)).collect(),
      eqAfterBound: () => db.query("points").withIndex("by_x_y_z", (q: any) => q.gt("x", 1).eq("y", 1)).collect(),
      eqTwice: () => db.query("points").withIndex("by_x_y_z", (q: any) => q.eq("x", 1).eq("x", 1)).collect(),
      orderTwice: () => db.query("points").order("asc").order("desc").collect(),
      takeMinus: () => db.query("points").take(-1),
      badId: () => db.get("not an id"),
      wrongTable: () => db.get("points", args_row),
      noArgument: () => db.get(),
    };
    const first = await ctx.db.query("rows").first();
    const args_row = first === null ? "" : first._id;
    try {
      await mistakes[which]();
    } catch (error: any) {
      return String(error.message);
    }
    return "no error";
  },
});
