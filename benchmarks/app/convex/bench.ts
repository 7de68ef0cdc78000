import { internal } from "./_generated/api";
import { action, internalMutation, mutation, query } from "./_generated/server";
import { v } from "convex/values";

export const seedAccounts = mutation({
  args: { from: v.number(), to: v.number() },
  handler: async (ctx, { from, to }) => {
    for (let n = from; n < to; n++) await ctx.db.insert("accounts", { n, balance: 1000 });
  },
});

export const seedItems = mutation({
  args: { group: v.number(), count: v.number() },
  handler: async (ctx, { group, count }) => {
    for (let i = 0; i < count; i++)
      await ctx.db.insert("items", { group, value: i, text: "a row of a benchmark, some eighty bytes long, as rows tend to be" });
  },
});

/** One read by index: the smallest useful query. `salt` makes each call a different cache key. */
export const one = query({
  args: { n: v.number(), salt: v.optional(v.number()) },
  handler: async (ctx, { n }) => ctx.db.query("accounts").withIndex("by_n", (q) => q.eq("n", n)).unique(),
});

export const list = query({
  args: { group: v.number(), salt: v.optional(v.number()) },
  handler: async (ctx, { group }) => ctx.db.query("items").withIndex("by_group", (q) => q.eq("group", group)).collect(),
});

/** Reads 2 rows by index, checks, writes both. */
export const transfer = mutation({
  args: { from: v.number(), to: v.number(), amount: v.number() },
  handler: async (ctx, { from, to, amount }) => {
    const a = await ctx.db.query("accounts").withIndex("by_n", (q) => q.eq("n", from)).unique();
    const b = await ctx.db.query("accounts").withIndex("by_n", (q) => q.eq("n", to)).unique();
    if (a === null || b === null) throw new Error("no such account");
    if (from === to) return;
    await ctx.db.patch(a._id, { balance: a.balance - amount });
    await ctx.db.patch(b._id, { balance: b.balance + amount });
  },
});

export const bump = mutation({
  args: { group: v.number() },
  handler: async (ctx, { group }) => {
    const row = await ctx.db.query("items").withIndex("by_group", (q) => q.eq("group", group)).first();
    if (row === null) await ctx.db.insert("items", { group, value: 1, text: "" });
    else await ctx.db.patch(row._id, { value: row.value + 1 });
  },
});

/** Rewrites every row of a group, to give each a long history. */
export const rewrite = mutation({
  args: { group: v.number() },
  handler: async (ctx, { group }) => {
    for (const row of await ctx.db.query("items").withIndex("by_group", (q) => q.eq("group", group)).collect())
      await ctx.db.patch(row._id, { value: row.value + 1 });
  },
});

export const job = internalMutation({
  args: { n: v.number() },
  handler: async (ctx, { n }) => {
    const row = await ctx.db.query("accounts").withIndex("by_n", (q) => q.eq("n", n)).unique();
    if (row === null) throw new Error("no such account");
    await ctx.db.patch(row._id, { balance: row.balance + 1 });
  },
});

/** Jobs that are all due at the same time, each for another account. */
export const schedule = mutation({
  args: { from: v.number(), count: v.number(), at: v.number() },
  handler: async (ctx, { from, count, at }) => {
    for (let n = from; n < from + count; n++) await ctx.scheduler.runAt(at, internal.bench.job, { n });
  },
});

/** The smallest action, and the smallest mutation. */
export const act = action({ args: { n: v.number() }, handler: async (_ctx, { n }) => n });
export const write = mutation({ args: { n: v.number() }, handler: async (ctx, { n }) => void (await ctx.db.insert("items", { group: -1, value: n, text: "" })) });

/** An action that calls one mutation. */
export const actAndWrite = action({
  args: { n: v.number() },
  handler: async (ctx, { n }) => void (await ctx.runMutation(internal.bench.writeInside, { n })),
});
export const writeInside = internalMutation({ args: { n: v.number() }, handler: async (ctx, { n }) => void (await ctx.db.insert("items", { group: -1, value: n, text: "" })) });

export const sleep = action({ args: { ms: v.number() }, handler: async (_ctx, { ms }) => void (await new Promise((resolve) => setTimeout(resolve, ms))) });
