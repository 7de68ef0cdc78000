// Errors as people read them: V8's frames mapped back to the files the user wrote.
//
// Modules come with the source maps that esbuild made; a map is decoded on the first error that needs it.
// Frames at either end that lie in the npm package's own plumbing are left out.
// Source: reference/runtime-and-database.md §3.5.

import { currentExecution } from "./state.js";

const { core } = Deno[Deno.internal];
const MESSAGE_BYTES_MAX = 65536;
const PLUMBING = /(?:^|\/)(?:convex\/(?:src|dist\/(?:esm|cjs))\/server\/impl|udf-runtime\/src)\//;
const CONVEX_ERROR = Symbol.for("ConvexError");

// ---- source maps

const DIGITS = new Int8Array(128).fill(-1);
for (let i = 0; i < 64; i++) {
  DIGITS["ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".charCodeAt(i)] = i;
}

/** Mappings of a version 3 source map: for each generated line, rows of [column, source, line, column]. */
function decodeMappings(mappings) {
  const lines = [];
  let row = [];
  let column = 0, source = 0, line = 0, sourceColumn = 0;
  let at = 0;
  const number = () => {
    let shift = 0, value = 0;
    for (;;) {
      const digit = DIGITS[mappings.charCodeAt(at++)] ?? -1;
      if (digit < 0) throw new Error("The source map is malformed");
      value |= (digit & 31) << shift;
      if ((digit & 32) === 0) break;
      shift += 5;
    }
    return value & 1 ? -(value >>> 1) : value >>> 1;
  };
  while (at < mappings.length) {
    const char = mappings[at];
    if (char === ";" || char === ",") {
      at++;
      if (char === ";") {
        lines.push(Int32Array.from(row));
        row = [];
        column = 0;
      }
      continue;
    }
    column += number();
    if (at < mappings.length && mappings[at] !== "," && mappings[at] !== ";") {
      source += number();
      line += number();
      sourceColumn += number();
      row.push(column, source, line, sourceColumn);
      if (at < mappings.length && mappings[at] !== "," && mappings[at] !== ";") number();
    }
  }
  lines.push(Int32Array.from(row));
  return lines;
}

export class SourceMap {
  constructor(text) {
    this.text = text; // bytes: kept outside the JavaScript heap until needed
    this.lines = null;
    this.sources = [];
  }

  decode() {
    if (this.lines !== null) return;
    this.lines = [];
    try {
      const map = JSON.parse(core.decode(this.text));
      const root = map.sourceRoot ?? "";
      this.sources = (map.sources ?? []).map((source) => `${root}${source}`);
      this.lines = decodeMappings(map.mappings ?? "");
    } catch {
      this.lines = [];
    }
    this.text = null;
  }

  /** Where generated (line, column), both from 0, was written: [source index, line, column] from 0, or null. */
  find(line, column) {
    this.decode();
    const row = this.lines[line];
    if (row === undefined || row.length === 0) return null;
    let low = 0, high = row.length / 4 - 1, found = 0;
    while (low <= high) {
      const middle = (low + high) >> 1;
      if (row[middle * 4] <= column) {
        found = middle;
        low = middle + 1;
      } else {
        high = middle - 1;
      }
    }
    return [row[found * 4 + 1], row[found * 4 + 2], row[found * 4 + 3]];
  }
}

// ---- frames

let mapOf = () => null; // file name → SourceMap; set by modules.js

export function setSourceMaps(lookup) {
  mapOf = lookup;
}

function placeOf(site) {
  const file = site.getFileName() ?? site.getScriptNameOrSourceURL() ?? "";
  const line = site.getLineNumber() ?? 0;
  const column = site.getColumnNumber() ?? 0;
  if (file.startsWith("convex:/")) {
    const found = mapOf(file)?.find(line - 1, column - 1);
    const map = mapOf(file);
    if (found && map) return `${map.sources[found[0]]}:${found[1] + 1}:${found[2] + 1}`;
    return map ? null : `${file}:${line}:${column}`;
  }
  return null; // Ours, or Deno's.
}

