// The main loop of a child that runs actions. Asynchronous: many run beside each other, and wait for the network.
//
// As in queries, the realm is frozen, every execution has its own module instances and its own globals (realm.js); here
// they are found through the asynchronous context. An action ends when its handler does, whatever else it has begun:
// timers are cleared, requests aborted, operations dropped with a warning. The parent ends one by saying "cancel".
// Rule: nothing is ever started again, except when an action failed before it did anything that could be noticed.
// Source: reference/runtime-and-database.md §1.4–§1.6, §1.10, §3.7; frames: action_wire.js.

import { addBundle, addSource, closureOf, forgetBundle, instantiate, ModuleError, moduleRecordsMade, resolve, setRealm, setSharing } from "./modules.js";
import { currentExecution, PHASE_OVER, PHASE_RUN } from "./state.js";
import { actionWorld, stopAllTimers } from "./action_globals.js";
import { ActionExecution, noteEveryTurn, RETURNED } from "./action_state.js";
import { answered, answerOf, underWay } from "./action_syscalls.js";
import { config, flush, Incoming, Outgoing, readFrames, send, streamHandlers } from "./action_wire.js";
import { exportedFunction } from "./exported.js";
import { failureOf, isFrozenRealmError } from "./errors.js";
import { oneLine } from "./json_lines.js";
import { rememberRealm, takeOver } from "./realm.js";
import { realNow, RealDate } from "./determinism.js";

const { core } = Deno[Deno.internal];
const { op_exit, op_set_exit_code } = core.ops;
const soon = setImmediate;
const hardened = !Deno.args.includes("--open-realm");
const memoryUsage = core.memoryUsage;

/** Deno.exit would dispatch an event first, through globals that are no longer there. */
function exit(code) {
  op_set_exit_code(code);
  op_exit();
}

const executions = new Map();
const environments = new Map();
const waitingForSource = new Map(); // bundle key → callbacks
let restore = null;

// ---- modules

/** The closure of a module, when its sources are here. */
async function closureFor(execution, path) {
  for (;;) {
    const { closure, unasked } = closureOf(execution.bundle, path);
    if (closure !== undefined) return closure;
    const arrived = new Promise((resolve_) => {
      if (!waitingForSource.has(execution.bundle)) waitingForSource.set(execution.bundle, []);
      waitingForSource.get(execution.bundle).push(resolve_);
    });
    if (unasked.length > 0) send(["n", execution.id, execution.bundle, unasked]);
    await arrived;
  }
}

/** `import()` in a module of this action. The same module is the same instance, however it is imported. */
function importer(execution) {
  const { namespaces } = execution.loader;
  const load = async (specifier, from) => {
    let path;
    try {
      path = resolve(`${specifier}`, from);
      if (!namespaces.has(path)) {
        const loading = closureFor(execution, path).then((closure) => execution.within(() => instantiate(closure, execution.loader)));
        namespaces.set(path, loading);
      }
      return await namespaces.get(path);
    } catch (error) {
      if (error instanceof ModuleError) throw new TypeError(error.message);
      throw error;
    }
  };
  return (path) => Object.assign((specifier) => load(specifier, path), { meta: Object.freeze(Object.create(null)) });
}

// ---- running

async function run(execution) {
  execution.loader.importer = importer(execution);
  const closure = await closureFor(execution, execution.path);
  if (execution.isOver) return;
  execution.startedAt = realNow();
  const namespace = instantiate(closure, execution.loader);
  if (execution.request !== null) return await runHttp(execution, namespace);
  const found = exportedFunction(namespace, execution);
  execution.phase = PHASE_RUN;
  execution.value = `${await found.invokeAction(execution.requestId, execution.args)}`;
}

async function runHttp(execution, namespace) {
  const router = namespace.default;
  if (router?.isRouter !== true) throw new ModuleError(`The default export of '${execution.path}' is not a Router: make it with httpRouter()`);
  execution.phase = PHASE_RUN;
  const { method, url, headers, stream } = execution.request;
  const route = router.lookup(execution.request.path ?? new URL(url).pathname, method);
  if (route === null) {
    execution.response = new Response("No matching routes found", { status: 404 });
  } else {
    const convexJson = { url, method, headerPairs: headers, streamId: stream === null ? null : stream.number, signal: 0 };
    await router.runRequest(JSON.stringify(convexJson), route[2]);
  }
  if (execution.isOver) return;
  await respond(execution, execution.response);
}

async function respond(execution, response) {
  const { body } = response;
  const out = body === null ? null : new Outgoing();
  send(["head", execution.id, response.status, [...response.headers], out === null ? 0 : out.number]);
  execution.acted = true;
  if (out === null) return;
  execution.streams_.add(out);
  await out.pump(body);
}

function begin(execution) {
  executions.set(execution.id, execution);
  execution.finish = finish;
  execution.within(() => {
    run(execution).then(() => finish(execution, RETURNED), (error) => finish(execution, error));
  });
}

