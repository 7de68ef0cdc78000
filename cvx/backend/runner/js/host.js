// The child's main loop: read a frame, deliver its messages, write a frame. Synchronous.
//
// Rule: user code runs only inside `deliver`, with its execution entered; microtasks are drained after every
// delivery, so an execution stands still between two of them. Only when native work is under way (crypto.subtle,
// promise rejections to report) is the event loop allowed a turn before the next blocking read.
// A frame is a 4-byte little-endian length, UTF-8 lines and a last line feed; each message is a JSON header line and then as many raw
// payload lines as the header says. The parent's half is runner/messages.py.

import { closureOf, addBundle, addSource, forgetBundle, instantiate, ModuleError, moduleRecordsMade, setRealm, setSharing } from "./modules.js";
import { enter, Execution, leave, PHASE_OVER, PHASE_RUN, currentExecution } from "./state.js";
import { answerWritesEarly, closeAllStreams, Page, receive, Rejection, setAttention, settleBatch, takeEarly, takeUnsent } from "./syscalls.js";
import { failureOf, isFrozenRealmError } from "./errors.js";
import { describe } from "./analyze.js";
import { exportedFunction } from "./exported.js";
import { headerLine, oneLine } from "./json_lines.js";
import { rememberRealm, takeOver } from "./realm.js";
import { realNow } from "./determinism.js";
import { beginStretch, computedSince } from "./cpu_time.js";

const { core } = Deno[Deno.internal];
const { op_exit, op_set_exit_code } = core.ops;
const soon = setImmediate;

/** Deno.exit would dispatch an event first, through globals that are no longer there. */
function exit(code) {
  op_set_exit_code(code);
  op_exit();
}
const hardened = !Deno.args.includes("--open-realm");
const FLUSH_AFTER_MS = 1;
const TURN_EVERY_MS = 50;
const memoryUsage = core.memoryUsage;
const REPORT_MEMORY_EVERY = 64;
const REPORT_RECORDS_EVERY = 32;

// ---- frames

let input = new Uint8Array(1 << 16);
let held = 0; // bytes of `input` that have been read and not used
let output = new Uint8Array(1 << 16);

/** The lines of the next frame, or null when the parent is gone. Blocks. */
function readFrame() {
  let need = 4;
  let length = -1;
  for (;;) {
    if (length < 0 && held >= 4) {
      length = (input[0] | (input[1] << 8) | (input[2] << 16) | (input[3] << 24)) >>> 0;
      need = 5 + length;
      if (need > input.length) grow(need);
    }
    if (length >= 0 && held >= need) break;
    const read = core.readSync(0, input.subarray(held));
    if (read === 0) return null;
    held += read;
  }
  const text = core.decode(input.subarray(4, need - 1));
  input.copyWithin(0, need, held);
  held -= need;
  if (held === 0 && input.length > 1 << 22) input = new Uint8Array(1 << 16);
  return text.split("\n");
}

function grow(size) {
  const larger = new Uint8Array(Math.max(size, input.length * 2));
  larger.set(input.subarray(0, held));
  input = larger;
}

const encoder = new TextEncoder();
const encodeInto = encoder.encodeInto.bind(encoder);
let outgoing = [];
let flushedAt = 0;
let turnedAt = 0;

function flush() {
  flushedAt = realNow();
  if (outgoing.length === 0) return;
  const text = outgoing.join("\n");
  outgoing = [];
  if (text.length * 3 + 5 > output.length) output = new Uint8Array(text.length * 3 + 5);
  const { written } = encodeInto(text, output.subarray(4));
  output[0] = written & 0xff;
  output[1] = (written >> 8) & 0xff;
  output[2] = (written >> 16) & 0xff;
  output[3] = written >>> 24;
  output[written + 4] = 10; // Standard output is buffered by line: so it is one write.
  let at = 0;
  while (at < written + 5) at += core.writeSync(1, output.subarray(at, written + 5));
  if (output.length > 1 << 22) output = new Uint8Array(1 << 16);
}

function flushWhenDue() {
  if (outgoing.length > 0 && realNow() - flushedAt > FLUSH_AFTER_MS) flush();
}