function describe(site) {
  if (site.isPromiseAll?.()) return `    at async Promise.all (index ${site.getPromiseIndex()})`;
  const place = placeOf(site);
  if (place === null) return null;
  let name = site.getFunctionName() || "<anonymous>";
  const method = site.getMethodName();
  const type = site.isToplevel() ? null : site.getTypeName();
  if (site.isConstructor()) name = `new ${name}`;
  else if (type && type !== "Object" && !name.includes(".") && name !== "<anonymous>") name = `${type}.${name}`;
  else if (name === "<anonymous>" && method) name = method;
  return `    at ${site.isAsync?.() ? "async " : ""}${name} (${place})`;
}

function framesText(sites) {
  const lines = [];
  for (const site of sites) {
    const line = describe(site);
    if (line !== null) lines.push(line);
  }
  return withoutPlumbing(lines);
}

/** Frames as one text, without those at either end that lie in the npm package itself. */
export function withoutPlumbing(lines) {
  const plumbing = (line) => PLUMBING.test(line);
  let start = 0, end = lines.length;
  while (start < end && plumbing(lines[start])) start++;
  while (end > start && plumbing(lines[end - 1])) end--;
  return start === end ? "" : lines.slice(start, end).join("\n") + "\n";
}

const framesOf = new WeakMap();

function prepareStackTrace(error, sites) {
  const custom = currentExecution()?.prepareStackTrace;
  if (typeof custom === "function") return custom(error, sites);
  const text = framesText(sites);
  framesOf.set(error, text);
  return text;
}

/** Make `error.stack` ours; user code's own Error.prepareStackTrace holds for its execution only. */
export function installStackTraces() {
  Object.defineProperty(Error, "prepareStackTrace", {
    get: () => prepareStackTrace,
    set(value) {
      const execution = currentExecution();
      if (execution) execution.prepareStackTrace = value;
    },
    enumerable: false,
    configurable: false,
  });
}

// ---- failures

function describeThrown(thrown) {
  if (thrown === null || (typeof thrown !== "object" && typeof thrown !== "function")) return String(thrown);
  if (typeof thrown === "function") return Function.prototype.toString.call(thrown).slice(0, 200);
  const constructor = thrown.constructor;
  const name = typeof constructor === "function" && typeof constructor.name === "string" ? constructor.name : "";
  return `#<${name || "Object"}>`;
}

function isError(thrown) {
  if (thrown === null || typeof thrown !== "object") return false;
  return core.isNativeError(thrown) || thrown instanceof Error;
}

function cut(text) {
  return text.length > MESSAGE_BYTES_MAX ? text.slice(0, MESSAGE_BYTES_MAX) : text;
}

function stackOf(error) {
  try {
    const { stack } = error;
    return framesOf.get(error) ?? (typeof stack === "string" && stack.startsWith("    at ") ? stack : "");
  } catch {
    return ""; // User code's own prepareStackTrace, or a getter.
  }
}

/**
 * What was thrown, as the parent hears of it: {message, frames, data}. Never throws. Errors of class `Own` are this
 * host's: they have no frames in user code. `frames` gives those of other errors.
 */
export function failureOf(thrown, Own, frames = stackOf) {
  try {
    if (!isError(thrown)) return { message: cut(`Uncaught ${describeThrown(thrown)}`), frames: "", data: null };
    if (thrown instanceof Own) return { message: cut(`Uncaught Error: ${thrown.message}`), frames: "", data: null };
    const name = `${thrown.name ?? "Error"}`;
    const text = `${thrown.message ?? ""}`;
    const data = CONVEX_ERROR in thrown && typeof thrown.data === "string" ? thrown.data : null;
    const message = text === "" ? `Uncaught ${name}` : `Uncaught ${name}: ${text}`;
    return { message: cut(message), frames: cut(frames(thrown)), data };
  } catch {
    return { message: "Uncaught an object that cannot be shown", frames: "", data: null };
  }
}

/** Whether this is the error of code that tried to change what this process shares between executions. */
export function isFrozenRealmError(thrown) {
  try {
    if (!(thrown instanceof TypeError)) return false;
    return /^Cannot (?:add property|assign to read only property|define property|redefine property|delete property)/.test(
      thrown.message,
    ) || /object is not extensible$|^#<.*> is not extensible/.test(thrown.message);
  } catch {
    return false;
  }
}
