// One realm for all executions, in which nothing can be changed.
//
// Executions share the intrinsics, so these are frozen to the bottom; assigning a property of the same name on an
// object *derived* from them still works (the "override mistake" is repaired with accessors). A global that user
// code makes or replaces is kept on its execution: missing names are looked up in a Proxy that stands behind the
// global object, existing web globals are accessors. What only this host may use (Deno, timers, workers) is gone.
// A child started with `hardened` false leaves the intrinsics open, runs one execution at a time and restores what
// it changed: for the rare program that patches them.
// Source: reference/runtime-and-database.md §3.1, §3.2, §3.4.

import { AsyncLocalStorage, AsyncResource } from "node:async_hooks";
import { currentExecution, enter, Execution, leave } from "./state.js";
import { makeDeterminism, refusal } from "./determinism.js";
import { consoleMethods, makeConsole } from "./console.js";
import { makeConvex } from "./syscalls.js";
import { installStackTraces } from "./errors.js";

const LANGUAGE = `
  Object Function Array Number parseFloat parseInt Infinity NaN undefined Boolean String Symbol Promise RegExp Error
  AggregateError EvalError RangeError ReferenceError SyntaxError TypeError URIError SuppressedError JSON Math Intl
  ArrayBuffer Atomics Uint8Array Int8Array Uint16Array Int16Array Uint32Array Int32Array Float16Array Float32Array
  Float64Array Uint8ClampedArray BigUint64Array BigInt64Array DataView Map BigInt Set Iterator WeakMap WeakSet Proxy
  Reflect SharedArrayBuffer decodeURI decodeURIComponent encodeURI encodeURIComponent escape unescape eval isFinite
  isNaN globalThis WebAssembly DisposableStack AsyncDisposableStack`.trim().split(/\s+/);

const WEB = `
  URL URLSearchParams CryptoKey DOMException Event EventTarget structuredClone AbortController AbortSignal
  ReadableStream ReadableStreamDefaultReader ReadableStreamBYOBReader ReadableStreamDefaultController
  ReadableByteStreamController ReadableStreamBYOBRequest WritableStream WritableStreamDefaultWriter
  WritableStreamDefaultController TransformStream TransformStreamDefaultController ByteLengthQueuingStrategy
  CountQueuingStrategy TextEncoder TextDecoder TextEncoderStream TextDecoderStream atob btoa Blob File Headers
  FormData Request Response`.trim().split(/\s+/);

const hidden = { enumerable: false, configurable: true };

// ---- replaced parts

class StrongRef {
  #target;
  constructor(target) {
    if (target === null || (typeof target !== "object" && typeof target !== "function" && typeof target !== "symbol")) {
      throw new TypeError("WeakRef: target must be an object");
    }
    this.#target = target;
  }
  deref() {
    return this.#target;
  }
}
Object.defineProperty(StrongRef, "name", { value: "WeakRef" });
Object.defineProperty(StrongRef.prototype, Symbol.toStringTag, { value: "WeakRef", ...hidden });

class IdleRegistry {
  constructor(callback) {
    if (typeof callback !== "function") throw new TypeError("FinalizationRegistry: cleanup must be callable");
  }
  register() {}
  unregister() {
    return false;
  }
}
Object.defineProperty(IdleRegistry, "name", { value: "FinalizationRegistry" });
Object.defineProperty(IdleRegistry.prototype, Symbol.toStringTag, { value: "FinalizationRegistry", ...hidden });

function makeProcess() {
  const read = (name) => {
    const execution = currentExecution();
    if (!execution || typeof name !== "string") return undefined;
    if (execution.env === null) throw new Error(`Environment variables can't be read here (process.env.${name})`);
    (execution.envRead ??= new Set()).add(name);
    const value = execution.env[name];
    if (value === undefined && execution.missingEnvFails) {
      throw new Error(`Environment variable ${name} is used in the auth config file but is not set`);
    }
    return value;
  };
  const env = new Proxy({}, {
    get: (_, name) => read(name),
    set: () => true,
    has: () => false,
    deleteProperty: () => true,
    defineProperty: () => true,
    ownKeys: () => [],
    getOwnPropertyDescriptor: () => undefined,
  });
  return { env };
}

