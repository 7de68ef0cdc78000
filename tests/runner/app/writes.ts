// Writes that have no result: they may be settled before they are sent.
import { mutation, query } from "./_generated/server";

const A: any = "j57000820c20a1g7104gm2rc1m70ynr8";

export const plainWrites = mutation(async (ctx, { count }: any) => {
  for (let n = 0; n < count; n++) await ctx.db.patch(A, { n });
  return count;
});

export const together = mutation(async (ctx, { count }: any) => {
  await Promise.all(Array.from({ length: count }, (_, n) => ctx.db.patch(A, { n })));
  return count;
});

export const mixed = mutation(async (ctx) => {
  const before: any = await ctx.db.get(A);
  await ctx.db.patch(A, { n: 1 });
  await ctx.db.replace(A, { n: 2 } as any);
  const middle: any = await ctx.db.get(A);
  await ctx.db.delete(A);
  const id = await ctx.db.insert("t", { n: 3 });
  void ctx.db.patch(A, { n: 4 });
  return [before !== null, middle !== null, id];
});

export const caughtThenLoops = mutation(async (ctx) => {
  try {
    await ctx.db.patch(A, { refused: true } as any);
    for (;;);
  } catch (error: any) {
    return error.message;
  }
});

export const caughtThenFills = mutation(async (ctx) => {
  try {
    await ctx.db.patch(A, { refused: true } as any);
    const kept: any[] = [];
    for (;;) kept.push(new Array(1000).fill(kept.length).map((x) => ({ x })));
  } catch (error: any) {
    return error.message;
  }
});

export const logsAndLooks = mutation(async (ctx) => {
  console.log("before");
  try {
    await ctx.db.patch(A, { refused: true } as any);
    console.log("never", Date.now(), Math.random(), process.env.GIVEN);
    await ctx.db.insert("t", {});
  } catch {
    console.log("after");
  }
  return null;
});

export const refusedThenRaises = mutation(async (ctx) => {
  try {
    await ctx.db.patch(A, { refused: true } as any);
    await ctx.db.patch(A, { raises: true } as any);
  } catch (error: any) {
    return error.message;
  }
});

export const writesAfterDigest = mutation(async (ctx) => {
  await ctx.db.patch(A, { n: 1 });
  await crypto.subtle.digest("SHA-256", new Uint8Array(8));
  await ctx.db.patch(A, { n: 2 });
  const row: any = await ctx.db.get(A);
  return row.body;
});

export const patchesWhatItReads = mutation(async (ctx) => {
  let seen = 0;
  for await (const row of ctx.db.query("t") as any) {
    await ctx.db.patch(row._id, { seen: true } as any);
    if (++seen === 20) break;
  }
  return seen;
});

export const neverSettlesAfterWrite = mutation(async (ctx) => {
  await ctx.db.patch(A, { n: 1 });
  await new Promise(() => {});
});

export const endlessWrites = mutation(async (ctx) => {
  for (let n = 0; ; n++) await ctx.db.patch(A, { n });
});

export const patchesInAQuery = query(async () => {
  const convex = (globalThis as any).Convex;
  try {
    await convex.asyncSyscall("1.0/shallowMerge", JSON.stringify({ id: A, value: { refused: true } }));
    return "settled";
  } catch (error: any) {
    return error.message;
  }
});
