// One chain: a mutation schedules an action, which fetches the deployment's own HTTP action with a file's bytes, which runs a
// "use node" action, which runs a mutation that searches.

import { ConvexError, jsonToConvex, v } from "convex/values";
import { internal } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import { action, internalAction, internalMutation, internalQuery, mutation, query, type ActionCtx } from "./_generated/server";
import { type Failure, failure, maybeFail } from "./failing";
import { RELEASE } from "./release";

const place = (text: string) => [0, 1, 2, 3].map((n) => (text.codePointAt(n % text.length)! % 97) + n + 1);

export const begin = mutation({
  args: { chain: v.string(), text: v.string(), fail: failure },
  returns: v.id("_scheduled_functions"),
  handler: async (ctx, { chain, text, fail }) => {
    maybeFail("mutation", fail);
    await ctx.db.insert("steps", { chain, level: "begun", text });
    return await ctx.scheduler.runAfter(0, internal.chain.act, { chain, text, fail });
  },
});

export const act = internalAction({
  args: { chain: v.string(), text: v.string(), fail: failure },
  handler: async (ctx, args): Promise<string> => await through(ctx, args),
});

// The same for a client that waits for the answer.
export const through_all = action({
  args: { chain: v.string(), text: v.string(), fail: failure },
  returns: v.string(),
  handler: async (ctx, args): Promise<string> => await through(ctx, args),
});

async function through(ctx: ActionCtx, { chain, text, fail }: { chain: string; text: string; fail: Failure }): Promise<string> {
  maybeFail("action", fail);
  const file = await ctx.storage.store(new Blob([text], { type: "text/plain; charset=utf-8" }));
  const stored = await ctx.storage.get(file);
  const answer = await fetch(`${process.env.CONVEX_SITE_URL}/received/${encodeURIComponent(chain)}?file=${file}`, {
    method: "POST",
    body: stored!.stream(),
    headers: { "X-Fail": encodeURIComponent(JSON.stringify(fail ?? null)) },
  });
  if (answer.status === 500) {
    const told = await answer.json();
    if (told.data !== undefined) throw new ConvexError({ passedOn: jsonToConvex(told.data) });
    throw new Error(`the HTTP action said: ${told.code}`);
  }
  if (!answer.ok) throw new Error(`status ${answer.status}: ${await answer.text()}`);
  const similar = await ctx.vectorSearch("steps", "by_place", { vector: place(text), limit: 1, filter: (q) => q.eq("level", "searched") });
  if (!(similar.length === 1 && similar[0]._score > 0.9999)) throw new Error(`not found by its vector: ${JSON.stringify(similar)}`);
  await ctx.runMutation(internal.chain.note, { chain, level: "done", text });
  return `${RELEASE}: ${await answer.text()}`;
}

export const note = internalMutation({
  args: { chain: v.string(), level: v.string(), text: v.string(), file: v.optional(v.id("_storage")) },
  handler: async (ctx, step) => {
    await ctx.db.insert("steps", step);
  },
});

export const search = internalMutation({
  args: { chain: v.string(), text: v.string(), file: v.id("_storage"), digest: v.string(), fail: failure },
  handler: async (ctx, { chain, text, file, digest, fail }): Promise<number> => {
    await ctx.db.insert("steps", { chain, level: "searched", text, file, place: place(text), data: { digest } });
    maybeFail("search", fail);
    // A transaction finds what it has just written.
    const found = await ctx.db
      .query("steps")
      .withSearchIndex("by_text", (q) => q.search("text", text).eq("level", "searched"))
      .take(1000);
    if (!found.some((step) => step.chain === chain)) throw new Error("a mutation's own write was not found");
    const record = await ctx.db.system.get(file);
    if (record === null || (await ctx.storage.getUrl(file)) === null) throw new Error("the file is gone");
    return found.length;
  },
});

export const steps = query({
  args: { chain: v.string() },
  handler: async (ctx, { chain }) => {
    const found = await ctx.db
      .query("steps")
      .withIndex("by_chain", (q) => q.eq("chain", chain))
      .collect();
    return found.map(({ level }) => level).sort();
  },
});

// What everybody looks at.
export const progress = query({
  args: {},
  handler: async (ctx) => {
    const done = new Map<string, number>();
    for (const { chain, level } of await ctx.db.query("steps").collect()) {
      if (level === "done" && chain.startsWith("shared ")) done.set(chain, (done.get(chain) ?? 0) + 1);
    }
    return { release: RELEASE, done: done.size, most: Math.max(0, ...done.values()) };
  },
});

export const job = query({
  args: { id: v.id("_scheduled_functions") },
  handler: async (ctx, { id }) => (await ctx.db.system.get(id))?.state ?? null,
});

export const jobs = query({
  args: {},
  handler: async (ctx) => {
    const kinds: Record<string, number> = {};
    for await (const { state } of ctx.db.system.query("_scheduled_functions")) kinds[state.kind] = (kinds[state.kind] ?? 0) + 1;
    return kinds;
  },
});

export const tick = internalMutation({
  args: { greeting: v.string() },
  handler: async (ctx, { greeting }) => {
    if (greeting !== "tick “🦊”") throw new Error(`wrong arguments: ${greeting}`);
    const ticks = await ctx.db.query("ticks").collect();
    if (ticks.length >= 3) return;
    const chain = `tick ${ticks.length}`;
    await ctx.db.insert("ticks", { at: Date.now(), chain });
    await ctx.scheduler.runAfter(0, internal.chain.act, { chain, text: `ticking ${chain}` });
  },
});

export const whereIs = internalQuery({
  args: { file: v.id("_storage") },
  handler: async (ctx, { file }): Promise<{ size: number; url: string | null } | null> => {
    const record = await ctx.db.system.get(file as Id<"_storage">);
    return record && { size: record.size, url: await ctx.storage.getUrl(file) };
  },
});
