// Which execution is running right now, and what an execution is.
//
// Many executions are interleaved in this process. Everything that user code can reach and that depends on the
// execution (clock, randomness, console, environment, the Convex global) asks `currentExecution()`.
// Rule: while the host delivers a message, `state.current` says it; in a turn of the event loop (only native
// operations such as crypto.subtle need one) the asynchronous context that V8 carries along does.

const { core } = Deno[Deno.internal];

export const state = { current: null };

const context = new core.AsyncVariable();

export function currentExecution() {
  return state.current ?? context.get();
}

export const PHASE_IMPORT = 0;
export const PHASE_RUN = 1;
export const PHASE_OVER = 2;

export class Execution {
  constructor(id, kind) {
    this.id = id;
    this.kind = kind; // "query", "mutation", "analyze" or "action"
    this.phase = PHASE_IMPORT;
    this.bundle = null;
    this.path = "";
    this.name = "";
    this.args = "";
    this.now = 0;
    this.seed = "";
    this.importNow = 0;
    this.importSeed = "";
    this.env = null; // null: reading the environment is refused
    this.missingEnvFails = false;
    this.tables = null;
    this.snapshotTs = "0";
    this.deadline = 1000;
    this.startedAt = 0;
    this.userTime = 0;
    this.observedTime = false;
    this.observedRandom = false;
    this.observedTables = false;
    this.envRead = null;
    this.componentArgs = null;

    this.random = null;
    this.importRandom = null;
    this.globals = null; // user-made globals and replaced web globals, by key
    this.stackTraceLimit = 10;
    this.prepareStackTrace = undefined;
    this.lines = null; // console lines
    this.timers = null; // console.time labels
    this.marks = null; // performance entries

    this.ops = []; // asynchronous syscalls in the order issued, not yet settled
    this.head = 0; // ops before it are settled
    this.unsent = 0; // ops from here on have not been sent
    this.sent = null; // what the parent is working on, in order
    this.early = []; // writes that were answered before they were sent
    this.earlyMax = 0;
    this.streams = [];
    this.closedStreams = null; // [id, count, reachedEnd] not yet reported

    this.settled = 0; // 1 fulfilled, 2 rejected
    this.value = undefined;
    this.fatal = null; // a failure that user code cannot catch
    this.watched = false; // already in the list of executions to look at
    this.asyncContext = null;
  }
}

const emptyContext = core.getAsyncContext();

/** Run a step in the context of an execution that shares the event loop with others: an action. */
export function within(execution, step) {
  const before = core.getAsyncContext();
  if (execution.asyncContext === null) {
    core.setAsyncContext(emptyContext);
    context.enter(execution);
    execution.asyncContext = core.getAsyncContext();
  } else {
    core.setAsyncContext(execution.asyncContext);
  }
  try {
    return step(execution);
  } finally {
    core.setAsyncContext(before);
  }
}

/** Make `execution` the one that is running; pairs with `leave`. */
export function enter(execution) {
  state.current = execution;
  if (execution.asyncContext === null) {
    core.setAsyncContext(emptyContext);
    context.enter(execution);
    execution.asyncContext = core.getAsyncContext();
  } else {
    core.setAsyncContext(execution.asyncContext);
  }
  if (Error.stackTraceLimit !== execution.stackTraceLimit) Error.stackTraceLimit = execution.stackTraceLimit;
}

export function leave(execution) {
  state.current = null;
  core.setAsyncContext(emptyContext);
  if (Error.stackTraceLimit !== 10) {
    execution.stackTraceLimit = Error.stackTraceLimit;
    Error.stackTraceLimit = 10;
  }
}
