import { actionGeneric as action } from "convex/server";

declare const Convex: any, process: any, AsyncLocalStorage: any;

const api = "acting:x" as any;
let state = 0;
const shared: string[] = [];

export const meet = action({
  args: {},
  handler: async (_, args: any) => {
    const seen = [state, shared.length, (globalThis as any).mine ?? "none", (Array.prototype as any).mine ?? "none"];
    state = args.mark;
    shared.push("x");
    (globalThis as any).mine = args.mark;
    const store = new AsyncLocalStorage();
    const inside = await store.run(args.mark, async () => {
      await fetch(args.url).catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, 5));
      return store.getStore();
    });
    await Promise.all([1, 2, 3].map(() => new Promise((resolve) => setTimeout(resolve, 3))));
    const log = console.log;
    (console as any).log = () => log("patched", args.mark);
    console.log("ignored");
    return { seen, after: [state, (globalThis as any).mine, inside, process.env.GIVEN] };
  },
} as any);

export const world = action({
  args: {},
  handler: async () => {
    const names = [
      "Deno", "Worker", "WebSocket", "XMLHttpRequest", "require", "Buffer", "setImmediate", "navigator", "window", "EventSource",
      "BroadcastChannel", "caches", "localStorage", "indexedDB", "prompt", "close", "onerror",
    ];
    const missing = (name: string) => typeof (globalThis as any)[name] === "undefined";
    const first = Date.now();
    await new Promise((resolve) => setTimeout(resolve, 30));
    const random = [Math.random(), Math.random(), crypto.randomUUID()];
    const key = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
    const signature = await crypto.subtle.sign({ name: "ECDSA", hash: "SHA-256" }, (key as any).privateKey, new Uint8Array(3));
    const form = await new Response("a=1&b=2", { headers: { "content-type": "application/x-www-form-urlencoded" } }).formData();
    let evil: string;
    try {
      evil = String((0, eval)("1"));
    } catch (error: any) {
      evil = error.name;
    }
    let file: string;
    try {
      file = (await fetch("file:///etc/passwd")).statusText;
    } catch (error: any) {
      file = error.message;
    }
    return {
      present: names.filter((name) => !missing(name)),
      elapsed: Date.now() - first,
      newDate: Math.abs(new Date().getTime() - Date.now()) < 5,
      differ: new Set(random).size === 3,
      signed: (signature as ArrayBuffer).byteLength,
      form: [...form.entries()],
      evil,
      file,
      zone: new Date().getTimezoneOffset(),
      env: [Object.keys(process.env), process.env.GIVEN, process.env.PATH ?? "none"],
      performance: performance.now() >= 29,
    };
  },
});

export const order = action({
  args: {},
  handler: async () => {
    const seen: string[] = [];
    const done = new Promise<void>((resolve) => setTimeout(resolve, 60));
    setTimeout((a: string) => seen.push(a), 20, "twenty");
    setTimeout(() => seen.push("five"), 5);
    setTimeout(() => seen.push("five again"), 5);
    const never = setTimeout(() => seen.push("never"), 10);
    clearTimeout(never);
    queueMicrotask(() => seen.push("micro"));
    let ticks = 0;
    const interval = setInterval(() => {
      seen.push("tick");
      if (++ticks === 2) clearInterval(interval);
    }, 23);
    seen.push("sync");
    await done;
    return seen;
  },
});

export const failing = action({
  args: {},
  handler: async (_, { how }: any) => {
    const forever = new Promise(() => setInterval(() => {}, 1000));
    if (how === "timer") setTimeout(() => { throw new Error("in a timer"); }, 5);
    if (how === "rejection") void Promise.reject(new Error("nobody caught it"));
    if (how === "microtask") queueMicrotask(() => { throw new Error("in a microtask"); });
    if (how === "listener") {
      const controller = new AbortController();
      controller.signal.addEventListener("abort", () => { throw new Error("in a listener"); });
      controller.abort();
    }
    if (how === "text") throw "just text";
    if (how === "undefined") throw undefined;
    if (how === "null") throw null;
    if (how === "half an emoji") {
      console.log("cut:", "😀".slice(0, 1));
      void process.env["\ud83d"];
      throw new Error("😀".slice(0, 1));
    }
    await forever;
  },
} as any);

export const sleep = action({
  args: {},
  handler: async (_, { ms }: any) => {
    console.log(`sleeping ${ms}`);
    await new Promise((resolve) => setTimeout(resolve, ms));
    return ms;
  },
} as any);

