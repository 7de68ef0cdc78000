import {
  actionGeneric as action,
  createFunctionHandle,
  httpActionGeneric as httpAction,
  internalActionGeneric as internalAction,
  internalMutationGeneric as internalMutation,
  mutationGeneric as mutation,
  queryGeneric as query,
} from "convex/server";
import { ConvexError, v } from "convex/values";

declare const process: { env: Record<string, string | undefined> };

let moduleState = 0;

export const countUp = action({
  args: {},
  handler: async () => {
    moduleState++;
    (globalThis as any).leftBehind = ((globalThis as any).leftBehind ?? 0) + 1;
    await new Promise((resolve) => setTimeout(resolve, 20));
    return [moduleState, (globalThis as any).leftBehind];
  },
});

export const note = internalMutation({
  args: { name: v.string() },
  handler: async (ctx, { name }) => {
    await ctx.db.insert("notes", { name });
    return name.length;
  },
});

export const notes = query({
  args: {},
  handler: async (ctx) => (await ctx.db.query("notes").collect()).map((each) => each.name),
});

export const failing = mutation({
  args: { name: v.string() },
  handler: async (ctx, { name }) => {
    await ctx.db.insert("notes", { name });
    throw new ConvexError({ code: 7n });
  },
});

export const plainFailure = query({
  args: {},
  handler: async () => {
    throw new Error("broken inside");
  },
});

export const everything = action({
  args: { name: v.string() },
  returns: v.object({ before: v.number(), length: v.number(), after: v.number(), nested: v.string() }),
  handler: async (ctx, { name }) => {
    console.log("working on", name);
    const before: string[] = await ctx.runQuery("doing:notes" as any, {});
    const length = await ctx.runMutation("doing:note" as any, { name });
    const after: string[] = await ctx.runQuery("doing:notes" as any, {});
    const nested = await ctx.runAction("doing:inner" as any, { name });
    return { before: before.length, length, after: after.length, nested };
  },
});

export const inner = internalAction({ args: { name: v.string() }, handler: async (_, { name }) => `inner ${name}` });

export const wrongReturn = action({ args: {}, returns: v.string(), handler: async () => 5 as any });

export const catches = action({
  args: {},
  handler: async (ctx) => {
    const seen: any[] = [];
    const attempt = async (what: () => Promise<any>) => {
      try {
        seen.push(["ok", await what()]);
      } catch (error: any) {
        seen.push([error instanceof ConvexError ? "ConvexError" : error.name, error.message.split("\n")[0], error.data ?? null]);
      }
    };
    await attempt(() => ctx.runMutation("doing:failing" as any, { name: "lost" }));
    await attempt(() => ctx.runQuery("doing:plainFailure" as any, {}));
    await attempt(() => ctx.runQuery("doing:missing" as any, {}));
    await attempt(() => ctx.runQuery("doing:note" as any, { name: "x" }));
    await attempt(() => ctx.runMutation("doing:note" as any, { name: 5 } as any));
    return seen;
  },
});

export const throwing = action({
  args: { data: v.boolean() },
  handler: async (_, { data }) => {
    if (data) throw new ConvexError({ reason: "no", left: 3n });
    throw new Error("it broke");
  },
});

export const who = action({
  args: {},
  handler: async (ctx: any) => {
    const convex = (globalThis as any).Convex;
    const ask = async (op: string) => JSON.parse(await convex.asyncSyscall(op, "{}"));
    return {
      user: (await ctx.auth.getUserIdentity())?.subject ?? null,
      fn: await ask("1.0/getFunctionMetadata"),
      deployment: (await ask("1.0/getDeploymentMetadata")).name,
      request: await ask("1.0/getRequestMetadata"),
      url: process.env.CONVEX_CLOUD_URL,
    };
  },
});

export const handle = action({
  args: {},
  handler: async (ctx) => {
    const made = await createFunctionHandle("doing:note" as any);
    return await ctx.runMutation(made as any, { name: "by handle" });
  },
});

export const unknownOp = action({
  args: {},
  handler: async () => {
    try {
      await (globalThis as any).Convex.asyncSyscall("1.0/insert", "{}");
    } catch (error: any) {
      return error.message;
    }
  },
});

export const dropping = action({
  args: {},
  handler: async (ctx) => {
    void ctx.runMutation("doing:note" as any, { name: "dropped" });
    void ctx.runQuery("doing:notes" as any, {});
    setTimeout(() => {}, 10_000);
    return "done";
  },
});

export const sleeping = action({
  args: { ms: v.number() },
  handler: async (_, { ms }) => {
    const started = Date.now();
    await new Promise((resolve) => setTimeout(resolve, ms));
    return Date.now() - started;
  },
});

export const talking = action({
  args: { lines: v.number(), ms: v.number() },
  handler: async (_, { lines, ms }) => {
    for (let i = 0; i < lines; i++) {
      console.log(`line ${i}`);
      if (ms > 0) await new Promise((resolve) => setTimeout(resolve, ms));
    }
  },
});

export const many = action({
  args: { count: v.number() },
  handler: async (ctx, { count }) => {
    const all = Array.from({ length: count }, (_, i) => ctx.runMutation("doing:note" as any, { name: `${i}` }));
    return (await Promise.all(all)).length;
  },
});

export const blobs = action({
  args: { size: v.number() },
  handler: async (ctx, { size }) => {
    const bytes = new Uint8Array(size).map((_, i) => i % 251);
    const id = await ctx.storage.store(new Blob([bytes], { type: "application/x-test" }));
    const found = (await ctx.storage.get(id))!;
    const back = new Uint8Array(await found.arrayBuffer());
    const missing = await ctx.storage.get((id.slice(0, -1) + (id.endsWith("0") ? "1" : "0")) as any).catch((error: Error) => error.message);
    return { type: found.type, same: back.length === size && back.every((each, i) => each === i % 251), missing };
  },
});

export const big = action({ args: {}, handler: async () => "x".repeat(17 * 1024 * 1024) });

export const later = action({
  args: {},
  handler: async (ctx) => {
    const id = await ctx.scheduler.runAfter(60_000, "doing:note" as any, { name: "later" });
    await ctx.scheduler.cancel(id);
    return typeof id;
  },
});

export const slowly = action({
  args: { name: v.string() },
  handler: async (ctx, { name }) => {
    await ctx.runMutation("doing:note" as any, { name });
    await new Promise((resolve) => setTimeout(resolve, 300));
    await ctx.runMutation("doing:note" as any, { name });
  },
});
