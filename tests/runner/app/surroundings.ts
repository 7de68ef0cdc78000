// Clock, randomness, environment, and what must not be there.
import { mutation, query } from "./_generated/server";

const importedAt = Date.now();
const importedRandom = Math.random();

export const clock = query(async () => {
  const start = Date.now();
  for (let i = 0; i < 1e6; i++);
  return [
    start, new Date().getTime(), Date.now() - start, Date() === new Date().toString(), performance.now(),
    performance.timeOrigin, importedAt, new Intl.DateTimeFormat("en-US", { timeZone: "UTC" }).format(),
    new Date(5).getTime(), new Date() instanceof Date, new Date().getTimezoneOffset(),
  ];
});

export const mutationClock = mutation(async () => {
  const start = performance.now();
  let sum = 0;
  for (let i = 0; i < 5e6; i++) sum += i;
  return performance.now() - start > 0;
});

export const random = query(async () => [
  Math.random(), Math.random(), crypto.randomUUID(), [...crypto.getRandomValues(new Uint8Array(5))].map(Number),
  importedRandom,
]);

export const still = query(async () => 1);

export const environment = query(async () => [
  process.env.GIVEN ?? null, process.env.MISSING ?? null, Object.keys(process.env), "GIVEN" in process.env,
]);

const REFUSED = ["Deno", "window", "document", "Buffer", "require", "WebSocket", "Worker", "navigator", "Temporal",
  "setImmediate", "XMLHttpRequest", "BroadcastChannel", "MessageChannel", "CustomEvent", "localStorage", "global"];

export const hiddenGlobals = query(async () => {
  const everything = globalThis as any;
  const seen = REFUSED.filter((name) => typeof everything[name] !== "undefined" || name in everything);
  let names: any[] = [];
  for (let at = globalThis; at; at = Object.getPrototypeOf(at)) names.push(...Reflect.ownKeys(at));
  return [seen, names.filter((key) => /deno/i.test(String(key))).map(String)];
});

export const presentGlobals = query(async () => {
  const response = new Response(JSON.stringify({ a: 1 }), { headers: { "content-type": "application/json" } });
  const stream = new ReadableStream({
    start(c) {
      c.enqueue(new TextEncoder().encode("chunk"));
      c.close();
    },
  });
  const target = new EventTarget();
  let heard = 0;
  target.addEventListener("x", () => heard++);
  target.dispatchEvent(new Event("x"));
  const controller = new AbortController();
  controller.abort();
  const storage = new AsyncLocalStorage<number>();
  const inside = await storage.run(5, async () => {
    await null;
    return storage.getStore();
  });
  const form = new FormData();
  form.set("a", "b");
  return [
    new URL("https://a.b/c?d=1").searchParams.get("d"), (await response.json()).a, await new Response(stream).text(),
    heard, controller.signal.aborted, inside, form.get("a"), atob(btoa("hi")), structuredClone({ a: [1] }).a[0],
    await new Blob(["blob"]).text(), new Headers({ a: "b" }).get("A"), new Request("https://x.y/").url,
    new TextDecoder().decode(new TextEncoder().encode("é")), await new File(["f"], "n").text(),
    new DOMException("m", "AbortError").name, self === globalThis,
  ];
});

declare const AsyncLocalStorage: any;

export const refusedCalls = query(async () => {
  const texts: string[] = [];
  const attempts: [string, () => unknown][] = [
    ["fetch", () => fetch("https://example.com")],
    ["setTimeout", () => setTimeout(() => {}, 1)],
    ["setInterval", () => setInterval(() => {}, 1)],
    ["eval", () => (0, eval)("1")],
    ["Function", () => new Function("return 1")()],
    ["generateKey", () => crypto.subtle.generateKey({ name: "AES-GCM", length: 128 }, true, ["encrypt"])],
    ["constructor", () => (Convex.syscall as any).constructor("return Deno")()],
  ];
  for (const [name, attempt] of attempts) {
    try {
      await attempt();
      texts.push(`${name}: allowed`);
    } catch (error: any) {
      texts.push(`${name}: ${error.name}: ${error.message} ${error.code ?? ""}`);
    }
  }
  return texts;
});

declare const Convex: any;

export const digest = query(async (_ctx, { text }: any) => {
  const bytes = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  await null;
  const key = await crypto.subtle.importKey("raw", new Uint8Array(32), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const mac = await crypto.subtle.sign("HMAC", key, bytes);
  return [new Uint8Array(bytes)[0], new Uint8Array(mac)[0], Date.now()];
});

export const wasm = query(async () => {
  const bytes = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 127, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0,
    10, 6, 1, 4, 0, 65, 42, 11]);
  const { instance } = await WebAssembly.instantiate(bytes);
  return [(instance.exports.f as any)(), (new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports.f as any)()];
});

export const dynamicImport = query(async (_ctx, { what }: any) => {
  try {
    await import(what);
    return "imported";
  } catch (error: any) {
    return `${error.name} ${error.code}`;
  }
});
