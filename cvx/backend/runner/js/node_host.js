// The main loop of a child that runs "use node" actions, as Node would.
//
// Unlike the other hosts, this one hides nothing: modules are files that the loader imports once, their state stays
// while the process is warm, and everything of Node and of the web is there. So what an action leaves behind (timers,
// sockets, promises) may go on after it; it can then neither log nor ask the parent for anything.
// Rule: a console line or an operation belongs to the action in whose asynchronous context it happens, operations
// also to the request id that npm's `convex` hands back; what belongs to none that is running is dropped or refused.
// Arguments: the number of the sockets to read from and write to, the folder of the code (a file: URL), "packages".
// Source: reference/runtime-and-database.md §1.4–§1.6, §3.7, §3.8; frames: action_wire.js; docs/adr/0010.

import { Duplex } from "node:stream";
import net from "node:net";
import process from "node:process";
import { ActionExecution, noteEveryTurn, RETURNED } from "./action_state.js";
import { answered, answerOf, makeActionConvex, underWay } from "./action_syscalls.js";
import { config, flush, readFrames, send, streamHandlers, useChannel } from "./action_wire.js";
import { describe } from "./analyze.js";
import { RealDate, realNow } from "./determinism.js";
import { failureOf } from "./errors.js";
import { exportedFunction } from "./exported.js";
import { oneLine } from "./json_lines.js";
import { ModuleError } from "./modules.js";
import { becomeNode } from "./node_globals.js";
import { framesOf, moduleSources, setCodeFolder } from "./node_sources.js";
import { currentExecution, PHASE_OVER, PHASE_RUN } from "./state.js";
import { withCode } from "./syscalls.js";

const { core } = Deno[Deno.internal];
const { op_exit, op_set_exit_code } = core.ops;
const [readFd, writeFd, codeUrl] = Deno.args;

function exit(code) {
  op_set_exit_code(code);
  op_exit();
}

// ---- the parent, over sockets that user code does not meet by accident

function openChannel() {
  const incoming = new net.Socket({ fd: Number(readFd), readable: true, writable: true });
  const outgoing = new net.Socket({ fd: Number(writeFd), readable: true, writable: true });
  const chunks = [];
  let wake = null;
  let ended = false;
  const woken = () => {
    wake?.();
    wake = null;
  };
  incoming.on("data", (chunk) => {
    chunks.push(chunk);
    woken();
  });
  for (const event of ["end", "close", "error"]) {
    incoming.on(event, () => {
      ended = true;
      woken();
    });
  }
  outgoing.on("error", () => exit(0)); // The parent is gone.
  const write = Duplex.prototype.write.bind(outgoing);
  return {
    async read(into) {
      while (chunks.length === 0 && !ended) await new Promise((resolve) => (wake = resolve));
      if (chunks.length === 0) return 0;
      const [chunk] = chunks;
      const size = Math.min(chunk.length, into.length);
      into.set(chunk.subarray(0, size));
      if (size === chunk.length) chunks.shift();
      else chunks[0] = chunk.subarray(size);
      return size;
    },
    write(bytes) {
      write(bytes.slice());
      return bytes.length;
    },
  };
}

// ---- executions

const executions = new Map(); // number → execution
const byRequest = new Map(); // request id → execution
let imports = 0;

/** The module's exports. A module that fails to load stays failed, so the parent gives up this process. */
async function load(path) {
  imports++;
  return await import(new URL(encodeURI(path), codeUrl).href);
}

async function run(execution) {
  const namespace = await load(execution.path);
  if (execution.isOver) return;
  if (execution.mode === "analyze") {
    execution.value = describe("module", execution.path, namespace, { order: moduleSources(execution.path) });
    return;
  }
  const found = exportedFunction(namespace, execution);
  execution.phase = PHASE_RUN;
  execution.value = `${await found.invokeAction(execution.requestId, execution.args)}`;
}

function begin(execution) {
  executions.set(execution.id, execution);
  byRequest.set(execution.requestId, execution);
  if (executions.size === 2) noteEveryTurn(true, currentExecution);
  execution.finish = finish;
  execution.startedAt = realNow();
  execution.lines = new LiveLines(execution);
  execution.within(() => {
    run(execution).then(() => finish(execution, RETURNED), (error) => finish(execution, error));
  });
}

/** The end: `RETURNED`, or what user code threw (anything, `null` too), or a `failure` of ours. */
function finish(execution, thrown, failure = null) {
  if (execution.isOver) return;
  const returned = thrown === RETURNED && failure === null;
  const dropped = returned ? underWay(execution) : new Map();
  failure ??= returned ? null : execution.within(() => failureOf(thrown, ModuleError, framesOf));
  over(execution);
  for (const [name, count] of dropped) warnOfDropped(execution, name, count);
  const lines = [];
  let error = 0;
  if (failure !== null) {
    const data = failure.data ?? null;
    const suspicious = execution.uncaught || execution.phaseReached !== PHASE_RUN ? 2 : 0;
    error = [failure.message, failure.frames, failure.kind ?? "user", data === null ? 0 : 1, suspicious];
    if (data !== null) lines.push(oneLine(data));
  } else {
    lines.push(oneLine(execution.value));
  }
  const time = Math.round((realNow() - execution.startedAt) * 1000) / 1000;
  const { heapUsed, external } = core.memoryUsage();
  send(["d", execution.id, time, heapUsed + external, error, lines.length], lines);
  send(["m", heapUsed, external, imports]);
}