const timers = {
  setTimeout() { throw refusal("setTimeout", "NoSetTimeoutInQueriesOrMutations"); },
  setInterval() { throw refusal("setInterval", "NoSetIntervalInQueriesOrMutations"); },
  clearTimeout() {},
  clearInterval() {},
  async fetch() { throw refusal("fetch()", "NoFetchInQueriesOrMutations"); },
  queueMicrotask(callback) {
    if (typeof callback !== "function") throw new TypeError("queueMicrotask: the callback must be a function");
    Promise.resolve().then(() => callback());
  },
};

/** What queries and mutations have in place of what only actions may do. */
const deterministicWorld = {
  functions: timers,
  tame() {
    for (const type of [Request, Response]) {
      type.prototype.formData = async function formData() {
        throw refusal("formData parsing", "NoFormDataInQueriesOrMutations");
      };
    }
    AbortSignal.timeout = function timeout() {
      throw refusal("AbortSignal.timeout", "NoSetTimeoutInQueriesOrMutations");
    };
  },
  makeConvex,
  // Deno itself calls this when the process ends or the host fails; functions see nothing there.
  dispatchEvent: { get: () => (currentExecution() ? undefined : () => true) },
};

function tameWebParts() {
  delete Atomics.wait;
  delete Atomics.waitAsync;
  delete Atomics.pause;
  delete WebAssembly.compileStreaming;
  delete WebAssembly.instantiateStreaming;
  // RegExp.$1 and its like remember the last match of whoever ran last.
  for (const key of Object.getOwnPropertyNames(RegExp)) {
    if (/^(?:\$.|input|lastMatch|lastParen|leftContext|rightContext)$/.test(key)) delete RegExp[key];
  }
  if (URL.createObjectURL) {
    delete URL.createObjectURL;
    delete URL.revokeObjectURL;
  }
}

// Names that programs commonly give to a frozen prototype: kept on the execution instead.
function patchable(prototype, key) {
  const slot = Symbol(`${prototype[Symbol.toStringTag] ?? prototype.constructor.name}.prototype.${key}`);
  Object.defineProperty(prototype, key, {
    get() { return currentExecution()?.globals?.get(slot); },
    set(value) {
      if (this === prototype) userGlobals().set(slot, value);
      else Object.defineProperty(this, key, { value, writable: true, enumerable: true, configurable: true });
    },
    ...hidden,
  });
}

// ---- globals

function userGlobals() {
  const execution = currentExecution();
  if (!execution) throw new Error("No function is running");
  return (execution.globals ??= new Map());
}

/** A global whose value is shared but may be replaced by an execution for itself. */
function installReplaceable(name, value) {
  Object.defineProperty(globalThis, name, {
    get() {
      const own = currentExecution()?.globals;
      return own !== null && own !== undefined && own.has(name) ? valueOf(own.get(name)) : value;
    },
    set(replacement) { userGlobals().set(name, replacement); },
    enumerable: false,
    configurable: true,
  });
}

/** A global of which every execution has its own, made when first asked for. */
function installPerExecution(name, make) {
  Object.defineProperty(globalThis, name, {
    get() {
      if (!currentExecution()) return undefined;
      const own = userGlobals();
      if (!own.has(name)) own.set(name, make());
      return valueOf(own.get(name));
    },
    set(replacement) { userGlobals().set(name, replacement); },
    enumerable: false,
    configurable: true,
  });
}

const MISSING = Symbol("missing");

/** A global that user code defined with a getter. */
class OwnAccessor {
  constructor(get, set) {
    this.get = get;
    this.set = set;
  }
}

/** What an execution's own global is: found in its map, or behind an accessor of its. */
function valueOf(entry) {
  if (!(entry instanceof OwnAccessor)) return entry;
  return entry.get === undefined ? undefined : Reflect.apply(entry.get, globalThis, []);
}

