// Actions that are scheduled and that schedule.
import { v } from "convex/values";
import { internal } from "./_generated/api";
import { action, internalAction } from "./_generated/server";

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Each thing that an action schedules is there at once, whatever becomes of the action. */
export const remind = action({
  args: { what: v.string(), delay: v.number(), fail: v.optional(v.boolean()) },
  handler: async (ctx, { what, delay, fail }) => {
    const job = await ctx.scheduler.runAfter(delay, internal.jobs.beat, { what });
    if (fail) throw new Error("after that");
    return job;
  },
});

/** Writes what it sees, waits, schedules something, writes again. */
export const slow = internalAction({
  args: { what: v.string(), ms: v.number() },
  handler: async (ctx, { what, ms }) => {
    const identity = await ctx.auth.getUserIdentity();
    await ctx.runMutation(internal.jobs.beat, { what: `${what} began, ${identity}` });
    await sleep(ms);
    const direct = await ctx.scheduler.runAfter(0, internal.jobs.beat, { what: `${what} direct child` });
    const nested = await ctx.runMutation(internal.jobs.schedules, { what: `${what} nested child` });
    await ctx.runMutation(internal.jobs.beat, { what: `${what} ended` });
    return [direct, nested];
  },
});

export const explode = internalAction({
  args: { what: v.string() },
  handler: async (ctx, { what }) => {
    await ctx.runMutation(internal.jobs.beat, { what });
    throw new Error(`${what} exploded`);
  },
});

export const cancel = action({ args: { id: v.any() }, handler: async (ctx, { id }) => await ctx.scheduler.cancel(id) });

export const badly = action({
  args: { how: v.string() },
  handler: async (ctx, { how }) => {
    const one = internal.jobs.beat;
    try {
      if (how === "far") await ctx.scheduler.runAfter(6 * 365 * 86_400_000, one, { what: "x" });
      if (how === "missing") await ctx.scheduler.runAfter(0, internal.jobs["nothing" as "beat"], { what: "x" });
      if (how === "cancel") await ctx.scheduler.cancel("nonsense" as any);
    } catch (error: any) {
      return error.message;
    }
    return null;
  },
});

export const tick = internalAction({
  args: {},
  handler: async (ctx) => {
    await ctx.runMutation(internal.jobs.beat, { what: "action heartbeat" });
  },
});
