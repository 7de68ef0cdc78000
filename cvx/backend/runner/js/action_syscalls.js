// The `Convex` global of actions.
//
// Every asynchronous syscall is sent at once and answered whenever the parent has the answer, in any order. What takes
// JavaScript objects (requests, responses, blobs) is done here; their bytes travel as streams (action_wire.js).
// Source: reference/runtime-and-database.md §1.4, §1.5.

import { RETURNED } from "./action_state.js";
import { oneLine } from "./json_lines.js";
import { currentExecution } from "./state.js";
import { componentArgument, parseArgs, Rejection, running, withCode } from "./syscalls.js";
import { config, Incoming, Outgoing, send } from "./action_wire.js";

/** How people know the operations that a warning names. */
const NAMES = {
  "1.0/actions/query": "runQuery", "1.0/actions/mutation": "runMutation", "1.0/actions/action": "runAction",
  "1.0/actions/schedule": "scheduler", "1.0/actions/cancel_job": "scheduler.cancel", "1.0/actions/vectorSearch": "vectorSearch",
  "1.0/storageGetUrl": "storage.getUrl", "1.0/storageGetMetadata": "storage.getMetadata", "1.0/storageDelete": "storage.delete",
  "1.0/storageGenerateUploadUrl": "storage.generateUploadUrl", "1.0/getUserIdentity": "auth.getUserIdentity",
};

function begin(execution, name) {
  if (execution.operations.size >= config.operations) {
    throw new Error(`Too many concurrent operations: an action can have at most ${config.operations} under way at once`);
  }
  execution.acted = true;
  const number = ++execution.operationCount;
  const promise = new Promise((resolve, reject) => {
    execution.operations.set(number, { name, resolve, reject });
  });
  return [number, promise];
}

function rejected(answer) {
  const error = new Error(answer.message);
  if (answer.data !== null) error.data = JSON.parse(answer.data);
  return error;
}

/** The answer to one operation, of a frame's kind 0 (a result), [message, hasData], {n: 1} (none), or {s: stream, t: type} (a blob): text, a Rejection, null, or {stream, type}. */
export function answerOf(kind, line) {
  if (kind === 0) return line();
  if (Array.isArray(kind)) return new Rejection(kind[0], kind[1] ? line() : null);
  if (kind.n === 1) return null;
  return { stream: new Incoming(kind.s), type: kind.t };
}

/** Hand an answer to who waits for it; `execution` is undefined when that is over. */
export function answered(execution, number, answer) {
  if (execution === undefined) return answer?.stream?.stop();
  const operation = execution.operations.get(number);
  if (operation === undefined) return;
  execution.operations.delete(number);
  execution.within(() => {
    if (answer instanceof Rejection) operation.reject(rejected(answer));
    else operation.resolve(answer);
  });
}

/** Names and counts of what is under way, for the warning at the end. */
export function underWay(execution) {
  const counts = new Map();
  for (const [name, count] of execution.dropped) if (count > 0) counts.set(name, count);
  for (const { name } of execution.operations.values()) counts.set(name, (counts.get(name) ?? 0) + 1);
  return counts;
}

function syscall(op, args) {
  const execution = running(op);
  if (op === "1.0/componentArgument") return componentArgument(execution, parseArgs(op, args));
  throw withCode(new Error(`Unknown operation ${op}`), "UnknownOperation");
}

function asyncSyscall(op, args) {
  const execution = running(op);
  if (typeof args !== "string") {
    throw withCode(new TypeError(`SyscallArgsInvalidJson: the arguments of ${op} are not text`), "SyscallArgsInvalidJson");
  }
  const [number, promise] = begin(execution, NAMES[op] ?? op.replace(/^1\.0\//, ""));
  send(["ask", execution.id, number, op], [oneLine(args)]);
  return promise;
}

// ---- requests, responses, blobs

function requestFromConvexJson(execution, { convexJson }) {
  const { url, method, headerPairs, streamId } = convexJson;
  const body = streamId === null || streamId === undefined ? null : openBody(execution, streamId);
  const init = { method, headers: headerPairs, signal: execution.clientGone.signal };
  return new Request(url, body === null ? init : { ...init, body, duplex: "half" });
}

function openBody(execution, number) {
  const stream = execution.request?.stream;
  if (!stream || stream.number !== number) throw new Error(`There is no stream ${number}`);
  return stream.readable();
}

function fatal(execution, message) {
  const failure = { message: `Uncaught Error: ${message}`, frames: "", data: null, kind: "developer" };
  execution.finish(execution, RETURNED, failure);
  throw new Error(message);
}

function convexJsonFromResponse(execution, { response }) {
  if (!(response instanceof Response)) fatal(execution, "HTTP actions must return a Response (see https://docs.convex.dev/functions/http-actions)");
  if (response.status < 200 || response.status > 599) {
    fatal(execution, `HTTP actions must return a Response with a status from 200 to 599, not ${response.status}`);
  }
  if (response.bodyUsed || response.body?.locked) {
    fatal(execution, "HTTP actions must return a Response whose body nobody else reads or has read");
  }
  execution.response = response;
  const headerPairs = [...response.headers];
  return { headerPairs, status: response.status, streamId: response.body === null ? null : 0, url: response.url };
}

async function storeBlob(execution, { blob, options }) {
  if (!(blob instanceof Blob)) throw new TypeError("storage.store: expected a Blob");
  const [number, promise] = begin(execution, "storage.store");
  const out = new Outgoing();
  execution.streams_.add(out);
  send(["store", execution.id, number, out.number, blob.type || null, options?.sha256 ?? null]);
  out.pump(blob.stream()).catch(() => {}).finally(() => execution.streams_.delete(out));
  return JSON.parse(await promise);
}

async function getBlob(execution, { storageId }) {
  if (typeof storageId !== "string") throw new TypeError("storage.get: expected a storage id");
  const [number, promise] = begin(execution, "storage.get");
  send(["blob", execution.id, number, storageId]);
  const found = await promise;
  if (found === null) return null;
  const stream = found.stream;
  execution.streams_.add(stream);
  try {
    return new Blob(await stream.collect(), { type: found.type ?? "" });
  } finally {
    execution.streams_.delete(stream);
  }
}

const JS_SYSCALLS = {
  requestFromConvexJson,
  convexJsonFromResponse,
  "storage/storeBlob": storeBlob,
  "storage/getBlob": getBlob,
};

function jsSyscall(op, args) {
  const execution = running(op);
  if (!Object.hasOwn(JS_SYSCALLS, op)) fatal(execution, `${String(op)} is not available in actions`);
  return JS_SYSCALLS[op](execution, args);
}

export function makeActionConvex() {
  return Object.freeze({
    syscall: Object.freeze((op, args) => syscall(op, args)),
    asyncSyscall: Object.freeze((op, args) => asyncSyscall(op, args)),
    jsSyscall: Object.freeze((op, args) => jsSyscall(op, args)),
  });
}