const send = (header, lines) => {
  outgoing.push(headerLine(header));
  if (lines !== undefined) for (const line of lines) outgoing.push(line);
};

// ---- executions

const executions = new Map();
const waitingForSource = new Map(); // bundle key → executions
const reportedClosures = new Set();
const environments = new Map();
const tableMaps = new Map();
let watched = []; // executions with something to look at that no delivery is looking at
let finished = 0;
let recordsReported = 0;

setAttention((execution) => {
  if (!execution.watched && execution !== delivering) {
    execution.watched = true;
    watched.push(execution);
  }
});

let delivering = null;

/** Run `step` as `execution`, drain microtasks, and go on as far as it can without the parent. */
function deliver(execution, step) {
  const before = beginStretch();
  delivering = execution;
  enter(execution);
  try {
    step(execution);
    core.runMicrotasks();
    while (execution.settled !== 2 && execution.fatal === null && settleNext(execution)) {
      core.runMicrotasks();
      if (realNow() - before > execution.deadline) break;
    }
  } catch (error) {
    execution.settled = 2;
    execution.value = error;
  }
  leave(execution);
  delivering = null;
  execution.userTime += computedSince(before);
  look(execution);
}

function settleNext(execution) {
  return settleBatch(execution) || (answerWritesEarly(execution) && settleBatch(execution));
}

/** Decide what comes next for an execution that stands still. */
function look(execution) {
  if (execution.phase === PHASE_OVER) return;
  if (execution.userTime > execution.deadline) {
    const seconds = execution.deadline / 1000;
    const message = `Function execution timed out (maximum duration: ${seconds}s)`;
    return finish(execution, { message, frames: "", kind: "timeout" });
  }
  if (execution.fatal !== null) return finish(execution, execution.fatal);
  if (execution.settled === 2) {
    return finish(execution, userFailure(execution, execution.value));
  }
  if (execution.sent !== null) return;
  const unsent = takeUnsent(execution);
  if (unsent !== null) {
    const closed = execution.closedStreams ?? 0;
    execution.closedStreams = null;
    const early = takeEarly(execution, unsent.lines);
    return send(["s", execution.id, unsent.headers, closed, early, execution.lines?.length ?? 0], unsent.lines);
  }
  if (execution.head < execution.ops.length) return deliver(execution, () => {});
  if (core.eventLoopHasMoreWork()) {
    // Native work, or a rejection nobody has handled: known after a turn of the event loop.
    if (!execution.watched) {
      execution.watched = true;
      watched.push(execution);
    }
    return;
  }
  if (execution.settled === 1) return finish(execution, null);
  finish(execution, { message: "Uncaught Error: Returned promise will never resolve", frames: "", kind: "user" });
}

function userFailure(execution, thrown) {
  enter(execution);
  try {
    const failure = failureOf(thrown, ModuleError);
    if (hardened && isFrozenRealmError(thrown)) failure.frozen = 1;
    return failure;
  } finally {
    leave(execution);
  }
}

function finish(execution, failure) {
  execution.phase = PHASE_OVER;
  executions.delete(execution.id);
  closeAllStreams(execution);
  const lines = [];
  let error = 0;
  if (failure !== null) {
    const data = failure.data ?? null;
    error = [failure.message, failure.frames, failure.kind ?? "user", data === null ? 0 : 1, failure.frozen ?? 0];
    if (data !== null) lines.push(oneLine(data));
  } else {
    lines.push(oneLine(String(execution.value)));
  }
  const observed = (execution.observedTime ? 1 : 0) | (execution.observedRandom ? 2 : 0) | (execution.observedTables ? 4 : 0);
  const closed = execution.closedStreams ?? 0;
  const env = execution.envRead === null ? 0 : [...execution.envRead];
  const early = takeEarly(execution, lines);
  const time = Math.round(execution.userTime * 1000) / 1000;
  send(["d", execution.id, time, observed, env, closed, execution.lines ?? 0, error, early], lines);
  if (++finished % REPORT_MEMORY_EVERY === 0 || moduleRecordsMade() - recordsReported > REPORT_RECORDS_EVERY) {
    recordsReported = moduleRecordsMade();
    const memory = memoryUsage();
    send(["m", memory.heapUsed, memory.external]);
  }
  if (restore !== null && !restore()) {
    flush();
    exit(0); // Something cannot be put back: the parent starts another child.
  }
}

