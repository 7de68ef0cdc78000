// Streamed queries: how far each reads.
import { query } from "./_generated/server";

const all = (ctx: any) => ctx.db.query("t");

export const first = query(async (ctx) => (await all(ctx).first())?.n ?? null);
export const take = query(async (ctx, { n }: any) => (await all(ctx).take(n)).length);
export const collect = query(async (ctx) => (await all(ctx).collect()).length);
export const limitInValue = query(
  async (ctx) => (await all(ctx).filter((q: any) => q.eq(q.field("a"), { limit: 2 })).collect()).length,
);
export const unique = query(async (ctx) => await all(ctx).unique());

export const firstFew = query(async (ctx, { n }: any) => {
  let seen = 0;
  for await (const _ of all(ctx)) if (++seen >= n) break;
  return seen;
});

export const abandoned = query(async (ctx, { n }: any) => {
  const iterator = all(ctx)[Symbol.asyncIterator]();
  for (let i = 0; i < n; i++) await iterator.next();
  return n;
});

export const sideBySide = query(async (ctx) => {
  const lists = await Promise.all([all(ctx).take(3), all(ctx).collect(), all(ctx).take(20)]);
  return lists.map((list) => list.map((each: any) => each.n).join().length);
});

export const interleaved = query(async (ctx) => {
  const seen: number[] = [];
  for await (const document of all(ctx)) {
    seen.push(document.n);
    await ctx.db.get(document._id);
    if (seen.length === 20) break;
  }
  return seen;
});
