import { mutationGeneric as mutation, queryGeneric as query } from "convex/server";
import { ConvexError } from "convex/values";

const open = (ctx: any, balance = 1) => ctx.db.insert("accounts", { name: "a", balance });
const all = async (ctx: any) => (await ctx.db.query("accounts").collect()).map((row: any) => [row.name, row.balance]);

export const rows = query({ args: {}, handler: all });
export const make = mutation({ args: {}, handler: (ctx) => open(ctx) });

export const patchDeleted = mutation(async (ctx, { id }: any) => {
  console.log("start");
  await ctx.db.delete(id);
  try {
    await ctx.db.patch(id, { balance: 2 });
    console.log("not reached");
    return "patched";
  } catch (error: any) {
    console.log("caught");
    return error.message.replace(id, "ID");
  }
});

export const badReplace = mutation(async (ctx, { id }: any) => {
  try {
    await ctx.db.replace(id, { name: "a", balance: "much" } as any);
    return "replaced";
  } catch (error: any) {
    await ctx.db.patch(id, { balance: 7 });
    return error.message.replace(id, "ID");
  }
});

export const readsItsWrites = mutation(async (ctx, { id }: any) => {
  await ctx.db.patch(id, { balance: 5 });
  const once: any = await ctx.db.get(id);
  await ctx.db.replace(id, { name: "b", balance: once.balance + 1 });
  const seen = await all(ctx);
  await ctx.db.delete(id);
  return [seen, await ctx.db.get(id)];
});

export const thousand = mutation(async (ctx, { id }: any) => {
  for (let n = 1; n <= 1000; n++) await ctx.db.patch(id, { balance: n });
  return ((await ctx.db.get(id)) as any).balance;
});

export const unawaitedBad = mutation(async (ctx, { id }: any) => {
  await ctx.db.patch(id, { balance: 3 });
  void ctx.db.patch(id, { balance: "bad" } as any);
  return "done";
});

export const throwsAfterGood = mutation(async (ctx, { id }: any) => {
  await ctx.db.patch(id, { balance: 4 });
  throw new ConvexError({ after: "good" });
});

export const throwsAfterBad = mutation(async (ctx, { id }: any) => {
  await ctx.db.patch(id, { balance: "bad" } as any);
  throw new ConvexError({ after: "bad" });
});

export const tooManyWrites = mutation(async (ctx, { id, caught }: any) => {
  let n = 0;
  try {
    for (; n < 30; n++) await ctx.db.patch(id, { balance: n + 10 });
  } catch (error: any) {
    if (!caught) throw error;
    return [n, error.message];
  }
});

export const metrics = mutation(async (ctx, { id }: any) => {
  await ctx.db.patch(id, { balance: 8 });
  await ctx.db.patch(id, { balance: 9 });
  return JSON.parse(await (globalThis as any).Convex.asyncSyscall("1.0/getTransactionMetrics", "{}"));
});

export const nestedThenBad = mutation(async (ctx, { id }: any) => {
  const first = await ctx.runMutation("early:patchDeleted" as any, { id: await open(ctx) });
  try {
    await ctx.db.patch(id, { balance: "bad" } as any);
  } catch (error: any) {
    return [first, error.message.split(":")[0]];
  }
});

export const asItWillBe = mutation(async (ctx, { id }: any) => {
  const second = await open(ctx, 100);
  for await (const row of ctx.db.query("accounts") as any) await ctx.db.patch(row._id, { balance: row.balance * 2 });
  await ctx.db.delete(second);
  return await all(ctx);
});
