import { ConvexError, v } from "convex/values";
import { mutation, query, QueryCtx } from "./_generated/server";

const find = (ctx: QueryCtx, number: number) =>
  ctx.db.query("accounts").withIndex("by_number", (q) => q.eq("number", number)).unique();

export const open = mutation({
  args: { count: v.number(), balance: v.int64() },
  handler: async (ctx, { count, balance }) => {
    for (let number = 0; number < count; number++) await ctx.db.insert("accounts", { number, balance });
  },
});

export const transfer = mutation({
  args: { from: v.number(), to: v.number(), amount: v.int64() },
  handler: async (ctx, { from, to, amount }) => {
    const [source, target] = await Promise.all([find(ctx, from), find(ctx, to)]);
    if (source === null || target === null) throw new ConvexError("no such account");
    if (source.balance < amount) throw new ConvexError({ code: "TOO_LITTLE", balance: source.balance });
    await ctx.db.patch(source._id, { balance: source.balance - amount });
    // Read again: the two may be one.
    const now = (await ctx.db.get(target._id))!;
    await ctx.db.patch(target._id, { balance: now.balance + amount });
    await ctx.db.insert("transfers", { from, to, amount });
  },
});

/** Close the poorest account and give what is on it to the richest: reads the ends of an index. */
export const merge = mutation({
  args: {},
  handler: async (ctx) => {
    const poorest = await ctx.db.query("accounts").withIndex("by_balance").first();
    const richest = await ctx.db.query("accounts").withIndex("by_balance").order("desc").first();
    if (poorest === null || richest === null || poorest._id === richest._id) return null;
    await ctx.db.patch(richest._id, { balance: richest.balance + poorest.balance });
    await ctx.db.replace(poorest._id, { number: poorest.number, balance: 0n });
    return poorest.number;
  },
});

export const account = query({ args: { number: v.number() }, handler: async (ctx, { number }) => (await find(ctx, number))?.balance ?? null });

export const total = query({
  args: {},
  handler: async (ctx) => (await ctx.db.query("accounts").collect()).reduce((sum, { balance }) => sum + balance, 0n),
});

export const ranking = query({
  args: {},
  handler: async (ctx) => (await ctx.db.query("accounts").withIndex("by_balance").order("desc").collect()).map(({ number, balance }) => ({ number, balance })),
});

export const moved = query({
  args: {},
  handler: async (ctx) => {
    const net: Record<string, bigint> = {};
    for await (const { from, to, amount } of ctx.db.query("transfers")) {
      net[`${from}`] = (net[`${from}`] ?? 0n) - amount;
      net[`${to}`] = (net[`${to}`] ?? 0n) + amount;
    }
    return net;
  },
});