core.setUnhandledPromiseRejectionHandler((_promise, reason) => {
  const execution = currentExecution();
  if (execution && execution.phase !== PHASE_OVER && execution.settled !== 2) {
    execution.settled = 2;
    execution.value = reason;
    if (!execution.watched) {
      execution.watched = true;
      watched.push(execution);
    }
  }
  return true;
});

// ---- messages

function load(execution) {
  const { closure, unasked } = closureOf(execution.bundle, execution.path);
  if (unasked !== undefined) {
    if (!waitingForSource.has(execution.bundle)) waitingForSource.set(execution.bundle, []);
    waitingForSource.get(execution.bundle).push(execution);
    if (unasked.length > 0) send(["n", execution.id, execution.bundle, unasked]);
    return null;
  }
  const id = `${execution.bundle} ${execution.path}`;
  if (!reportedClosures.has(id)) {
    reportedClosures.add(id);
    send(["c", execution.bundle, execution.path, closure.paths]);
  }
  return closure;
}

function start(execution) {
  let closure;
  try {
    closure = load(execution);
  } catch (error) {
    if (!(error instanceof ModuleError)) throw error;
    return finish(execution, { message: `Uncaught Error: ${error.message}`, frames: "", kind: "user" });
  }
  if (closure === null) return;
  deliver(execution, execution.kind === "analyze" ? () => analyze(execution, closure) : () => invoke(execution, closure));
}

function invoke(execution, closure) {
  execution.startedAt = realNow();
  const namespace = instantiate(closure);
  if (execution.settled === 2) return;
  const found = exportedFunction(namespace, execution);
  execution.phase = PHASE_RUN;
  const promise = execution.kind === "query" ? found.invokeQuery(execution.args) : found.invokeMutation(execution.args);
  Promise.resolve(promise).then(
    (value) => {
      if (execution.settled !== 0) return;
      execution.settled = 1;
      execution.value = value;
      noticed(execution);
    },
    (error) => {
      if (execution.settled === 2) return;
      execution.settled = 2;
      execution.value = error;
      noticed(execution);
    },
  );
}

/** It settled outside a delivery: somebody must look. */
function noticed(execution) {
  if (delivering === execution || execution.watched) return;
  execution.watched = true;
  watched.push(execution);
}

function analyze(execution, closure) {
  const namespace = instantiate(closure);
  execution.value = describe(execution.name, execution.path, namespace, closure);
  execution.settled = 1;
}

function tableMap(text) {
  return new Map(Object.entries(JSON.parse(text)));
}