/**
 * Let `Object.defineProperty(globalThis, …)` make or replace a global of the execution, as assignment does: packages keep
 * registries there (openai, undici).
 */
function keepDefinedGlobals() {
  const { defineProperty: define, getOwnPropertyDescriptor } = Reflect;
  const defineGlobal = (key, descriptor) => {
    const fixed = getOwnPropertyDescriptor(globalThis, key);
    if (fixed !== undefined && fixed.set === undefined) return false;
    const accessor = "get" in descriptor || "set" in descriptor;
    userGlobals().set(key, accessor ? new OwnAccessor(descriptor.get, descriptor.set) : descriptor.value);
    return true;
  };
  const isOwn = (target) => target === globalThis && currentExecution();
  const toKey = (key) => (typeof key === "symbol" ? key : `${key}`);
  const original = Object.defineProperty;
  const originals = Object.defineProperties;
  const replacements = {
    defineProperty(target, key, descriptor) {
      if (!isOwn(target)) return original(target, key, descriptor);
      if (!defineGlobal(toKey(key), descriptor)) throw new TypeError(`Cannot redefine property: ${String(key)}`);
      return target;
    },
    defineProperties(target, descriptors) {
      if (!isOwn(target)) return originals(target, descriptors);
      for (const key of Reflect.ownKeys(descriptors)) replacements.defineProperty(target, key, descriptors[key]);
      return target;
    },
  };
  define(Object, "defineProperty", { value: replacements.defineProperty, writable: true, ...hidden });
  define(Object, "defineProperties", { value: replacements.defineProperties, writable: true, ...hidden });
  const reflected = {
    defineProperty(target, key, descriptor) {
      return isOwn(target) ? defineGlobal(toKey(key), descriptor) : define(target, key, descriptor);
    },
  };
  define(Reflect, "defineProperty", { value: reflected.defineProperty, writable: true, ...hidden });
}

/** What stands behind the global object: names that only user code has made. */
function globalsBehind() {
  const find = (key) => {
    const own = currentExecution()?.globals;
    return own !== null && own !== undefined && own.has(key) ? own.get(key) : MISSING;
  };
  return new Proxy(Object.create(Object.prototype), {
    has: (target, key) => find(key) !== MISSING || Reflect.has(target, key),
    get(target, key, receiver) {
      const found = find(key);
      return found === MISSING ? Reflect.get(target, key, receiver) : valueOf(found);
    },
    set(_, key, value, receiver) {
      if (receiver !== globalThis) {
        return Reflect.defineProperty(receiver, key, { value, writable: true, enumerable: true, configurable: true });
      }
      userGlobals().set(key, value);
      return true;
    },
    defineProperty: () => false,
    preventExtensions: () => false,
    setPrototypeOf: () => false,
  });
}

/** Remove everything but what user code may see, and put ours in its place. */
function installGlobals(world) {
  const kept = new Map();
  for (const name of WEB) kept.set(name, globalThis[name]);
  const parts = makeDeterminism();
  world.tame();
  tameWebParts();
  const language = new Map(LANGUAGE.map((name) => [name, globalThis[name]]));
  language.delete("Date");
  installStackTraces();
  const define = Object.defineProperty;
  for (const key of Reflect.ownKeys(globalThis)) {
    if (!LANGUAGE.includes(key)) delete globalThis[key];
  }
  const { performanceParts, cryptoParts } = parts;
  const values = { ...Object.fromEntries(kept), ...world.functions, AsyncLocalStorage, AsyncResource };
  values.Date = parts.Date;
  values.WeakRef = StrongRef;
  values.FinalizationRegistry = IdleRegistry;
  values.Crypto = cryptoParts.Crypto;
  values.SubtleCrypto = cryptoParts.SubtleCrypto;
  for (const name of ["Performance", "PerformanceEntry", "PerformanceMark", "PerformanceMeasure"]) {
    values[name] = performanceParts[name];
  }
  for (const [name, value] of Object.entries(values)) installReplaceable(name, value);
  installReplaceable("self", globalThis);
  const convex = world.makeConvex();
  define(globalThis, "Convex", { value: convex, writable: false, ...hidden });
  installPerExecution("console", makeConsole);
  installPerExecution("process", makeProcess);
  installPerExecution("crypto", cryptoParts.create);
  installPerExecution("performance", performanceParts.create);
  define(globalThis, "dispatchEvent", { ...world.dispatchEvent, set() {}, ...hidden });
  for (const prototype of [BigInt, Map, Set, Error, RegExp, Symbol].map((type) => type.prototype)) {
    patchable(prototype, "toJSON");
  }
  return [...Object.values(values), convex, cryptoParts.subtle, consoleMethods, ...language.values()];
}

