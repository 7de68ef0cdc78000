// What actions have and queries have not: timers, fetch, a live clock and real randomness (see determinism.js).
//
// Rule: everything an action starts belongs to it, and ends with it: timers are cleared and requests are aborted.
// Source: reference/runtime-and-database.md §3.1, §3.2.

import { currentExecution } from "./state.js";
import { makeActionConvex } from "./action_syscalls.js";
import { noteRunning, runningAction } from "./action_state.js";
import { refusal } from "./determinism.js";
import { config } from "./action_wire.js";

const native = { setTimeout, setInterval, clearTimeout, clearInterval, fetch };

function running(what) {
  return runningAction(currentExecution(), refusal, what);
}

function startTimer(what, start, callback, delay, args) {
  const execution = running(what);
  if (typeof callback !== "function") throw new TypeError(`${what}: the callback must be a function`);
  if (execution.timers_.size >= config.timers) throw new Error(`An action can have at most ${config.timers} timers at once`);
  const id = ++execution.timerCount;
  const fire = () => {
    if (execution.isOver) return;
    noteRunning(execution);
    if (what === "setTimeout") execution.timers_.delete(id);
    try {
      Reflect.apply(callback, globalThis, args);
    } catch (error) {
      execution.threw(error);
    }
  };
  execution.timers_.set(id, start(fire, Math.min(Math.max(Number(delay) || 0, 0), 0x7fffffff)));
  return id;
}

function stopTimer(id) {
  const execution = currentExecution();
  if (!execution || !execution.timers_.has(id)) return;
  native.clearTimeout(execution.timers_.get(id));
  execution.timers_.delete(id);
}

/** At the end of an action. */
export function stopAllTimers(execution) {
  for (const timer of execution.timers_.values()) native.clearTimeout(timer);
  execution.timers_.clear();
}

/**
 * A response whose body was unpacked on its way says nothing of how it was packed, so that it can be passed on as it is:
 * Deno leaves the two headers, which are about the bytes that travelled.
 */
function asUnpacked(response) {
  const { body, headers, status, statusText } = response;
  if (body === null || !/^\s*(?:gzip|br)\s*$/i.test(headers.get("content-encoding") ?? "")) return response;
  const about = new Headers(headers);
  about.delete("content-encoding");
  about.delete("content-length");
  const plain = new Response(body, { status, statusText, headers: about });
  for (const key of ["url", "redirected", "type"]) Object.defineProperty(plain, key, { value: response[key], configurable: true });
  return plain;
}

/** Count something under way that the parent does not know of, for the warning about dropped operations. */
async function underWay(execution, name, promise) {
  execution.dropped.set(name, (execution.dropped.get(name) ?? 0) + 1);
  try {
    return await promise;
  } finally {
    execution.dropped.set(name, execution.dropped.get(name) - 1);
  }
}

const functions = {
  setTimeout(callback, delay, ...args) { return startTimer("setTimeout", native.setTimeout, callback, delay, args); },
  setInterval(callback, delay, ...args) { return startTimer("setInterval", native.setInterval, callback, delay, args); },
  clearTimeout(id) { stopTimer(id); },
  clearInterval(id) { stopTimer(id); },
  async fetch(input, init) {
    const execution = running("fetch()");
    const request = new Request(input, init);
    const { protocol } = new URL(request.url);
    if (protocol !== "http:" && protocol !== "https:") {
      throw new TypeError(`fetch() supports http and https only, not '${protocol}'`);
    }
    const signal = AbortSignal.any([request.signal, execution.ended.signal]);
    return asUnpacked(await underWay(execution, "fetch", native.fetch(request, { signal })));
  },
  queueMicrotask(callback) {
    if (typeof callback !== "function") throw new TypeError("queueMicrotask: the callback must be a function");
    Promise.resolve().then(() => callback());
  },
};

export const actionWorld = {
  functions,
  tame() {
    AbortSignal.timeout = function timeout(milliseconds) {
      const controller = new AbortController();
      functions.setTimeout(() => controller.abort(new DOMException("Signal timed out.", "TimeoutError")), milliseconds);
      return controller.signal;
    };
  },
  makeConvex: makeActionConvex,
  dispatchEvent: { get: () => dispatchEvent },
};

/** What Deno calls when an event's listener throws: that is the action's own exception. */
const dispatchEvent = Object.freeze((event) => {
  const execution = currentExecution();
  if (!execution) return true;
  if (event?.type === "error" && "error" in event) execution.threw(event.error);
  return false;
});