function over(execution) {
  execution.phaseReached = execution.phase;
  execution.phase = PHASE_OVER;
  executions.delete(execution.id);
  byRequest.delete(execution.requestId);
  if (executions.size === 1) noteEveryTurn(false, currentExecution);
  for (const stream of execution.streams_) stream.stop();
  execution.streams_.clear();
  execution.operations.clear();
}

function warnOfDropped(execution, name, count) {
  const text = `${count} unawaited operation${count === 1 ? "" : "s"}: [${name}]. `
    + "An action must await what it starts: when it returns, what is still under way is dropped and may not have happened. "
    + "See https://docs.convex.dev/functions/actions#dangling-promises";
  send(["log", execution.id, "WARN", [text], false, RealDate.now(), "UnawaitedOperations"]);
}

/** Console lines of an action: sent as they are written (console.js counts and adds them). */
class LiveLines {
  constructor(execution) {
    this.execution = execution;
    this.length = 0;
  }

  push([level, messages, truncated, at]) {
    if (this.execution.isOver) return;
    this.length++;
    send(["log", this.execution.id, level, messages, truncated, at, null]);
  }
}

/**
 * What nobody caught fails the action that it comes from, nobody when that has ended already; if it cannot be told, all
 * that are running here.
 */
function uncaught(error, execution = currentExecution()) {
  const guilty = execution ? [execution] : [...executions.values()];
  for (const each of guilty) {
    each.uncaught = true;
    each.threw(error);
  }
  flush();
}

function listenForUncaught() {
  core.setUnhandledPromiseRejectionHandler((promise, reason) => {
    if (process.listenerCount("unhandledRejection") > 0) process.emit("unhandledRejection", reason, promise);
    else uncaught(reason);
    return true;
  });
  core.setReportExceptionCallback((error) => {
    if (process.listenerCount("uncaughtException") > 0) process.emit("uncaughtException", error, "uncaughtException");
    else uncaught(error);
  });
  process.exit = function exit_(code) {
    const error = new Error(`process.exit(${code ?? process.exitCode ?? 0}) was called: an action must return or throw`);
    uncaught(error);
    throw error;
  };
  process.abort = process.reallyExit = process.exit;
}

// ---- what npm's `convex` calls

/** The Convex global, where an operation may also name its action by the request id it was started with. */
function makeConvex() {
  const convex = makeActionConvex();
  const owner = (requestId) => {
    if (typeof requestId !== "string" || requestId === "") return null;
    const execution = byRequest.get(requestId);
    if (execution !== undefined) return execution;
    const message = "This `ctx` belongs to an action that has ended. Use the `ctx` that the running action was given, and do not "
      + "keep one in a variable outside of it";
    throw withCode(new Error(message), "ActionHasEnded");
  };
  const requestIdOf = (text) => {
    try {
      return JSON.parse(text)?.requestId;
    } catch {
      return undefined; // `makeActionConvex` complains.
    }
  };
  const as = (execution, step) => (execution === null ? step() : execution.within(step));
  return Object.freeze({
    syscall: (op, args) => as(owner(requestIdOf(args)), () => convex.syscall(op, args)),
    async asyncSyscall(op, args) {
      const execution = owner(requestIdOf(args));
      return await as(execution, () => convex.asyncSyscall(op, args));
    },
    jsSyscall: (op, args) => as(owner(args?.requestId), () => convex.jsSyscall(op, args)),
  });
}

// ---- messages

function executionOf(id, path, name, requestId) {
  const execution = new ActionExecution(id);
  execution.path = path;
  execution.name = name;
  execution.requestId = requestId;
  execution.mode = "run";
  execution.uncaught = false;
  execution.phaseReached = null;
  return execution;
}

let environment = null;

const handlers = {
  ...streamHandlers,
  config(_, line) {
    Object.assign(config, JSON.parse(line()));
  },
  // One environment for the life of this process: another one is another process (runner/node_pool.py).
  env(_, line) {
    if (environment !== null) return;
    environment = JSON.parse(line());
    for (const [name, value] of Object.entries(environment)) process.env[name] = value;
  },
  action([, id, , path, name, , , , requestId, , hasComponentArgs], line) {
    const execution = executionOf(id, path, name, `${requestId}:${id}`);
    execution.args = `[${line()}]`;
    execution.componentArgs = hasComponentArgs ? line() : null;
    begin(execution);
  },
  // What a module exports, for a push.
  analyze([, id, path]) {
    const execution = executionOf(id, path, "", `analyze:${id}`);
    execution.mode = "analyze";
    begin(execution);
  },
  answer([, id, number, kind], line) {
    answered(executions.get(id), number, answerOf(kind, line));
  },
  // The parent has given up on an action, and on this process as soon as no other runs in it.
  cancel([, id]) {
    const execution = executions.get(id);
    if (execution !== undefined) over(execution);
  },
  ping([, number]) {
    send(["pong", number]);
    flush();
  },
  bundle(_, line) {
    line();
  },
  forget() {},
  unset() {},
};

function take(lines) {
  let at = 0;
  const line = () => lines[at++];
  while (at < lines.length) {
    const header = JSON.parse(lines[at++]);
    handlers[header[0]](header, line);
  }
}

useChannel(openChannel());
setCodeFolder(codeUrl);
becomeNode(codeUrl, makeConvex(), uncaught);
listenForUncaught();
send(["hello", 1]);
flush();
readFrames(take).then(() => exit(0), () => exit(1));