// ---- hardening

function hiddenIntrinsics() {
  const of = Object.getPrototypeOf;
  return [
    of(async function () {}), of(function* () {}), of(async function* () {}), of([][Symbol.iterator]()),
    of(new Map().entries()), of(new Set().entries()), of(""[Symbol.iterator]()), of("".matchAll(/a/g)),
    of(Iterator.from({ next() {} })), of([].values().map((x) => x)), of(new Intl.Segmenter().segment("a")),
    of(new Intl.Segmenter().segment("a")[Symbol.iterator]()), of((async function* () {})()), of((function* () {})()),
    of(of((async function* () {}).prototype)), of(new Headers().entries()), of(new URLSearchParams().entries()),
    of(new FormData().entries()), of(new ReadableStream()[Symbol.asyncIterator]()), of(callSite()),
    Object.getOwnPropertyDescriptor(arguments_(), "callee").get,
  ];
}

function arguments_() {
  return arguments;
}

/** What a program's own Error.prepareStackTrace is given. */
function callSite() {
  const execution = new Execution(0, "query");
  let found = null;
  execution.prepareStackTrace = (_, sites) => (found = sites[0]);
  enter(execution);
  void new Error("seen").stack;
  leave(execution);
  return found;
}

function reachable(roots) {
  const seen = new Set([globalThis]);
  const todo = [];
  const add = (value) => {
    if (value === null || (typeof value !== "object" && typeof value !== "function") || seen.has(value)) return;
    seen.add(value);
    todo.push(value);
  };
  roots.forEach(add);
  while (todo.length > 0) {
    const value = todo.pop();
    add(Object.getPrototypeOf(value));
    for (const key of Reflect.ownKeys(value)) {
      const property = Object.getOwnPropertyDescriptor(value, key);
      if ("value" in property) add(property.value);
      else {
        add(property.get);
        add(property.set);
      }
    }
  }
  seen.delete(globalThis);
  return seen;
}

// Reading a method of these through an accessor would cost V8's fast paths (measured: map() 15 times slower).
const HOT = new Set([
  Array.prototype, Promise.prototype, RegExp.prototype, String.prototype, Function.prototype, Promise, Array,
]);
const HOT_NAMES = new Set(["toString", "toLocaleString", "bind"]); // lodash and underscore are functions with a `bind`.

const WEB_PROTOTYPES = new Set(WEB.map((name) => globalThis[name]?.prototype));

/** Make plain assignment on derived objects work although `object` is frozen. */
function repairOverrides(object) {
  for (const key of Reflect.ownKeys(object)) {
    // A stream gets a Symbol.asyncIterator of its own from the AI SDK. Symbols of the language itself are hot.
    if (key === "prototype" || (typeof key === "symbol" && !WEB_PROTOTYPES.has(object))) continue;
    if (HOT.has(object) && !HOT_NAMES.has(key)) continue;
    const property = Object.getOwnPropertyDescriptor(object, key);
    if (!("value" in property) || !property.writable || !property.configurable) continue;
    const { value } = property;
    const { get, set } = {
      get() { return value; },
      set(replacement) {
        if (this === object) throw new TypeError(`Cannot assign to read only property '${String(key)}' of a shared object`);
        if (Object.hasOwn(this, key)) this[key] = replacement;
        else Object.defineProperty(this, key, { value: replacement, writable: true, enumerable: true, configurable: true });
      },
    };
    get.originalValue = value; // Where packages look that take methods from descriptors (get-intrinsic, and so qs).
    Object.freeze(get);
    Object.freeze(set);
    Object.defineProperty(object, key, { get, set, enumerable: property.enumerable, configurable: false });
  }
}

