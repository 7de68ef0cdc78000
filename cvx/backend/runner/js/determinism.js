// A clock that stands, randomness from a seed, and a crypto object without a generator of its own.
//
// Queries and mutations see the time their transaction began and a ChaCha12 stream of their own seed; modules
// being imported see the time and seed stored with the push. What was looked at is noted on the execution,
// because it decides whether a result may be cached.
// Source: reference/runtime-and-database.md §3.1 and §3.2.

import { currentExecution, PHASE_IMPORT } from "./state.js";

const RealDate = Date;
const realNow = performance.now.bind(performance);
const realRandom = Math.random;
const fillReally = crypto.getRandomValues.bind(crypto);
const realSubtle = crypto.subtle;

/** The error for something that only actions may do. `code` such as NoFetchInQueriesOrMutations. */
export function refusal(what, code) {
  const execution = currentExecution();
  const error = execution?.phase === PHASE_IMPORT
    ? new Error(`Can't use ${what} while a module is being imported. Move it into the function that needs it.`)
    : new Error(`Can't use ${what} in queries and mutations. Move it into an action, which may call outside services.`);
  Object.defineProperty(error, "code", { value: code, configurable: true, writable: true });
  return error;
}

// ---- time

export function executionNow() {
  const execution = currentExecution();
  if (!execution) return 0;
  if (execution.phase === PHASE_IMPORT) return execution.importNow;
  if (execution.kind === "action") return RealDate.now();
  execution.observedTime = true;
  return execution.now;
}

function makeDate() {
  const now = executionNow;
  const construct = Reflect.construct;
  const dateToString = Function.prototype.call.bind(RealDate.prototype.toString);
  function Date(...args) {
    if (!new.target) return dateToString(new RealDate(now()));
    return construct(RealDate, args.length === 0 ? [now()] : args, new.target);
  }
  Object.defineProperties(Date, {
    length: { value: 7, configurable: true },
    prototype: { value: RealDate.prototype, writable: false, enumerable: false, configurable: false },
    now: { value: function now_() { return now(); }, writable: true, enumerable: false, configurable: true },
    parse: { value: RealDate.parse, writable: true, enumerable: false, configurable: true },
    UTC: { value: RealDate.UTC, writable: true, enumerable: false, configurable: true },
  });
  Object.defineProperty(Date.now, "name", { value: "now", configurable: true });
  Object.defineProperty(RealDate.prototype, "constructor", {
    value: Date, writable: true, enumerable: false, configurable: true,
  });
  return Date;
}

/** `Intl.DateTimeFormat` formats "now" when it is given no date: it must be our now. */
function tameIntl() {
  const proto = Intl.DateTimeFormat.prototype;
  const format = Object.getOwnPropertyDescriptor(proto, "format");
  const formatOf = Function.prototype.call.bind(format.get);
  const bound = new WeakMap();
  Object.defineProperty(proto, "format", {
    ...format,
    get() {
      let wrapped = bound.get(this);
      if (wrapped === undefined) {
        const original = formatOf(this);
        wrapped = Object.freeze((date) => original(date === undefined ? executionNow() : date));
        bound.set(this, wrapped);
      }
      return wrapped;
    },
  });
  const formatToParts = Function.prototype.call.bind(proto.formatToParts);
  proto.formatToParts = function (date) {
    return formatToParts(this, date === undefined ? executionNow() : date);
  };
}

// ---- randomness

const BLOCK = new Uint32Array(16);

function rotate(x, n) {
  return (x << n) | (x >>> (32 - n));
}

/** A stream of 32-bit words from a 32-byte seed (64 hex digits): ChaCha with 12 rounds, nonce zero. */
class ChaCha {
  constructor(hex) {
    const key = new Int32Array(16);
    key[0] = 0x61707865; key[1] = 0x3320646e; key[2] = 0x79622d32; key[3] = 0x6b206574;
    for (let i = 0; i < 8; i++) {
      const word = parseInt(hex.slice(i * 8, i * 8 + 8), 16) >>> 0;
      key[4 + i] = ((word & 0xff) << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24);
    }
    this.input = key;
    this.block = new Int32Array(16);
    this.at = 16;
  }

  word() {
    if (this.at === 16) this.refill();
    return this.block[this.at++] >>> 0;
  }

