// console.* becomes log lines of the running execution, rendered in object-inspect style.
//
// At most so many lines an execution (the last says that there were more) and so many bytes of text a line, so logging can
// neither fill this process nor the parent.
// Source: reference/runtime-and-database.md §3.6.

import { currentExecution } from "./state.js";
import { RealDate, realNow } from "./determinism.js";

/** A bound that the parent gives on the command line (runner/deno.py). */
const told = (name) => Number(Deno.args.find((argument) => argument.startsWith(`--${name}=`)).split("=")[1]);
const LINES_MAX = told("log-lines");
const LINE_BYTES_MAX = told("log-line-bytes");
const { core } = Deno[Deno.internal];
const INSPECT = Symbol.for("nodejs.util.inspect.custom");

// ---- rendering

class Full extends Error {}

function quote(text) {
  const escaped = text.replace(/['\\]/g, "\\$&").replace(/[\x00-\x1f]/g, (c) => {
    const known = { "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r" }[c];
    return known ?? "\\x" + c.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0");
  });
  return `'${escaped}'`;
}

function renderKey(key) {
  return /^[A-Za-z_$][\w$]*$/.test(key) ? key : quote(key);
}

function block(open, items, close, indent) {
  if (items.length === 0) return open + close;
  const inner = "  ".repeat(indent + 1);
  return `${open}\n${inner}${items.join(`,\n${inner}`)}\n${"  ".repeat(indent)}${close}`;
}

function renderEntries(value, seen, indent, budget) {
  const items = [];
  for (const key of Object.keys(value)) {
    if (Array.isArray(value) && String(key >>> 0) === key) continue;
    items.push(`${renderKey(key)}: ${render(value[key], seen, indent + 1, budget)}`);
  }
  for (const key of Object.getOwnPropertySymbols(value)) {
    if (!Object.prototype.propertyIsEnumerable.call(value, key)) continue;
    items.push(`[${String(key)}]: ${render(value[key], seen, indent + 1, budget)}`);
  }
  return items;
}

let stackOf = (error) => error.stack;

/** Where `error.stack` is not ours (errors.js): how to get an error's frames, without a head line. */
export function setStacks(given) {
  stackOf = given;
}

function renderError(error, seen, indent, budget) {
  const head = `${error.name || "Error"}${error.message ? `: ${error.message}` : ""}`;
  const frames = stackOf(error);
  const stack = typeof frames === "string" ? frames.replace(/\n+$/, "") : "";
  const text = stack ? `${head}\n${stack}` : `[${head}]`;
  const extra = renderEntries(error, seen, indent, budget);
  if ("cause" in error && !Object.keys(error).includes("cause")) {
    extra.push(`[cause]: ${render(error.cause, seen, indent + 1, budget)}`);
  }
  return extra.length === 0 ? text : `${text} ${block("{", extra, "}", indent)}`;
}

function renderObject(value, seen, indent, budget) {
  if (typeof value[INSPECT] === "function" && value[INSPECT] !== inspect) {
    const custom = value[INSPECT](5, { depth: 5 }, inspect);
    return typeof custom === "string" ? custom : render(custom, seen, indent, budget);
  }
  if (typeof value.inspect === "function" && !core.isProxy(value)) {
    const custom = value.inspect(5, { depth: 5 });
    if (typeof custom === "string") return custom;
  }
  if (core.isNativeError(value) || value instanceof Error) return renderError(value, seen, indent, budget);
  if (Array.isArray(value)) {
    const items = [];
    for (let i = 0; i < value.length; i++) {
      items.push(i in value ? render(value[i], seen, indent + 1, budget) : "");
    }
    items.push(...renderEntries(value, seen, indent, budget));
    if (items.every((item) => !item.includes("\n"))) return items.length ? `[ ${items.join(", ")} ]` : "[]";
    return block("[", items, "]", indent);
  }
  if (core.isMap(value)) {
    const items = [];
    Map.prototype.forEach.call(value, (v, k) => {
      items.push(`${render(k, seen, indent + 1, budget)} => ${render(v, seen, indent + 1, budget)}`);
    });
    return block(`Map (${items.length}) {`, items, "}", indent);
  }
  if (core.isSet(value)) {
    const items = [];
    Set.prototype.forEach.call(value, (v) => items.push(render(v, seen, indent + 1, budget)));
    return block(`Set (${items.length}) {`, items, "}", indent);
  }
  if (core.isDate(value)) return String(Reflect.apply(RealDate.prototype.toString, value, []));
  if (core.isRegExp(value)) return RegExp.prototype.toString.call(value);
  if (core.isPromise(value)) return "Promise {}";
  if (core.isWeakMap(value)) return "WeakMap { ? }";
  if (core.isWeakSet(value)) return "WeakSet { ? }";
  if (core.isBoxedPrimitive(value)) {
    const primitive = value.valueOf();
    return `Object(${typeof primitive === "string" ? quote(primitive) : String(primitive)})`;
  }
  if (core.isArrayBufferView(value) && !core.isDataView(value)) {
    return `${value.constructor?.name ?? "TypedArray"} [ ${Array.prototype.join.call(value, ", ")} ]`;
  }
  const prototype = Object.getPrototypeOf(value);
  const items = renderEntries(value, seen, indent, budget);
  const constructor = prototype === null ? "" : prototype.constructor;
  const name = typeof constructor === "function" && constructor !== Object ? constructor.name : "";
  const tag = typeof value[Symbol.toStringTag] === "string" && value[Symbol.toStringTag] !== name
    ? `[${value[Symbol.toStringTag]}]` : "";
  const label = prototype === null ? "[Object: null prototype] " : name || tag ? `${[name, tag].filter(Boolean).join(" ")} ` : "";
  return items.length === 0 ? `${label}{}` : block(`${label}{`, items, "}", indent);
}

