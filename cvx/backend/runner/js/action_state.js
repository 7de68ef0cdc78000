// An action that is running, and who runs right now.
//
// Actions are interleaved by the event loop, so nothing here says "the current one" but the asynchronous context that
// V8 carries along promises, and Deno along timers and its own operations (state.js reads it).
// Rule: whoever begins to run, and was not the one before, is noted on standard error, which is a file that only the
// parent reads, and only when this process seems stuck or had to be ended: the last note says whose turn it was.

import { Execution, PHASE_OVER, PHASE_RUN, within } from "./state.js";

/** How an action ended that threw nothing: user code may throw whatever value there is, `null` and `undefined` too. */
export const RETURNED = Symbol("returned");

const { core } = Deno[Deno.internal];
const encoder = new TextEncoder();

export class ActionExecution extends Execution {
  constructor(id) {
    super(id, "action");
    this.requestId = "";
    this.request = null; // of an HTTP action: {method, url, headers, body}
    this.response = null; // what it answered: {status, headers, body}
    this.operations = new Map(); // number → {name, resolve, reject}: what the parent was asked
    this.operationCount = 0;
    this.dropped = new Map(); // name → count of other things under way (fetch)
    this.timers_ = new Map(); // our number → the native timer
    this.timerCount = 0;
    this.lineCount = 0;
    this.streams_ = new Set(); // of both directions, to be stopped at the end
    this.ended = new AbortController(); // for its fetches
    this.clientGone = new AbortController(); // request.signal
    this.acted = false; // did anything that somebody else could notice
    this.loader = { instances: new Map(), records: new Map(), namespaces: new Map(), importFrom: null };
    this.finish = null; // (execution, RETURNED or what was thrown, failure of ours) => void
  }

  get isOver() {
    return this.phase === PHASE_OVER;
  }

  /** Run a step in this action's context. */
  within(step) {
    noteRunning(this);
    return within(this, step);
  }

  /** An exception that nobody caught. */
  threw(error) {
    if (!this.isOver) this.finish(this, error);
  }
}

// ---- whose turn it is

let noted = 0;

/** Leave a note that `execution` runs now. */
export function noteRunning(execution) {
  if (execution === undefined || execution === null || execution.id === noted) return;
  noted = execution.id;
  core.writeSync(2, encoder.encode(`\x01${execution.id}\n`));
}

/** Note every change from now on. (For an `await` that began before, V8 would not call.) */
export function noteEveryTurn(current) {
  core.setPromiseHooks(undefined, () => noteRunning(current()), undefined, undefined);
}

/** The action whose code calls; throws when none may. */
export function runningAction(execution, refusal, what) {
  if (!execution || execution.phase === PHASE_OVER) throw new Error("No function is running");
  if (execution.phase !== PHASE_RUN) throw refusal(what, "NotDuringImport");
  execution.acted = true;
  return execution;
}