const handlers = {
  // A call: its header holds all but the arguments.
  call(header, line) {
    const [, id, kind, bundle, path, name, env, tables, now, seed, importNow, importSeed, snapshotTs, deadline, earlyMax, componentArgs] = header;
    const execution = new Execution(id, kind);
    execution.bundle = bundle;
    execution.path = path;
    execution.name = name;
    execution.args = `[${line()}]`;
    execution.env = environments.get(env) ?? null;
    execution.tables = tableMaps.get(tables) ?? null;
    execution.now = now;
    execution.seed = seed;
    execution.importNow = importNow;
    execution.importSeed = importSeed;
    execution.snapshotTs = snapshotTs;
    execution.deadline = deadline;
    execution.earlyMax = earlyMax;
    execution.componentArgs = componentArgs ? line() : null;
    executions.set(id, execution);
    start(execution);
  },
  // Look at a module: `mode` is module, schema, auth or definition.
  analyze([, id, mode, bundle, path, env, importNow, importSeed, deadline]) {
    const execution = new Execution(id, "analyze");
    execution.bundle = bundle;
    execution.path = path;
    execution.name = mode;
    execution.env = mode === "schema" ? null : environments.get(env) ?? {};
    execution.missingEnvFails = mode === "auth";
    execution.importNow = importNow;
    execution.importSeed = importSeed;
    execution.deadline = deadline;
    executions.set(id, execution);
    start(execution);
  },
  // The answers to all that an execution sent: 0 (a result), [message, hasData], {p: documents, d: done},
  // or {t: 1} (the tables that there are from now on, and a result).
  results([, id, kinds], line) {
    const execution = executions.get(id);
    const answers = kinds.map((kind) => {
      if (kind === 0) return line();
      if (kind.t === 1) {
        const tables = tableMap(line());
        if (execution !== undefined) execution.tables = tables;
        return line();
      }
      if (Array.isArray(kind)) return new Rejection(kind[0], kind[1] ? line() : null);
      const documents = new Array(kind.p);
      for (let i = 0; i < kind.p; i++) documents[i] = line();
      return new Page(documents, kind.d === 1);
    });
    if (execution === undefined || execution.sent === null) return;
    deliver(execution, () => receive(execution, answers));
  },
  // The parent has given up on an execution.
  drop([, id]) {
    const execution = executions.get(id);
    if (execution === undefined) return;
    execution.phase = PHASE_OVER;
    executions.delete(id);
    if (restore !== null) restore();
  },
  env([, number], line) {
    environments.set(number, Object.assign(Object.create(null), JSON.parse(line())));
  },
  tables([, number], line) {
    tableMaps.set(number, tableMap(line()));
  },
  unset([, env, tables]) {
    env.forEach((number) => environments.delete(number));
    tables.forEach((number) => tableMaps.delete(number));
  },
  bundle([, key], line) {
    addBundle(key, JSON.parse(line()));
  },
  source([, sha, path, hasMap], line) {
    addSource(sha, path, JSON.parse(line()), hasMap ? line() : null);
  },
  // All sources that one "n" asked for have been sent; what still misses others waits on.
  sources([, key]) {
    const waiting = waitingForSource.get(key) ?? [];
    waitingForSource.delete(key);
    for (const execution of waiting) {
      if (execution.phase !== PHASE_OVER) start(execution);
      flushWhenDue(); // Many may have waited, and silence is taken for a loop.
    }
  },
  forget([, key]) {
    forgetBundle(key);
    for (const id of reportedClosures) if (id.startsWith(`${key} `)) reportedClosures.delete(id);
  },
};

// ---- the loop

function lookAtWatched() {
  const list = watched;
  watched = [];
  for (const execution of list) execution.watched = false;
  for (const execution of list) {
    if (execution.phase === PHASE_OVER) continue;
    look(execution);
  }
}

/** Runs until there is something only the event loop can do, then asks to be called again after a turn of it. */
function loop() {
  for (;;) {
    if (watched.length > 0) {
      lookAtWatched();
      flush();
      if (watched.length > 0) {
        soon(loop);
        return;
      }
    }
    if (core.eventLoopHasMoreWork()) {
      flush();
      soon(loop);
      return;
    }
    flush();
    if (flushedAt - turnedAt > TURN_EVERY_MS) {
      turnedAt = flushedAt; // V8 frees what finalizers hold (module records, buffers) in turns of the loop only.
      soon(loop);
      return;
    }
    const lines = readFrame();
    if (lines === null) exit(0);
    flushedAt = realNow();
    let at = 0;
    const line = () => lines[at++];
    while (at < lines.length) {
      const header = JSON.parse(lines[at++]);
      try {
        handlers[header[0]](header, line);
      } catch (error) {
        failed(header, error);
      }
      flushWhenDue();
    }
  }
}

/** A fault of this host while it handled a message: it ends the call, not the process. */
function failed(header, error) {
  const execution = executions.get(header[1]);
  if (execution === undefined) throw error;
  finish(execution, { message: `The function runner failed: ${String(error)}`, frames: "", kind: "system" });
}

let restore = null;

function main() {
  setSharing(hardened);
  const shared = takeOver(hardened);
  setRealm(shared);
  if (!hardened) restore = rememberRealm(shared);
  send(["hello", 1]);
  loop();
}

soon(main); // After this module: Deno tells a program that it has loaded, through globals that `main` removes.
