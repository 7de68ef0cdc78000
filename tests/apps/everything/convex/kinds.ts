import type { Validator } from "convex/values";
import { v } from "convex/values";
import { mutation, query } from "./_generated/server";
import { everyKind } from "./schema";

export const store = mutation({
  args: everyKind,
  returns: v.id("kinds"),
  handler: async (ctx, args) => await ctx.db.insert("kinds", args),
});

export const load = query({
  args: { id: v.id("kinds") },
  returns: v.union(v.null(), v.object({ _id: v.id("kinds"), _creationTime: v.number(), ...everyKind })),
  handler: async (ctx, { id }) => await ctx.db.get(id),
});

export const loadTwoArguments = query({
  args: { id: v.id("kinds") },
  handler: async (ctx, { id }) => await ctx.db.get("kinds", id),
});

export const byInner = query({
  args: { x: v.number() },
  handler: async (ctx, { x }) => await ctx.db.query("kinds").withIndex("by_inner", (q) => q.eq("inner.x", x)).collect(),
});

export const echo = query({ args: { value: v.any() }, returns: v.any(), handler: async (_ctx, { value }) => value });
export const echoFromMutation = mutation({ args: { value: v.any() }, handler: async (_ctx, { value }) => value });

/** Takes a value of one kind and returns it, so that both validators are used. */
function accepts<V extends Validator<any, "required", any>>(value: V) {
  return query({ args: { value }, returns: value, handler: async (_ctx, args: any) => args.value });
}

export const acceptsNull = accepts(v.null());
export const acceptsNumber = accepts(v.number());
export const acceptsFloat64 = accepts(v.float64());
export const acceptsInt64 = accepts(v.int64());
export const acceptsBigint = accepts(v.bigint());
export const acceptsBoolean = accepts(v.boolean());
export const acceptsString = accepts(v.string());
export const acceptsBytes = accepts(v.bytes());
export const acceptsId = accepts(v.id("rows"));
export const acceptsArray = accepts(v.array(v.number()));
export const acceptsObject = accepts(v.object({ a: v.number(), b: v.optional(v.string()) }));
export const acceptsRecord = accepts(v.record(v.string(), v.number()));
export const acceptsUnion = accepts(v.union(v.string(), v.number()));
export const acceptsLiteral = accepts(v.literal("yes"));
export const acceptsLiteralNumber = accepts(v.literal(3));
export const acceptsLiteralBigint = accepts(v.literal(3n));
export const acceptsLiteralBoolean = accepts(v.literal(false));
export const acceptsAny = accepts(v.any());
export const acceptsNullable = accepts(v.nullable(v.string()));
export const acceptsNested = accepts(v.object({ list: v.array(v.object({ n: v.number() })) }));

export const optionalArgument = query({
  args: { a: v.optional(v.number()), b: v.number() },
  handler: async (_ctx, args) => Object.keys(args).sort(),
});

export const noArguments = query({ args: {}, handler: async () => "none" });
export const noValidators = query(async (_ctx, args: any) => args);

export const returnsWrongly = query({
  args: { what: v.any() },
  returns: v.object({ n: v.number() }),
  handler: async (_ctx, { what }) => what,
});

export const writesThenReturnsWrongly = mutation({
  args: {},
  returns: v.number(),
  handler: async (ctx) => {
    await ctx.db.insert("notes", { text: "from a mutation with a wrong return value" });
    return "text" as any;
  },
});

export const returnsNothing = query({ args: {}, handler: async () => {} });
export const returnsNothingValidated = query({ args: {}, returns: v.null(), handler: async () => null });
export const returnsFunction = query({ args: {}, handler: async () => (() => 1) as any });
export const returnsDate = query({ args: {}, handler: async () => new Date() as any });
export const returnsUndefinedField = query({ args: {}, handler: async () => ({ a: 1, b: undefined }) });
export const returnsQuery = query({ args: {}, handler: async (ctx) => ctx.db.query("notes") as any });

/** Inserts whatever it is given: only the schema is in the way. */
export const insertUnchecked = mutation({
  args: { table: v.string(), document: v.any() },
  handler: async (ctx, { table, document }) => await (ctx.db as any).insert(table, document),
});

export const patchUnchecked = mutation({
  args: { id: v.string(), fields: v.any() },
  handler: async (ctx, { id, fields }) => await (ctx.db as any).patch(id, fields),
});

export const insertOddValue = mutation({
  args: { which: v.string() },
  handler: async (ctx, { which }) => {
    const odd: Record<string, unknown> = {
      date: new Date(0),
      map: new Map(),
      set: new Set([1]),
      regexp: /x/,
      symbol: Symbol("x"),
      function: () => 1,
      undefinedInArray: [undefined],
      hugeBigint: 2n ** 63n,
      instance: new (class Thing {
        x = 1;
      })(),
      dollarKey: { $key: 1 },
      notAscii: { schlüssel: 1 },
    };
    return await (ctx.db as any).insert("loose", { value: odd[which] });
  },
});
