// Functions that misbehave.
import { mutation, query } from "./_generated/server";

export const fine = query(async () => "fine");

export const waits = mutation(async (ctx) => {
  const ids = [];
  for (let i = 0; i < 3; i++) ids.push(await ctx.db.insert("slow", {}));
  return ids.length;
});

export const loop = query(async () => {
  for (;;);
});

export const loopAfterAwait = mutation(async (ctx) => {
  await ctx.db.insert("t", {});
  for (;;);
});

export const microtaskLoop = query(async () => {
  for (;;) await null;
});

export const computes = query(async () => {
  let sum = 0;
  for (let i = 0; i < 400_000_000; i++) sum = (sum + i) | 0;
  return sum;
});

export const memory = query(async () => {
  const kept: any[] = [];
  for (;;) kept.push(new Array(1000).fill(kept.length).map((x) => ({ x })));
});

export const memoryAtOnce = query(async () => "x".repeat(1 << 28).split("").length);

export const memoryAcrossAwait = mutation(async (ctx) => {
  const kept: any[] = [];
  for (;;) {
    await ctx.db.insert("t", {});
    for (let i = 0; i < 100; i++) kept.push(new Array(1000).fill(kept.length).map((x) => ({ x })));
  }
});

export const buffers = query(async () => {
  const kept = [];
  for (let i = 0; i < 64; i++) kept.push(new Uint8Array(64 << 20).fill(1));
  return kept.length;
});

export const stack = query(async () => {
  const down = (n: number): number => 1 + down(n + 1);
  return down(0);
});

export const stackCaught = query(async () => {
  const down = (n: number): number => 1 + down(n + 1);
  try {
    return down(0);
  } catch (error: any) {
    return error.name;
  }
});

export const neverSettles = query(async () => await new Promise(() => {}));

export const unhandled = query(async () => {
  Promise.reject(new Error("nobody listens"));
  await null;
  return 1;
});

export const handledLater = query(async () => {
  const rejected = Promise.reject(new Error("handled in time"));
  await null;
  await rejected.catch(() => {});
  return 1;
});

export const unhandledWhileWaiting = mutation(async (ctx) => {
  (async () => {
    throw new Error("while waiting");
  })();
  await ctx.db.insert("t", {});
  return 1;
});

export const unawaited = mutation(async (ctx) => {
  ctx.db.insert("t", { n: 1 });
  void ctx.db.insert("t", { n: 2 }).then(() => ctx.db.insert("t", { n: 3 }));
  return "done";
});

export const throwsWithUnawaited = mutation(async (ctx) => {
  ctx.db.insert("t", { n: 1 });
  throw new Error("after issuing a write");
});

export const logs = query(async () => {
  const line = "x".repeat(100_000);
  for (let i = 0; i < 400; i++) console.log(line, i);
  return 1;
});

export const endlessObject = query(async () => {
  const object: any = { list: [] };
  for (let i = 0; i < 100_000; i++) object.list.push({ i, self: object });
  const trap = { get boom() { throw new Error("no"); } };
  console.log(object);
  console.log(trap);
  return 1;
});

export const throwsText = query(async () => {
  throw "just text";
});
export const throwsObject = query(async () => {
  throw { a: 1 };
});
export const throwsHalfAnEmoji = query(async () => {
  console.log("cut:", "😀".slice(0, 1));
  void process.env["\ud83d"];
  throw new Error("😀".slice(0, 1));
});
export const throwsNull = query(async () => {
  throw null;
});
export const throwsHostile = query(async () => {
  throw new Proxy({}, { get() { throw new Error("trap"); }, getPrototypeOf() { throw new Error("trap"); } });
});

export const flood = mutation(async (ctx, { count }: any) => {
  const all = await Promise.all(Array.from({ length: count }, (_, n) => ctx.db.insert("t", { n })));
  return all.length;
});

export const hostileStack = query(async () => {
  (Error as any).prepareStackTrace = () => {
    throw new Error("from prepareStackTrace");
  };
  throw new Error("visible");
});

export const wrongSyscalls = query(async () => {
  const convex = (globalThis as any).Convex;
  const texts: string[] = [];
  for (const [op, args] of [["1.0/nope", "{}"], ["1.0/queryStream", "{"], [5, "{}"]]) {
    try {
      convex.syscall(op, args);
    } catch (error: any) {
      texts.push(error.message);
    }
  }
  for (const [op, args] of [["1.0/nope", "{}"], ["1.0/get", 5], ["1.0/queryStreamNext", '{"queryId":9}'], ["a\nb", "{\n}"]]) {
    try {
      await convex.asyncSyscall(op, args);
    } catch (error: any) {
      texts.push(error.message);
    }
  }
  return texts;
});

export const uncatchable = query(async () => {
  try {
    (globalThis as any).Convex.jsSyscall("storage/storeBlob", {});
  } catch {}
  return "caught";
});
