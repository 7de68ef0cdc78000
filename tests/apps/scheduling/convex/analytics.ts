import { v } from "convex/values";
import { internalMutation, mutation, query } from "./_generated/server";

const DAY_MS = 24 * 60 * 60 * 1000;

export const record = mutation({
  args: { kind: v.string(), at: v.optional(v.number()) },
  handler: async (ctx, { kind, at }) => {
    await ctx.db.insert("events", { kind, at: at ?? Date.now() });
  },
});

/** Count yesterday's events by kind. Running it twice gives the same rows, so it may be run by hand, too. */
export const summarizeYesterday = internalMutation({
  args: {},
  handler: async (ctx) => {
    const end = Math.floor(Date.now() / DAY_MS) * DAY_MS;
    const day = new Date(end - DAY_MS).toISOString().slice(0, 10);
    const counts = new Map<string, number>();
    const events = ctx.db.query("events").withIndex("by_time", (q) => q.gte("at", end - DAY_MS).lt("at", end));
    for await (const event of events) counts.set(event.kind, (counts.get(event.kind) ?? 0) + 1);
    for (const [kind, count] of counts) {
      const row = await ctx.db
        .query("days")
        .withIndex("by_day", (q) => q.eq("day", day).eq("kind", kind))
        .unique();
      if (row === null) await ctx.db.insert("days", { day, kind, count });
      else await ctx.db.patch(row._id, { count });
    }
  },
});

export const days = query({
  args: {},
  handler: async (ctx) =>
    (await ctx.db.query("days").withIndex("by_day").collect()).map(({ day, kind, count }) => ({ day, kind, count })),
});
