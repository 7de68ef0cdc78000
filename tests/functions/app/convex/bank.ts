import { mutationGeneric as mutation, queryGeneric as query } from "convex/server";
import { v } from "convex/values";

async function byName(ctx: any, name: string) {
  return await ctx.db
    .query("accounts")
    .withIndex("by_name", (q: any) => q.eq("name", name))
    .unique();
}

export const open = mutation({
  args: { name: v.string(), balance: v.number() },
  returns: v.id("accounts"),
  handler: async (ctx, args) => await ctx.db.insert("accounts", args),
});

export const get = query({
  args: { id: v.id("accounts") },
  handler: async (ctx, { id }) => await ctx.db.get(id),
});

export const balance = query({
  args: { name: v.string() },
  handler: async (ctx, { name }) => (await byName(ctx, name))?.balance ?? null,
});

export const transfer = mutation({
  args: { from: v.string(), to: v.string(), amount: v.number() },
  handler: async (ctx, { from, to, amount }) => {
    const [source, target] = [await byName(ctx, from), await byName(ctx, to)];
    if (source === null || target === null) throw new Error("no such account");
    if (source.balance < amount) throw new Error("insufficient funds");
    await ctx.db.patch(source._id, { balance: source.balance - amount });
    await ctx.db.patch(target._id, { balance: target.balance + amount });
    return source.balance - amount;
  },
});

export const increment = mutation({
  args: { name: v.string() },
  handler: async (ctx, { name }) => {
    const counter = await ctx.db
      .query("counters")
      .withIndex("by_name", (q: any) => q.eq("name", name))
      .unique();
    if (counter === null) {
      await ctx.db.insert("counters", { name, value: 1 });
      return 1;
    }
    await ctx.db.patch(counter._id, { value: counter.value + 1 });
    return counter.value + 1;
  },
});
