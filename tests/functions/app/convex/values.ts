import { mutationGeneric as mutation, queryGeneric as query } from "convex/server";
import { v } from "convex/values";

// One query for each kind of validator: it takes a value of that kind and gives it back.
const echo = (validator: any) =>
  query({ args: { value: validator }, handler: async (_ctx, { value }) => value });

export const echoNull = echo(v.null());
export const echoNumber = echo(v.number());
export const echoInt64 = echo(v.int64());
export const echoBoolean = echo(v.boolean());
export const echoString = echo(v.string());
export const echoBytes = echo(v.bytes());
export const echoAny = echo(v.any());
export const echoId = echo(v.id("accounts"));
export const echoLiteral = echo(v.literal("yes"));
export const echoArray = echo(v.array(v.number()));
export const echoObject = echo(v.object({ a: v.number(), b: v.optional(v.string()) }));
export const echoRecord = echo(v.record(v.string(), v.number()));
export const echoUnion = echo(v.union(v.string(), v.number()));
export const echoNested = echo(v.object({ list: v.array(v.object({ n: v.number() })) }));

export const unchecked = query(async (_ctx, args: any) => args ?? null);
export const returnsString = query({ args: {}, returns: v.string(), handler: async () => 5 as any });
export const returnsObject = query({
  args: { extra: v.boolean() },
  returns: v.object({ a: v.number() }),
  handler: async (_ctx, { extra }) => (extra ? { a: 1, b: 2 } : { a: 1 }) as any,
});
export const returnsNothing = query({ args: {}, handler: async () => {} });
export const mutationReturnsWrong = mutation({
  args: {},
  returns: v.null(),
  handler: async (ctx) => (await ctx.db.insert("anything", { from: "mutationReturnsWrong" })) as any,
});
export const large = query({
  args: { mib: v.number() },
  handler: async (_ctx, { mib }) => Array.from({ length: mib }, () => "x".repeat(1 << 20)),
});
