import { ActionCache } from "@convex-dev/action-cache";
import { Crons } from "@convex-dev/crons";
import { Migrations } from "@convex-dev/migrations";
import { Presence } from "@convex-dev/presence";
import { v } from "convex/values";
import { components, internal } from "./_generated/api";
import type { DataModel } from "./_generated/dataModel";
import { action, internalAction, mutation, query } from "./_generated/server";

// ---- crons made at run time

const crons = new Crons(components.crons);

export const every = mutation({
  args: { name: v.string(), ms: v.number() },
  handler: async (ctx, { name, ms }): Promise<string> =>
    await crons.register(ctx, { kind: "interval", ms }, internal.notes.done, { what: `tick ${name}`, result: null }, name),
});

export const noMore = mutation({ args: { name: v.string() }, handler: async (ctx, { name }) => await crons.delete(ctx, { name }) });
export const listed = query({ args: {}, handler: async (ctx) => (await crons.list(ctx)).map(({ name }) => name) });

// ---- migrations

const migrations = new Migrations<DataModel>(components.migrations, { defaultBatchSize: 10 });

export const greet = migrations.define({
  table: "people",
  migrateOne: (_, person) => ({ greeting: `Hello ${person.name}` }),
});

export const migrate = mutation({
  args: {},
  handler: async (ctx): Promise<void> => {
    await migrations.runOne(ctx, internal.others.greet);
  },
});

export const migrated = query({
  args: {},
  handler: async (ctx): Promise<{ state: string; processed: number }[]> =>
    (await migrations.getStatus(ctx, { migrations: [internal.others.greet] })).map(({ state, processed }) => ({
      state,
      processed,
    })),
});

export const addPeople = mutation({
  args: { count: v.number() },
  handler: async (ctx, { count }) => {
    for (let n = 0; n < count; n++) await ctx.db.insert("people", { name: `p${n}` });
  },
});

export const people = query({ args: {}, handler: async (ctx) => await ctx.db.query("people").collect() });

// ---- a cache of what actions answer

export const think = internalAction({
  args: { about: v.string() },
  handler: async (ctx, { about }): Promise<string> => {
    const before: number = await ctx.runMutation(internal.notes.tryOnce, { what: `thought ${about}` });
    return `${about} ${before}`;
  },
});

const cache: ActionCache<typeof internal.others.think> = new ActionCache(components.actionCache, {
  action: internal.others.think,
  name: "think",
  ttl: 60_000,
});

export const thought = action({
  args: { about: v.string(), force: v.optional(v.boolean()) },
  handler: async (ctx, { about, force }): Promise<string> => await cache.fetch(ctx, { about }, { force }),
});

export const forget = action({
  args: { about: v.string() },
  handler: async (ctx, { about }): Promise<null> => await cache.remove(ctx, { about }),
});

// ---- presence

const presence = new Presence(components.presence);

export const heartbeat = mutation({
  args: { roomId: v.string(), userId: v.string(), sessionId: v.string(), interval: v.number() },
  handler: async (ctx, { roomId, userId, sessionId, interval }) =>
    await presence.heartbeat(ctx, roomId, userId, sessionId, interval),
});

export const list = query({
  args: { roomToken: v.string() },
  handler: async (ctx, { roomToken }) => await presence.list(ctx, roomToken),
});

export const disconnect = mutation({
  args: { sessionToken: v.string() },
  handler: async (ctx, { sessionToken }) => await presence.disconnect(ctx, sessionToken),
});