  refill() {
    const x = this.block;
    x.set(this.input);
    const quarter = (a, b, c, d) => {
      x[a] += x[b]; x[d] = rotate(x[d] ^ x[a], 16);
      x[c] += x[d]; x[b] = rotate(x[b] ^ x[c], 12);
      x[a] += x[b]; x[d] = rotate(x[d] ^ x[a], 8);
      x[c] += x[d]; x[b] = rotate(x[b] ^ x[c], 7);
    };
    for (let round = 0; round < 6; round++) {
      quarter(0, 4, 8, 12); quarter(1, 5, 9, 13); quarter(2, 6, 10, 14); quarter(3, 7, 11, 15);
      quarter(0, 5, 10, 15); quarter(1, 6, 11, 12); quarter(2, 7, 8, 13); quarter(3, 4, 9, 14);
    }
    for (let i = 0; i < 16; i++) x[i] += this.input[i];
    this.input[12]++;
    if (this.input[12] === 0) this.input[13]++;
    this.at = 0;
  }
}

function stream(what) {
  const execution = currentExecution();
  if (!execution) throw new Error("No function is running");
  if (execution.phase === PHASE_IMPORT) {
    if (what !== "Math.random") throw refusal(what, "NoCryptoRngDuringImport");
    return (execution.importRandom ??= new ChaCha(execution.importSeed));
  }
  execution.observedRandom = true;
  return (execution.random ??= new ChaCha(execution.seed));
}

/** Actions have a live clock and real randomness once their modules are there. */
function isRunningAction() {
  const execution = currentExecution();
  return execution?.kind === "action" && execution.phase !== PHASE_IMPORT;
}

function random() {
  if (isRunningAction()) return realRandom();
  const source = stream("Math.random");
  return ((source.word() >>> 5) * 67108864 + (source.word() >>> 6)) / 9007199254740992;
}

const INTEGER_ARRAYS = new Set([
  "Int8Array", "Uint8Array", "Uint8ClampedArray", "Int16Array", "Uint16Array", "Int32Array", "Uint32Array",
  "BigInt64Array", "BigUint64Array",
]);
const arrayTag = Function.prototype.call.bind(
  Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), Symbol.toStringTag).get,
);

function fillRandom(array, what) {
  if (!INTEGER_ARRAYS.has(arrayTag(array))) {
    throw new DOMException("The data provided is not an integer-type TypedArray", "TypeMismatchError");
  }
  if (array.byteLength > 65536) {
    throw new DOMException("At most 65536 bytes of randomness can be asked for at once", "QuotaExceededError");
  }
  if (isRunningAction()) return fillReally(array);
  const source = stream(what);
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  for (let i = 0; i < bytes.length; i += 4) {
    let word = source.word();
    for (let j = i; j < i + 4 && j < bytes.length; j++) {
      bytes[j] = word & 0xff;
      word >>>= 8;
    }
  }
  return array;
}

function randomUuid() {
  const bytes = fillRandom(new Uint8Array(16), "crypto.randomUUID");
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  let text = "";
  for (let i = 0; i < 16; i++) {
    if (i === 4 || i === 6 || i === 8 || i === 10) text += "-";
    text += (bytes[i] + 256).toString(16).slice(1);
  }
  return text;
}

// ---- crypto

function algorithmName(algorithm) {
  const name = typeof algorithm === "string" ? algorithm : algorithm?.name;
  return String(name).toUpperCase();
}

function needsRandomness(operation, algorithm) {
  const name = algorithmName(algorithm);
  if (operation === "generateKey") return true;
  // The same text and key give the same signature: Convex Auth signs its tokens in a mutation.
  if (operation === "sign") return !["HMAC", "ED25519", "RSASSA-PKCS1-V1_5"].includes(name);
  if (operation === "encrypt") return !name.startsWith("AES-");
  return false;
}

function makeCrypto() {
  const permit = Symbol("permit");
  class SubtleCrypto {
    constructor(key) {
      if (key !== permit) throw new TypeError("Illegal constructor");
    }
  }
  const operations = [
    "digest", "sign", "verify", "encrypt", "decrypt", "importKey", "exportKey", "deriveBits", "deriveKey",
    "generateKey",
  ];
  for (const operation of operations) {
    const original = realSubtle[operation].bind(realSubtle);
    const method = {
      async [operation](...args) {
        if (needsRandomness(operation, args[0]) && !isRunningAction()) {
          throw refusal(`crypto.subtle.${operation} with a random number generator`, "NoCryptoRngInQueriesOrMutations");
        }
        return await original(...args);
      },
    }[operation];
    Object.defineProperty(SubtleCrypto.prototype, operation, {
      value: method, writable: true, enumerable: true, configurable: true,
    });
  }
  for (const operation of ["wrapKey", "unwrapKey"]) {
    Object.defineProperty(SubtleCrypto.prototype, operation, {
      value: async function () {
        throw new DOMException(`crypto.subtle.${operation} is not implemented`, "NotSupportedError");
      },
      writable: true, enumerable: true, configurable: true,
    });
  }
  const subtle = new SubtleCrypto(permit);
  class Crypto {
    constructor(key) {
      if (key !== permit) throw new TypeError("Illegal constructor");
    }
    get subtle() {
      return subtle;
    }
    getRandomValues(array) {
      return fillRandom(array, "crypto.getRandomValues");
    }
    randomUUID() {
      return randomUuid();
    }
  }
  for (const [type, name] of [[Crypto, "Crypto"], [SubtleCrypto, "SubtleCrypto"]]) {
    Object.defineProperty(type.prototype, Symbol.toStringTag, { value: name, configurable: true });
  }
  return { Crypto, SubtleCrypto, create: () => new Crypto(permit), subtle };
}

