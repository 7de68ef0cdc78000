"use node";
import { ConvexError, v } from "convex/values";
import { readFile } from "node:fs";
import { Agent, get } from "node:http";
import pino from "pino";
import { api, internal } from "./_generated/api";
import { action, type ActionCtx } from "./_generated/server";

const agent = new Agent({ keepAlive: true, maxSockets: 1 });
let calls = 0;
let kept: ActionCtx | null = null;

/** Module state stays while the process is warm. */
export const count = action({ args: {}, handler: async () => ++calls });

export const fail = action({
  args: { how: v.string() },
  handler: async (_ctx, { how }) => {
    if (how === "plain") throw new TypeError("a plain error");
    if (how === "null") throw null;
    if (how === "convex") throw new ConvexError({ code: 7, what: "teapot" });
    if (how === "rejection") void Promise.reject(new Error("nobody looked"));
    if (how === "timer") setTimeout(() => { throw new Error("in a timer"); }, 1);
    if (how === "exit") process.exit(4);
    if (how === "memory") { const all: unknown[] = []; for (;;) all.push(new Array(100_000).fill({})); }
    if (how === "hang") await new Promise(() => {});
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    return "survived";
  },
});

export const logs = action({
  args: {},
  handler: async () => {
    console.log("plain", { a: [1, 2] });
    console.error(new RangeError("shown"));
    process.stdout.write("written\nin two");
    process.stdout.write(" parts\n");
    pino({ base: null, timestamp: false }).info("from pino");
    return null;
  },
});

/** Several of these at once: nothing of one may end up in another. */
export const tagged = action({
  args: { tag: v.string(), rounds: v.number() },
  handler: async (ctx, { tag, rounds }) => {
    for (let i = 0; i < rounds; i++) {
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 10));
      console.log(tag);
      setTimeout(() => console.log(tag), 0);
      await new Promise((resolve) => readFile(new URL(import.meta.url), () => resolve(console.log(tag))));
      await new Promise<void>((resolve) => {
        get({ port: process.env.STRIPE_PORT, agent, path: `/${tag}` }, (response) => {
          response.on("data", () => console.log(tag));
          response.on("end", () => {
            void ctx.runMutation(internal.notes.add, { text: tag }).then(resolve);
          });
        });
      });
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
    return { tag, who: (await ctx.auth.getUserIdentity())?.subject ?? null };
  },
});

export const keep = action({ args: {}, handler: async (ctx) => { kept = ctx; return process.pid; } });

/** Uses what an earlier action was given. */
export const useKept = action({
  args: {},
  handler: async () => (kept === null ? "nothing kept" : await kept.runQuery(api.payments.list)),
});

export const unawaited = action({
  args: {},
  handler: async (ctx) => {
    void ctx.runMutation(internal.notes.add, { text: "perhaps" });
    return null;
  },
});

export const echo = action({ args: { value: v.any() }, handler: async (_ctx, { value }) => value });

/** Into the default runtime and back into Node, some levels deep. */
export const deep = action({
  args: { levels: v.number() },
  returns: v.number(),
  handler: async (ctx, { levels }): Promise<number> =>
    levels === 0 ? 0 : 1 + (await ctx.runAction(internal.relay.deeper, { levels: levels - 1 })),
});