export const spin = action({
  args: {},
  handler: async () => {
    console.log("about to spin");
    await new Promise((resolve) => setTimeout(resolve, 30));
    for (;;);
  },
});

export const busy = action({
  args: {},
  handler: async (_, { ms }: any) => {
    const end = performance.now() + ms;
    while (performance.now() < end);
    return "done";
  },
} as any);

export const fill = action({
  args: {},
  handler: async () => {
    await new Promise((resolve) => setTimeout(resolve, 30));
    const kept: unknown[] = [];
    for (;;) kept.push(new Array(1_000_000).fill(1.5));
  },
});

export const buffers = action({
  args: {},
  handler: async () => {
    const kept: Uint8Array[] = [];
    try {
      for (;;) kept.push(new Uint8Array(64 * 1024 * 1024).fill(1));
    } catch (error: any) {
      return error.name;
    }
  },
});

export const lazy = action({
  args: {},
  handler: async () => {
    const first = await import("./lazily");
    const again = await import("./lazily");
    first.bump();
    return { same: first === again, count: again.read(), missing: await import(`./${"nothing"}.js`).catch((error) => error.name) };
  },
});

export const patching = action({
  args: {},
  handler: async (_, { speak }: any) => {
    if (speak) console.log("before");
    (Array.prototype as any).lastOne = function () {
      return this[this.length - 1];
    };
    return ([1, 2, 3] as any).lastOne();
  },
} as any);

const registry = Symbol.for("some.package.registry");

export const registers = action({
  args: {},
  handler: async (_, { mark }: any) => {
    const scope = globalThis as any;
    const before = scope[registry] ?? "none";
    Object.defineProperty(scope, registry, { value: mark });
    Object.defineProperty(scope, "counter", { get: () => mark * 2, configurable: true });
    Object.defineProperties(scope, { fetch: { value: () => "mine" }, other: { value: 1 } });
    await new Promise((resolve) => setTimeout(resolve, 10));
    let refused = "";
    try {
      Object.defineProperty(scope, "Convex", { value: 1 });
    } catch (error: any) {
      refused = error.name;
    }
    return [before, scope[registry], scope.counter, (fetch as any)(), scope.other, refused, Reflect.defineProperty(scope, "NaN", { value: 1 })];
  },
} as any);

export const clean = action({ args: {}, handler: async () => typeof (Array.prototype as any).lastOne });

export const ask = action({
  args: {},
  handler: async (ctx, { count }: any) => {
    const all = Array.from({ length: count }, (_, i) => ctx.runQuery(api, { i }));
    return (await Promise.all(all)).map((each: any) => each.i);
  },
} as any);

export const deadline = action({
  args: {},
  handler: async (_, { url }: any) => {
    const seen: string[] = [];
    const started = Date.now();
    await fetch(url, { signal: AbortSignal.timeout(50) }).catch((error) => seen.push(error.name));
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 20);
    await fetch(url, { signal: controller.signal }).catch((error) => seen.push(error.name));
    return { seen, quick: Date.now() - started < 900 };
  },
} as any);

export const fetching = action({
  args: {},
  handler: async (_, { url }: any) => {
    const posted = await fetch(`${url}/echo`, { method: "POST", body: JSON.stringify({ a: 1 }), headers: { "x-mine": "yes" } });
    const streamed = await fetch(`${url}/parts`);
    const parts: string[] = [];
    for await (const part of streamed.body!.pipeThrough(new TextDecoderStream() as any) as any) parts.push(part);
    const moved = await fetch(`${url}/moved`);
    const refused = await fetch("http://127.0.0.1:9/").catch((error) => error.name);
    return { status: posted.status, echoed: await posted.text(), header: posted.headers.get("x-back"), text: parts.join(""), moved: moved.url.endsWith("/echo"), refused };
  },
} as any);

export const blob = action({
  args: {},
  handler: async (ctx, { size }: any) => {
    const id = await ctx.storage.store(new Blob([new Uint8Array(size).fill(7)], { type: "text/x" }));
    const back = (await ctx.storage.get(id))!;
    const bytes = new Uint8Array(await back.arrayBuffer());
    return { id, type: back.type, size: back.size, same: bytes.every((each) => each === 7), none: await ctx.storage.get("missing" as any) };
  },
} as any);

export const abandon = action({
  args: {},
  handler: async (_, { url }: any) => {
    void fetch(url);
    setInterval(() => console.log("never heard"), 50);
    return "left";
  },
} as any);

export const lasting = action({
  args: {},
  handler: async () => {
    Object.defineProperty(Array.prototype, "stays", { value: "left" });
    return ([] as any).stays;
  },
});