// ---- performance

function makePerformance() {
  const permit = Symbol("permit");
  const round = (milliseconds) => Math.round(milliseconds * 10) / 10;
  const elapsed = () => {
    const execution = currentExecution();
    if (!execution || execution.phase === PHASE_IMPORT || execution.kind === "query") return 0;
    return round(realNow() - execution.startedAt);
  };
  const entries = () => (currentExecution().marks ??= []);
  class PerformanceEntry {
    #name; #type; #start; #duration;
    constructor(name, type, start, duration, key) {
      if (key !== permit) throw new TypeError("Illegal constructor");
      this.#name = name;
      this.#type = type;
      this.#start = start;
      this.#duration = duration;
    }
    get name() { return this.#name; }
    get entryType() { return this.#type; }
    get startTime() { return this.#start; }
    get duration() { return this.#duration; }
    toJSON() {
      return { name: this.name, entryType: this.entryType, startTime: this.startTime, duration: this.duration };
    }
  }
  class PerformanceMark extends PerformanceEntry {
    #detail;
    constructor(name, options = {}) {
      super(`${name}`, "mark", options.startTime ?? elapsed(), 0, permit);
      this.#detail = options.detail === undefined ? null : structuredClone(options.detail);
    }
    get detail() { return this.#detail; }
  }
  class PerformanceMeasure extends PerformanceEntry {
    #detail;
    constructor(name, start, duration, detail, key) {
      super(name, "measure", start, duration, key);
      this.#detail = detail ?? null;
    }
    get detail() { return this.#detail; }
  }
  const timeOf = (mark, otherwise) => {
    if (mark === undefined) return otherwise;
    if (typeof mark === "number") return mark;
    const found = entries().findLast((entry) => entry.entryType === "mark" && entry.name === `${mark}`);
    if (!found) throw new DOMException(`The mark '${mark}' does not exist`, "SyntaxError");
    return found.startTime;
  };
  class Performance {
    constructor(key) {
      if (key !== permit) throw new TypeError("Illegal constructor");
    }
    get timeOrigin() { return currentExecution()?.importNow ?? 0; }
    now() { return elapsed(); }
    mark(name, options) {
      const mark = new PerformanceMark(name, options ?? {});
      entries().push(mark);
      return mark;
    }
    measure(name, startOrOptions, endMark) {
      const options = typeof startOrOptions === "object" && startOrOptions !== null
        ? startOrOptions : { start: startOrOptions, end: endMark };
      const start = timeOf(options.start, 0);
      const end = options.duration !== undefined ? start + options.duration : timeOf(options.end, elapsed());
      const measure = new PerformanceMeasure(`${name}`, start, end - start, options.detail, permit);
      entries().push(measure);
      return measure;
    }
    getEntries() { return [...entries()]; }
    getEntriesByType(type) { return entries().filter((entry) => entry.entryType === type); }
    getEntriesByName(name, type) {
      return entries().filter((e) => e.name === name && (type === undefined || e.entryType === type));
    }
    clearMarks(name) { drop("mark", name); }
    clearMeasures(name) { drop("measure", name); }
    toJSON() { return { timeOrigin: this.timeOrigin }; }
  }
  const drop = (type, name) => {
    const execution = currentExecution();
    execution.marks = entries().filter((e) => e.entryType !== type || (name !== undefined && e.name !== name));
  };
  return { Performance, PerformanceEntry, PerformanceMark, PerformanceMeasure, create: () => new Performance(permit) };
}

/** Build everything here; returns the globals to install and makers of per-execution objects. */
export function makeDeterminism() {
  const performanceParts = makePerformance();
  const cryptoParts = makeCrypto();
  tameIntl();
  Math.random = { random() { return random(); } }.random;
  return { Date: makeDate(), performanceParts, cryptoParts };
}

export { realNow, RealDate };