function render(value, seen, indent, budget) {
  if (budget.left <= 0) throw new Full();
  budget.left -= 8;
  switch (typeof value) {
    case "string":
      budget.left -= value.length;
      return quote(value.length > LINE_BYTES_MAX * 2 ? value.slice(0, LINE_BYTES_MAX * 2) : value);
    case "bigint": return `${value}n`;
    case "number": return Object.is(value, -0) ? "-0" : String(value);
    case "function": {
      const name = typeof value.name === "string" && value.name !== "" ? `: ${value.name}` : " (anonymous)";
      const entries = renderEntries(value, [...seen, value], indent, budget);
      return `[Function${name}]${entries.length ? ` ${block("{", entries, "}", indent)}` : ""}`;
    }
    case "symbol": return String(value);
    case "object": break;
    default: return String(value);
  }
  if (value === null) return "null";
  if (seen.includes(value)) return "[Circular]";
  if (seen.length >= 5) return Array.isArray(value) ? "[Array]" : "[Object]";
  return renderObject(value, [...seen, value], indent, budget);
}

/** One argument as text, strings quoted as clients expect; never throws, never endless. */
export function inspect(value) {
  if (typeof value === "string") {
    return quote(value.length > LINE_BYTES_MAX * 2 ? value.slice(0, LINE_BYTES_MAX * 2) : value);
  }
  try {
    return render(value, [], 0, { left: LINE_BYTES_MAX * 4 });
  } catch (error) {
    if (error instanceof Full) return "[An object too large to print]";
    return "[An object that cannot be printed]";
  }
}

// ---- lines

const encoder = new TextEncoder();
const scratch = new Uint8Array(LINE_BYTES_MAX);

function fit(texts) {
  let left = LINE_BYTES_MAX;
  let truncated = false;
  const kept = [];
  for (const text of texts) {
    if (left <= 0) {
      truncated = true;
      break;
    }
    if (text.length * 3 <= left) {
      kept.push(text);
      left -= text.length < 64 ? text.length : encoder.encodeInto(text, scratch).written;
      continue;
    }
    const { read, written } = encoder.encodeInto(text, scratch.subarray(0, left));
    truncated ||= read < text.length;
    kept.push(read < text.length ? text.slice(0, read) : text);
    left -= written;
  }
  return [kept, truncated];
}

/** A line of arguments, each rendered; texts of our own are not. */
function addLine(level, args, ...ownTexts) {
  const execution = currentExecution();
  if (!execution) return;
  const lines = (execution.lines ??= []); // An action's has only `length` and `push`: it sends them at once.
  if (lines.length >= LINES_MAX) return;
  const now = RealDate.now();
  if (lines.length === LINES_MAX - 1) {
    const text = `Log overflow (maximum ${LINES_MAX}). Remaining log lines omitted.`;
    lines.push(["ERROR", [text], false, now]);
    return;
  }
  const [messages, truncated] = fit([...args.map(inspect), ...ownTexts]);
  lines.push([level, messages, truncated, now]);
}

/** A line of text that user code wrote to a stream. */
export function logText(level, text) {
  addLine(level, [], text);
}

function stackHere() {
  const holder = {};
  Error.captureStackTrace(holder, stackHere);
  return stackOf(holder);
}

const labelled = (label) => `${label === undefined ? "default" : label}`;

function elapsed(label) {
  const started = currentExecution()?.timers?.get(label);
  if (started === undefined) {
    addLine("WARN", [], `Timer '${label}' does not exist`);
    return undefined;
  }
  const execution = currentExecution();
  return execution.kind === "query" ? 0 : Math.round((realNow() - started) * 10) / 10;
}

export const consoleMethods = {
  debug(...args) { addLine("DEBUG", args); },
  info(...args) { addLine("INFO", args); },
  log(...args) { addLine("LOG", args); },
  warn(...args) { addLine("WARN", args); },
  error(...args) { addLine("ERROR", args); },
  trace(...args) { addLine("LOG", args, `\n${stackHere()}`); },
  dir(value) { addLine("LOG", [value]); },
  table(value) { addLine("LOG", [value]); },
  group(...args) { if (args.length) addLine("LOG", args); },
  groupCollapsed(...args) { if (args.length) addLine("LOG", args); },
  groupEnd() {},
  clear() {},
  count() {},
  countReset() {},
  assert(condition, ...args) { if (!condition) addLine("ERROR", args, "Assertion failed"); },
  time(label) {
    const key = labelled(label);
    const timers = (currentExecution().timers ??= new Map());
    if (timers.has(key)) addLine("WARN", [], `Timer '${key}' already exists`);
    else timers.set(key, realNow());
  },
  timeLog(label, ...args) {
    const key = labelled(label);
    const time = elapsed(key);
    if (time !== undefined) addLine("INFO", args, `${key}: ${time}ms`);
  },
  timeEnd(label) {
    const key = labelled(label);
    const time = elapsed(key);
    if (time === undefined) return;
    currentExecution().timers.delete(key);
    addLine("INFO", [], `${key}: ${time}ms`);
  },
};

/** A console of its own for each execution, so that replacing a method stays inside it. */
export function makeConsole() {
  return Object.assign({}, consoleMethods);
}
