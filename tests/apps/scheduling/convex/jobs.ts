// What the tests schedule: jobs that succeed, throw, are refused, schedule more, or name their function by a handle.
import { createFunctionHandle, FunctionHandle, makeFunctionReference } from "convex/server";
import { v } from "convex/values";
import { api, internal } from "./_generated/api";
import { internalMutation, mutation, query } from "./_generated/server";

const job = v.id("_scheduled_functions");
const named = (name: string) => makeFunctionReference<"mutation">(name);

export const beat = internalMutation({
  args: { what: v.string(), n: v.optional(v.number()) },
  handler: async (ctx, { what, n }) => {
    await ctx.db.insert("ran", { what, n, at: Date.now() });
  },
});

export const explode = internalMutation({
  args: { what: v.string() },
  handler: async (ctx, { what }) => {
    await ctx.db.insert("ran", { what });
    throw new Error(`${what} exploded`);
  },
});

export const schedules = internalMutation({
  args: { what: v.string() },
  handler: async (ctx, { what }) => await ctx.scheduler.runAfter(0, internal.jobs.beat, { what }),
});

/** How often, and with which numbers, jobs of this name have run. */
export const ran = query({
  args: { what: v.string() },
  handler: async (ctx, { what }) =>
    (await ctx.db.query("ran").withIndex("by_what", (q) => q.eq("what", what)).collect()).map((row) => row.n ?? null),
});

export const times = query({
  args: { what: v.string() },
  handler: async (ctx, { what }) =>
    (await ctx.db.query("ran").withIndex("by_what", (q) => q.eq("what", what)).collect()).map((row) => row.at ?? 0),
});

export const after = mutation({
  args: { delay: v.number(), name: v.string(), args: v.any() },
  handler: async (ctx, { delay, name, args }) => await ctx.scheduler.runAfter(delay, named(name), args),
});

export const at = mutation({
  args: { time: v.number(), name: v.string(), args: v.any() },
  handler: async (ctx, { time, name, args }) => await ctx.scheduler.runAt(time, named(name), args),
});

export const cancel = mutation({ args: { id: v.any() }, handler: async (ctx, { id }) => await ctx.scheduler.cancel(id) });

export const get = query({ args: { id: job }, handler: async (ctx, { id }) => await ctx.db.system.get(id) });

export const list = query({
  args: {},
  handler: async (ctx) => await ctx.db.system.query("_scheduled_functions").order("desc").take(50),
});

/** Whether a job of the last few thousand has still to run. */
export const waiting = query({
  args: {},
  handler: async (ctx) => {
    const open = ctx.db.system
      .query("_scheduled_functions")
      .filter((q) => q.or(q.eq(q.field("state.kind"), "pending"), q.eq(q.field("state.kind"), "inProgress")));
    return (await open.first()) !== null;
  },
});

export const byHiddenIndex = query({
  args: {},
  handler: async (ctx) => await (ctx.db.system.query("_scheduled_functions") as any).withIndex("by_completed").collect(),
});

export const many = mutation({
  args: { what: v.string(), count: v.number(), at: v.optional(v.number()) },
  handler: async (ctx, { what, count, at }) => {
    const time = at ?? Date.now();
    for (let n = 0; n < count; n++) await ctx.scheduler.runAt(time, internal.jobs.beat, { what, n });
    const { functionsScheduled } = (await metrics()) as any;
    return functionsScheduled;
  },
});

async function metrics() {
  return JSON.parse(await (globalThis as any).Convex.asyncSyscall("1.0/getTransactionMetrics", "{}"));
}

export const large = mutation({
  args: { mib: v.number(), count: v.number() },
  handler: async (ctx, { mib, count }) => {
    const what = "x".repeat(mib * 1024 * 1024);
    const ids = [];
    for (let n = 0; n < count; n++) ids.push(await ctx.scheduler.runAfter(60_000, internal.jobs.beat, { what }));
    return ids;
  },
});

/** Schedules, and then throws or not: the job is there exactly when this commits. */
export const scheduleAndThrow = mutation({
  args: { what: v.string() },
  handler: async (ctx, { what }) => {
    await ctx.scheduler.runAfter(0, internal.jobs.beat, { what });
    throw new Error("after all, no");
  },
});

/** Runs one that schedules and throws, catches that, and schedules itself. */
export const catches = mutation({
  args: { what: v.string() },
  handler: async (ctx, { what }) => {
    try {
      await ctx.runMutation(api.jobs.scheduleAndThrow, { what: `${what} inner` });
    } catch {
      await ctx.scheduler.runAfter(0, internal.jobs.beat, { what: `${what} outer` });
    }
  },
});

/** What a job sees of itself and of who runs it. */
export const looksAtItself = internalMutation({
  args: { what: v.string() },
  handler: async (ctx, { what }) => {
    const request = JSON.parse(await (globalThis as any).Convex.asyncSyscall("1.0/getRequestMetadata", "{}"));
    const self = await ctx.db.system.get(request.scheduledFunctionId);
    const identity = await ctx.auth.getUserIdentity();
    await ctx.db.insert("ran", { what: `${what}: ${self?.state.kind}, ${self?.name}, ${identity}` });
  },
});

export const cancelsItself = internalMutation({
  args: { what: v.string() },
  handler: async (ctx, { what }) => {
    const request = JSON.parse(await (globalThis as any).Convex.asyncSyscall("1.0/getRequestMetadata", "{}"));
    await ctx.scheduler.cancel(request.scheduledFunctionId);
    await ctx.db.insert("ran", { what });
  },
});

/** A handle is a text: it can be kept, passed on, scheduled and run. */
export const handle = query({ args: {}, handler: async () => await createFunctionHandle(internal.jobs.beat) });

export const runHandle = mutation({
  args: { handle: v.string(), what: v.string() },
  handler: async (ctx, { handle, what }) => {
    const beat = handle as FunctionHandle<"mutation">;
    await ctx.runMutation(beat, { what: `${what} now` });
    return await ctx.scheduler.runAfter(0, beat, { what: `${what} later` });
  },
});
