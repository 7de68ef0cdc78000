// The global object of "use node" code: Node's, as packages expect it, on Deno.
//
// Deno gives Node's globals to packages only; bundled code is not one. What Node has not is taken away, since
// libraries tell runtimes by it. What is written to standard output and standard error becomes log lines.
// Source: reference/runtime-and-database.md §3.6, §3.8.

import { Buffer } from "node:buffer";
import nodeConsole from "node:console";
import fs from "node:fs";
import Module, { createRequire } from "node:module";
import process from "node:process";
import timers from "node:timers";
import { consoleMethods, logText, setStacks } from "./console.js";
import { framesOf } from "./node_sources.js";
import { currentExecution } from "./state.js";

const { core } = Deno[Deno.internal];

const NOT_IN_NODE = [
  "alert", "confirm", "prompt", "close", "closed", "window", "self", "location", "caches", "Worker",
  "GPU", "GPUAdapter", "GPUDevice", "onload", "onunload", "onbeforeunload", "onerror", "onunhandledrejection", "name",
  "opener", "localStorage", "sessionStorage", "createImageBitmap",
];
const HIDDEN_VARIABLES = ["DENO_DIR", "DENO_NO_UPDATE_CHECK", "NO_COLOR", "DENO_CERT", "DENO_TLS_CA_STORE"];
const LINE_MAX = 32768;
const OF_DENO = /(?: at |\()(?:ext|node):/; // How a frame of Deno's own modules looks.

function define(target, name, value) {
  Object.defineProperty(target, name, { value, writable: true, enumerable: false, configurable: true });
}

/** Deno's own Node modules look for this global when they are used; nobody else is to find it. */
function hideDeno() {
  const deno = globalThis.Deno;
  Object.defineProperty(globalThis, "Deno", {
    get: function get() {
      const { stackTraceLimit, prepareStackTrace } = Error;
      const caller = {};
      Error.stackTraceLimit = 1;
      Error.prepareStackTrace = undefined;
      Error.captureStackTrace(caller, get);
      Error.stackTraceLimit = stackTraceLimit;
      Error.prepareStackTrace = prepareStackTrace;
      return OF_DENO.test(caller.stack) ? deno : undefined;
    },
    enumerable: false,
    configurable: true,
  });
}

/** What is not permitted fails as it would in Node: it is not there, or access is refused. */
function refuseAsNodeDoes() {
  const { NotCapable } = Deno.errors;
  Object.defineProperty(NotCapable.prototype, "code", { value: "EACCES", writable: true, configurable: true });
  const { existsSync } = fs;
  fs.existsSync = function existsSync_(path) {
    try {
      return existsSync(path);
    } catch {
      return false;
    }
  };
  const { _resolveFilename } = Module;
  Module._resolveFilename = function resolveFilename(request, ...rest) {
    try {
      return Reflect.apply(_resolveFilename, this, [request, ...rest]);
    } catch (error) {
      if (!(error instanceof NotCapable)) throw error;
      throw Object.assign(new Error(`Cannot find module '${request}'`), { code: "MODULE_NOT_FOUND", requireStack: [] });
    }
  };
}

function looksLikeNode() {
  for (const name of NOT_IN_NODE) delete globalThis[name];
  for (const name of HIDDEN_VARIABLES) delete process.env[name];
  define(globalThis.navigator, "userAgent", `Node.js/${process.versions.node.split(".")[0]}`);
  delete process.versions.deno;
  define(process, "argv", ["node"]);
  process.title = "node";
}

// ---- output

/** Text that was written to a stream, as console lines of whoever wrote it. */
function writeText(level, chunk) {
  const execution = currentExecution();
  if (!execution || execution.isOver) return;
  const text = typeof chunk === "string" ? chunk : core.decode(new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength));
  const pending = (execution.unwritten ??= new Map());
  const lines = ((pending.get(level) ?? "") + text).split("\n");
  const rest = lines.pop();
  if (rest.length > LINE_MAX) lines.push(rest);
  for (const line of lines) logText(level, line);
  pending.set(level, rest.length > LINE_MAX ? "" : rest);
}

function captureStream(stream, level) {
  define(stream, "write", (chunk, encoding, callback) => {
    writeText(level, chunk);
    const done = typeof encoding === "function" ? encoding : callback;
    if (typeof done === "function") process.nextTick(done);
    return true;
  });
}

/** Loggers write to file descriptors 1 and 2 themselves. */
function captureDescriptors() {
  const levels = new Map([[1, "LOG"], [2, "ERROR"]]);
  const { write, writeSync } = fs;
  const bytesOf = (chunk, rest) => {
    if (typeof chunk === "string") return Buffer.from(chunk, typeof rest[1] === "string" ? rest[1] : "utf8");
    const [offset, length] = typeof rest[0] === "number" ? rest : [0, undefined];
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    return bytes.subarray(offset, typeof length === "number" ? offset + length : undefined);
  };
  fs.writeSync = function writeSync_(fd, chunk, ...rest) {
    if (!levels.has(fd)) return writeSync(fd, chunk, ...rest);
    const bytes = bytesOf(chunk, rest);
    writeText(levels.get(fd), bytes);
    return bytes.length;
  };
  fs.write = function write_(fd, chunk, ...rest) {
    if (!levels.has(fd)) return write(fd, chunk, ...rest);
    const bytes = bytesOf(chunk, rest);
    writeText(levels.get(fd), bytes);
    const done = rest.at(-1);
    if (typeof done === "function") process.nextTick(done, null, bytes.length, chunk);
  };
}

function installConsole() {
  setStacks(framesOf);
  const console = Object.assign(Object.create(Object.getPrototypeOf(globalThis.console)), consoleMethods);
  console.Console = nodeConsole.Console;
  define(globalThis, "console", console);
  if (nodeConsole !== console) Object.assign(nodeConsole, consoleMethods);
}

// ---- all of it

/** A timer function whose callback's exceptions are known to be those of the action that set it. */
function ownedTimer(start, uncaught) {
  const owned = function (callback, ...rest) {
    if (typeof callback !== "function") return start(callback, ...rest);
    const execution = currentExecution();
    return start(function (...args) {
      try {
        return Reflect.apply(callback, this, args);
      } catch (error) {
        uncaught(error, execution);
      }
    }, ...rest);
  };
  Object.defineProperties(owned, Object.getOwnPropertyDescriptors(start)); // Its name, and how util.promisify takes it.
  return owned;
}

/** Make this process what "use node" code expects. `codeUrl` is the folder of its modules. */
export function becomeNode(codeUrl, convex, uncaught) {
  refuseAsNodeDoes();
  hideDeno();
  looksLikeNode();
  for (const name of ["clearTimeout", "clearInterval", "clearImmediate"]) define(globalThis, name, timers[name]);
  for (const name of ["setTimeout", "setInterval", "setImmediate"]) {
    timers[name] = ownedTimer(timers[name], uncaught);
    define(globalThis, name, timers[name]);
  }
  define(globalThis, "global", globalThis);
  define(globalThis, "Buffer", Buffer);
  define(globalThis, "process", process);
  define(globalThis, "require", createRequire(new URL("index.js", codeUrl)));
  define(globalThis, "Convex", convex);
  captureStream(process.stdout, "LOG");
  captureStream(process.stderr, "ERROR");
  captureDescriptors();
  installConsole();
}
