// Each limit of one execution, reached with the real numbers.

import { mutationGeneric as mutation, queryGeneric as query } from "convex/server";
import { v } from "convex/values";

const MIB = 1 << 20;

export const fill = mutation({
  args: { from: v.number(), count: v.number(), size: v.number() },
  handler: async (ctx, { from, count, size }) => {
    const pad = "x".repeat(size);
    for (let n = from; n < from + count; n++) await ctx.db.insert("rows", size > 0 ? { n, pad } : { n });
    return count;
  },
});

/** Writes until it is refused, and says at which write that was. */
export const fillUntilRefused = mutation({
  args: { size: v.number() },
  handler: async (ctx, { size }) => {
    const pad = "x".repeat(size);
    for (let n = 0; ; n++) {
      try {
        await ctx.db.insert("anything", { n, pad });
      } catch (error: any) {
        return { n, message: error.message };
      }
    }
  },
});

export const rewrite = mutation({
  args: { times: v.number() },
  handler: async (ctx, { times }) => {
    const id = await ctx.db.insert("anything", { n: -1 });
    for (let n = 0; n < times; n++) await ctx.db.patch(id, { n });
  },
});

export const collect = query({ args: {}, handler: async (ctx) => (await ctx.db.query("rows").collect()).length });
export const filtered = query({
  args: {},
  handler: async (ctx) => (await ctx.db.query("rows").filter((q) => q.eq(q.field("n"), -1)).collect()).length,
});
export const collectAnything = query({
  args: {},
  handler: async (ctx) => (await ctx.db.query("anything").collect()).length,
});
export const points = query({
  args: { count: v.number() },
  handler: async (ctx, { count }) => {
    for (let n = 0; n < count; n++) await ctx.db.query("rows").withIndex("by_n", (q) => q.eq("n", -1 - n)).first();
    return count;
  },
});
export const page = query({
  args: { numItems: v.number() },
  handler: async (ctx, { numItems }) => {
    const page = await ctx.db.query("rows").paginate({ cursor: null, numItems });
    return { length: page.page.length, isDone: page.isDone };
  },
});

export const take = query({ args: { value: v.any() }, handler: async (_ctx, { value }) => JSON.stringify(value).length });
export const give = query({ args: { bytes: v.number() }, handler: async (_ctx, { bytes }) => "x".repeat(bytes) });

function nested(depth: number): any {
  return depth === 0 ? 1 : { a: nested(depth - 1) };
}
const fields = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, n) => [`f${n}`, n]));
const values: Record<string, () => any> = {
  document: () => ({ a: "x".repeat(MIB - 100) }),
  documentOver: () => ({ a: "x".repeat(MIB) }),
  array: () => ({ a: Array(8192).fill(1) }),
  arrayOver: () => ({ a: Array(8193).fill(1) }),
  fields: () => ({ a: fields(1024) }),
  fieldsOver: () => ({ a: fields(1025) }),
  nesting: () => nested(15),
  nestingOver: () => nested(17),
  fieldName: () => ({ ["x".repeat(1024)]: 1 }),
  fieldNameOver: () => ({ ["x".repeat(1025)]: 1 }),
  fieldNameControl: () => ({ "a\n": 1 }),
  fieldNameNotAscii: () => ({ é: 1 }),
  fieldNameDollar: () => ({ $a: 1 }),
  fieldNameUnderscore: () => ({ _a: 1 }),
};
export const write = mutation({
  args: { what: v.string() },
  handler: async (ctx, { what }) => {
    try {
      await ctx.db.insert("anything", values[what]());
      return "written";
    } catch (error: any) {
      return error.message as string;
    }
  },
});
export const giveNested = query({ args: { depth: v.number() }, handler: async (_ctx, { depth }) => nested(depth) });
export const giveArray = query({ args: { length: v.number() }, handler: async (_ctx, { length }) => Array(length).fill(1) });

export const logMany = query({
  args: { count: v.number() },
  handler: async (_ctx, { count }) => {
    for (let n = 0; n < count; n++) console.log(`line ${n}`);
    return null;
  },
});
export const logLong = query({ args: { length: v.number() }, handler: async (_ctx, { length }) => { console.log("x".repeat(length)); return null; } });
export const manyOperators = query({
  args: { count: v.number() },
  handler: async (ctx, { count }) => {
    let found: any = ctx.db.query("rows");
    for (let n = 0; n < count; n++) found = found.filter((q: any) => q.eq(q.field("n"), 0));
    return await found.first();
  },
});
