import { MutationCtx } from "./_generated/server";

/** The next number of a sequence: 64-bit, strictly increasing. */
export async function next(ctx: MutationCtx, name: string): Promise<bigint> {
  const counter = await ctx.db.query("counters").withIndex("by_name", (q) => q.eq("name", name)).unique();
  if (counter === null) {
    await ctx.db.insert("counters", { name, value: 1n });
    return 1n;
  }
  await ctx.db.patch(counter._id, { value: counter.value + 1n });
  return counter.value + 1n;
}
