// Everything one execution could leave behind for another.
import { mutation, query } from "./_generated/server";

declare const leaked: unknown;
let counter = 0;
const cache = new Map<number, number>();
const everything = globalThis as any;

export const moduleState = query(async () => {
  counter++;
  cache.set(cache.size, 1);
  return [counter, cache.size];
});

export const globalState = mutation(async (ctx, { value }: any) => {
  const before = [everything.leaked ?? null, typeof leaked];
  everything.leaked = value;
  everything[Symbol.for("leaked")] ??= value;
  const wait = await ctx.db.insert("t", {});
  return [before, everything.leaked, typeof leaked === "undefined" ? null : leaked, everything[Symbol.for("leaked")]];
});

export const replacedGlobal = mutation(async (ctx) => {
  const before = String(everything.fetch).includes("replacement");
  everything.fetch = function replacement() {
    return "mine";
  };
  console.log = () => {};
  process.env.MADE_UP = "1";
  await ctx.db.insert("t", {});
  console.log("not shown");
  return [before, (fetch as any)(), process.env.MADE_UP ?? null];
});

export const prototypes = query(async () => {
  const before = typeof ([] as any).extra;
  (Array.prototype as any).extra = () => 1;
  Object.prototype.hasOwnProperty = Object.prototype.hasOwnProperty;
  return [before, ([] as any).extra()];
});

export const mathematics = query(async () => {
  const before = (Math as any).mark ?? null;
  Math.random = () => 4;
  (Math as any).mark = "set";
  return [before, Math.random(), (Math as any).mark];
});

export const bigintJson = query(async () => {
  const before = typeof (BigInt.prototype as any).toJSON;
  (BigInt.prototype as any).toJSON = function () {
    return "big";
  };
  return [before, JSON.stringify({ a: 1n })];
});

class Old extends Error {
  constructor(message: string) {
    super(message);
    this.name = this.constructor.name;
    this.toString = () => "an old one";
  }
}

class Bag extends Map<string, number> {}

export const overrides = query(async () => {
  const object: any = {};
  object.toString = () => "mine";
  object.constructor = 1;
  const error = new Old("x");
  const bag: any = new Bag();
  bag.get = () => 9;
  const fn: any = () => 1;
  fn.call = 2;
  const list: any = [];
  list.toString = () => "list";
  const stream: any = new ReadableStream();
  stream[Symbol.asyncIterator] = () => "its own";
  const own = stream[Symbol.asyncIterator]();
  return [`${object}`, error.name, String(error), bag.get("a"), fn.call, `${list}`, error instanceof Old, own];
});

export const regexpStatics = query(async () => {
  const before = (RegExp as any).$1 ?? null;
  /(secret)/.exec("a secret");
  return before;
});

export const stackTraceLimit = query(async () => {
  const before = Error.stackTraceLimit;
  Error.stackTraceLimit = 50;
  return [before, Error.stackTraceLimit];
});

export const performanceMarks = query(async () => {
  const before = performance.getEntries().length;
  performance.mark("here");
  return [before, performance.getEntries().length];
});

// Objects that no global leads to.
export const hiddenObjects = query(async () => {
  let site: any = null;
  const old = Error.prepareStackTrace;
  Error.prepareStackTrace = (_error, sites) => (site = sites[0]);
  void new Error("x").stack;
  Error.prepareStackTrace = old;
  const prototypeOf = Object.getPrototypeOf;
  const objects: any[] = [
    prototypeOf(site), prototypeOf([].values()), prototypeOf(new Map().keys()), prototypeOf(function* () {}),
    prototypeOf(async function* () {}), prototypeOf(async () => {}), prototypeOf(new Headers().keys()),
    prototypeOf(new URLSearchParams().keys()), prototypeOf(new FormData().keys()), console.log, fetch, setTimeout,
    (globalThis as any).Convex, (globalThis as any).Convex.syscall, crypto.subtle, prototypeOf(crypto),
    prototypeOf(performance), prototypeOf("".matchAll(/a/g)), prototypeOf(prototypeOf([].values())), query, Date.now,
    new Intl.DateTimeFormat("en").format, prototypeOf(Uint8Array), WebAssembly, Reflect, prototypeOf(globalThis),
    prototypeOf(new ReadableStream()[Symbol.asyncIterator as keyof ReadableStream] as any ?? {}),
  ];
  return objects.map((object, i) => (object === globalThis || Object.isFrozen(object) ? -1 : i)).filter((i) => i >= 0);
});
