import { vOnCompleteArgs, vWorkId, Workpool } from "@convex-dev/workpool";
import { v } from "convex/values";
import { components, internal } from "./_generated/api";
import { internalAction, internalMutation, mutation, query } from "./_generated/server";

const emails = new Workpool(components.emails, {
  maxParallelism: 5,
  retryActionsByDefault: true,
  defaultRetryBehavior: { maxAttempts: 4, initialBackoffMs: 50, base: 2 },
});
const oneByOne = new Workpool(components.oneByOne, { maxParallelism: 1 });

/** Fails as often as it is told to, then succeeds. */
export const deliver = internalAction({
  args: { to: v.string(), failures: v.number() },
  handler: async (ctx, { to, failures }): Promise<string> => {
    const before: number = await ctx.runMutation(internal.notes.tryOnce, { what: to });
    if (before < failures) throw new Error(`the mail server is away (${before + 1})`);
    return `sent to ${to}`;
  },
});

export const send = mutation({
  args: { to: v.string(), failures: v.number(), retry: v.optional(v.boolean()) },
  handler: async (ctx, { to, failures, retry }): Promise<string> =>
    await emails.enqueueAction(
      ctx,
      internal.pools.deliver,
      { to, failures },
      { retry, onComplete: internal.pools.completed, context: { what: to } },
    ),
});

export const completed = internalMutation({
  args: vOnCompleteArgs(v.object({ what: v.string() })),
  handler: async (ctx, { context, result }) => {
    await ctx.db.insert("done", { what: context.what, result });
  },
});

export const status = query({ args: { id: vWorkId }, handler: async (ctx, { id }) => await emails.status(ctx, id) });

export const cancel = mutation({ args: { id: vWorkId }, handler: async (ctx, { id }) => await emails.cancel(ctx, id) });

// ---- one at a time

export const slowly = internalAction({
  args: { what: v.string() },
  handler: async (ctx, { what }) => {
    const beside: number = await ctx.runMutation(internal.pools.enter, {});
    await new Promise((resolve) => setTimeout(resolve, 30));
    await ctx.runMutation(internal.pools.leave, {});
    await ctx.runMutation(internal.notes.done, { what, result: beside });
  },
});

export const enter = internalMutation({
  args: {},
  handler: async (ctx) => {
    const others = (await ctx.db.query("running").collect()).length;
    await ctx.db.insert("running", { n: others });
    return others;
  },
});

export const leave = internalMutation({
  args: {},
  handler: async (ctx) => {
    const one = await ctx.db.query("running").first();
    if (one !== null) await ctx.db.delete("running", one._id);
  },
});

export const enqueueSlow = mutation({
  args: { what: v.string(), count: v.number() },
  handler: async (ctx, { what, count }) => {
    const each = Array.from({ length: count }, () => ({ what }));
    await oneByOne.enqueueActionBatch(ctx, internal.pools.slowly, each);
  },
});