/** The end: `RETURNED`, or what user code threw (anything, `null` too), or a `failure` of ours. */
function finish(execution, thrown, failure = null) {
  if (execution.isOver) return;
  const returned = thrown === RETURNED && failure === null;
  const dropped = returned ? underWay(execution) : new Map();
  failure ??= returned ? null : execution.within(() => failureOf(thrown, ModuleError));
  let touched = 0; // 1: it tried to change what actions share, and had done nothing else yet; 2: it had
  if (hardened && isFrozenRealmError(thrown)) touched = execution.acted ? 2 : 1;
  over(execution);
  if (dropped.size > 0) warnOfDropped(execution, dropped);
  const intact = restore === null || restore();
  if (!intact) send(["bye"]); // Something cannot be put back: the parent gives this child nothing more.
  const lines = [];
  let error = 0;
  if (failure !== null) {
    const data = failure.data ?? null;
    error = [failure.message, failure.frames, failure.kind ?? "user", data === null ? 0 : 1, touched];
    if (data !== null) lines.push(oneLine(data));
  } else if (execution.request === null) {
    lines.push(oneLine(execution.value));
  }
  const time = Math.round((realNow() - (execution.startedAt || realNow())) * 1000) / 1000;
  const memory = memoryUsage();
  send(["d", execution.id, time, memory.heapUsed + memory.external, error, lines.length], lines);
  send(["m", memory.heapUsed, memory.external, moduleRecordsMade()]);
  if (!intact) {
    flush();
    exit(0);
  }
}

/** Nothing that belongs to this action goes on. */
function over(execution) {
  execution.phase = PHASE_OVER;
  executions.delete(execution.id);
  stopAllTimers(execution);
  for (const stream of execution.streams_) stream.stop();
  execution.streams_.clear();
  execution.operations.clear();
  execution.within(() => execution.ended.abort(new DOMException("The action has ended", "AbortError")));
}

function warnOfDropped(execution, dropped) {
  let total = 0;
  const names = [];
  for (const [name, count] of dropped) {
    total += count;
    for (let i = 0; i < count && names.length < 20; i++) names.push(name);
  }
  const list = names.join(", ") + (total > names.length ? ", …" : "");
  const text = `${total} unawaited operation${total === 1 ? "" : "s"}: [${list}]. `
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
    this.length++;
    if (this.execution.isOver) return;
    this.execution.acted = true;
    send(["log", this.execution.id, level, messages, truncated, at, null]);
  }
}

core.setUnhandledPromiseRejectionHandler((_promise, reason) => {
  currentExecution()?.threw?.(reason);
  return true;
});

// ---- messages

const handlers = {
  ...streamHandlers,
  config(_, line) {
    Object.assign(config, JSON.parse(line()));
  },
  action([, id, bundle, path, name, env, importNow, importSeed, requestId, request, hasComponentArgs], line) {
    const execution = new ActionExecution(id);
    execution.bundle = bundle;
    execution.path = path;
    execution.name = name;
    execution.env = environments.get(env) ?? null;
    execution.importNow = importNow;
    execution.importSeed = importSeed;
    execution.requestId = requestId;
    execution.args = `[${line()}]`;
    execution.componentArgs = hasComponentArgs ? line() : null;
    execution.lines = new LiveLines(execution);
    if (request !== 0) {
      const [method, url, headers, stream, path] = request;
      execution.request = { method, url, headers, path: path === 0 ? null : path, stream: stream === 0 ? null : new Incoming(stream) };
      if (stream !== 0) execution.streams_.add(execution.request.stream);
    }
    begin(execution);
  },
  answer([, id, number, kind], line) {
    answered(executions.get(id), number, answerOf(kind, line));
  },
  // The parent has given up on an action: its client is gone, its time is over, it is not wanted any more.
  cancel([, id]) {
    const execution = executions.get(id);
    if (execution === undefined) return;
    execution.within(() => execution.clientGone.abort(new DOMException("The client is gone", "AbortError")));
    over(execution);
    if (restore !== null) exit(0);
  },
  ping([, number]) {
    send(["pong", number]);
    flush();
  },
  env([, number], line) {
    environments.set(number, Object.assign(Object.create(null), JSON.parse(line())));
  },
  unset([, env]) {
    env.forEach((number) => environments.delete(number));
  },
  bundle([, key], line) {
    addBundle(key, JSON.parse(line()));
  },
  source([, sha, path, hasMap], line) {
    addSource(sha, path, JSON.parse(line()), hasMap ? line() : null);
  },
  sources([, key]) {
    const waiting = waitingForSource.get(key) ?? [];
    waitingForSource.delete(key);
    for (const arrived of waiting) arrived();
  },
  forget([, key]) {
    forgetBundle(key);
  },
};

function take(lines) {
  if (Error.stackTraceLimit !== 10) Error.stackTraceLimit = 10; // One for all: V8 reads it as a plain property.
  let at = 0;
  const line = () => lines[at++];
  while (at < lines.length) {
    const header = JSON.parse(lines[at++]);
    handlers[header[0]](header, line);
  }
}

async function main() {
  setSharing(hardened);
  const shared = takeOver(hardened, actionWorld);
  setRealm(shared);
  if (!hardened) restore = rememberRealm(shared);
  noteEveryTurn(currentExecution);
  send(["hello", 1]);
  flush();
  await readFrames(take);
  exit(0);
}

soon(main); // After this module: Deno tells a program that it has loaded, through globals that `main` removes.