function isPrototype(object) {
  return typeof object === "object" && Object.hasOwn(object, "constructor");
}

function freezeError() {
  // V8 reads Error.stackTraceLimit as a plain property, so that one stays writable; state.js restores it.
  for (const key of Reflect.ownKeys(Error)) {
    const property = Object.getOwnPropertyDescriptor(Error, key);
    if (!property.configurable) continue;
    const fixed = { configurable: false };
    if ("value" in property && key !== "stackTraceLimit") fixed.writable = false;
    Object.defineProperty(Error, key, fixed);
  }
  Object.preventExtensions(Error);
}

/**
 * Take over the global object. With `hardened`, freeze what is shared. `world` is what functions have beside the
 * language: see `deterministicWorld`, and action_globals.js for actions.
 * @returns {Set<object>} every shared object.
 */
export function takeOver(hardened, world = deterministicWorld) {
  // Deno looks for V8's own on first use, on the global object as it still is. Streams (tee, clone) use it later.
  queueMicrotask(() => {});
  const roots = installGlobals(world);
  if (hardened) keepDefinedGlobals();
  const shared = reachable([...roots, ...hiddenIntrinsics()]);
  if (!hardened) return shared;
  for (const object of shared) if (isPrototype(object) || HOT.has(object)) repairOverrides(object);
  for (const object of shared) if (object !== Error) Object.freeze(object);
  freezeError();
  Object.setPrototypeOf(globalThis, globalsBehind());
  for (const key of Reflect.ownKeys(globalThis)) {
    const property = Object.getOwnPropertyDescriptor(globalThis, key);
    if (property.configurable) {
      Object.defineProperty(globalThis, key, "value" in property ? { configurable: false, writable: false } : { configurable: false });
    }
  }
  Object.preventExtensions(globalThis);
  return shared;
}

/** For an open realm: remember every shared object as it is; the result puts it back (false: it cannot). */
export function rememberRealm(shared) {
  const objects = [...new Set([Object.prototype, ...shared, globalThis])]; // Object.prototype first: the rest reads through it
  const before = objects.map((object) => [
    object, Object.getPrototypeOf(object), Object.getOwnPropertyDescriptors(object), Object.isExtensible(object),
  ]);
  const { ownKeys, defineProperty, getOwnPropertyDescriptor, deleteProperty, getPrototypeOf, setPrototypeOf, isExtensible } = Reflect;
  const same = (a, b) => a.value === b.value && a.get === b.get && a.set === b.set
    && a.writable === b.writable && a.configurable === b.configurable && a.enumerable === b.enumerable
    || (a.value !== a.value && b.value !== b.value);
  return () => {
    for (let i = 0; i < before.length; i++) {
      const [object, prototype, properties, extensible] = before[i];
      if (getPrototypeOf(object) !== prototype && !setPrototypeOf(object, prototype)) return false;
      const keys = ownKeys(object);
      for (let j = 0; j < keys.length; j++) {
        const key = keys[j];
        const old = getOwnPropertyDescriptor(properties, key)?.value;
        if (old === undefined) {
          if (!deleteProperty(object, key)) return false;
          continue;
        }
        const now = getOwnPropertyDescriptor(object, key);
        if (!same(old, now) && !defineProperty(object, key, old)) return false;
      }
      const wanted = ownKeys(properties);
      if (wanted.length !== ownKeys(object).length) {
        for (let j = 0; j < wanted.length; j++) {
          const key = wanted[j];
          if (getOwnPropertyDescriptor(object, key) === undefined && !defineProperty(object, key, properties[key])) return false;
        }
      }
      if (isExtensible(object) !== extensible) return false;
    }
    return true;
  };
}
