import { v } from "convex/values";
import { mutation, query } from "./_generated/server";

export const clock = mutation({
  args: {},
  handler: async (ctx) => {
    const first = Date.now();
    for (let n = 0; n < 20; n++) await ctx.db.insert("notes", { text: "tick", group: "clock" });
    const again = [Date.now(), new Date().getTime(), new Date(Date.now()).valueOf()];
    return { first, frozen: again.every((time) => time === first), zone: new Date(0).getTimezoneOffset(), text: typeof Date() };
  },
});

export const dates = query({
  args: {},
  handler: async () => ({
    iso: new Date(Date.UTC(2024, 1, 29, 12, 30)).toISOString(),
    parsed: Date.parse("2024-02-29T12:30:00Z"),
    local: new Date(2024, 0, 1).toISOString(),
    isDate: new Date() instanceof Date,
    intl: new Intl.NumberFormat("en-US", { maximumFractionDigits: 2 }).format(12345.678),
    localeDate: new Date(0).toLocaleDateString("en-US", { timeZone: "UTC" }),
  }),
});

/** The argument only keeps calls apart. */
export const random = query({
  args: { call: v.number() },
  handler: async () => {
    const bytes = new Uint8Array(16);
    crypto.getRandomValues(bytes);
    return { numbers: [Math.random(), Math.random(), Math.random()], uuid: crypto.randomUUID(), bytes: bytes.buffer };
  },
});

const hex = (buffer: ArrayBuffer) => [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join("");

export const hashes = query({
  args: { text: v.string() },
  handler: async (_ctx, { text }) => {
    const data = new TextEncoder().encode(text);
    const key = await crypto.subtle.importKey("raw", new TextEncoder().encode("key"), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
    return {
      sha1: hex(await crypto.subtle.digest("SHA-1", data)),
      sha256: hex(await crypto.subtle.digest("SHA-256", data)),
      hmac: hex(await crypto.subtle.sign("HMAC", key, data)),
    };
  },
});

export const environment = query({
  args: { name: v.string() },
  handler: async (_ctx, { name }) => ({
    value: process.env[name] ?? null,
    cloud: typeof process.env.CONVEX_CLOUD_URL,
    site: typeof process.env.CONVEX_SITE_URL,
    mode: process.env.NODE_ENV ?? null,
  }),
});

export const forbidden = query({
  args: { which: v.string() },
  handler: async (_ctx, { which }) => {
    const attempts: Record<string, () => unknown> = {
      fetch: () => fetch("https://example.com/"),
      setTimeout: () => new Promise((done) => setTimeout(done, 1)),
      setInterval: () => setInterval(() => {}, 1),
      eval: () => (0, eval)("1 + 1"),
      newFunction: () => new Function("return 1")(),
      generateKey: () => crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, true, ["encrypt"]),
    };
    try {
      await attempts[which]();
    } catch (error: any) {
      return `${error.name}: ${error.message}`;
    }
    return "no error";
  },
});

/** What the runtime offers to user code, and what it does not. */
export const globals = query({
  args: { names: v.array(v.string()) },
  handler: async (_ctx, { names }) => names.filter((name) => (globalThis as any)[name] !== undefined),
});

export const platform = query({
  args: {},
  handler: async () => ({
    url: new URL("/a?b=1#c", "https://example.com/x").href,
    params: new URLSearchParams({ a: "1", b: "ü" }).toString(),
    base64: btoa(atob("aGVsbG8=")),
    clone: structuredClone({ a: [1, { b: new Date(0) }] }).a.length,
    encoded: new TextDecoder().decode(new TextEncoder().encode("ünïcode 😀")),
    headers: new Headers({ "X-A": "1" }).get("x-a"),
    aborted: (() => { const controller = new AbortController(); controller.abort(); return controller.signal.aborted; })(),
    event: (() => { const target = new EventTarget(); let heard = 0; target.addEventListener("x", () => heard++); target.dispatchEvent(new Event("x")); return heard; })(),
    wasm: new WebAssembly.Module(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0])) instanceof WebAssembly.Module,
    sorted: [3, 1, 2].toSorted().join(""),
    grouped: Object.keys((Object as any).groupBy([1, 2, 3], (n: number) => (n % 2 ? "odd" : "even"))).sort(),
  }),
});

let calls = 0;
const kept: string[] = [];

export const moduleState = query({
  args: { text: v.string() },
  handler: async (_ctx, { text }) => {
    calls += 1;
    kept.push(text);
    const shared = globalThis as any;
    shared.everCalled = (shared.everCalled ?? 0) + 1;
    const array = Array.prototype as any;
    let polluted = "no";
    if (array.remembered !== undefined) polluted = "yes";
    try {
      array.remembered = text;
    } catch {
      // A frozen prototype is as good as a fresh one.
    }
    return { calls, kept, global: shared.everCalled, polluted };
  },
});

/** 150 ms of work, to see that busy code neither blocks others for ever nor is cut short. */
export const busy = query({
  args: { rounds: v.number() },
  handler: async (_ctx, { rounds }) => {
    let hash = 17;
    for (let n = 0; n < rounds; n++) hash = (hash * 31 + n) | 0;
    return hash;
  },
});

export const endless = mutation({
  args: {},
  handler: async (ctx) => {
    await ctx.db.insert("notes", { text: "never", group: "endless" });
    for (;;) {
      // Never ends.
    }
  },
});
