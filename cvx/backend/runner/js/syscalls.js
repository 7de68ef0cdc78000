// The `Convex` global that the npm package calls, and the queue between it and the parent.
//
// Synchronous syscalls are answered here: the parent cannot be asked while user code stands on the stack. The
// asynchronous ones are queued in the order issued, sent together once microtasks have drained, and settled
// strictly in that order. Writes without a result are settled before they are sent, where the call allows it, and
// travel in front of what has to be sent next (docs/adr/0008). A streamed query is read ahead in growing pages; what user code really took from each is
// counted, so that the parent can trim what it noted as read.
// Source: reference/runtime-and-database.md §1.1–§1.3, §1.7, §2.5.

import { oneLine } from "./json_lines.js";
import { currentExecution, PHASE_IMPORT, PHASE_OVER } from "./state.js";

const PAGES = [8, 64, 256];
const BATCH_MAX = 16;
const QUERY_ID = /^\{"queryId":(\d{1,9})\}$/; // How the npm package writes it.

// ---- ids

const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz";
const VALUES = new Int8Array(128).fill(-1);
for (let i = 0; i < 32; i++) VALUES[ALPHABET.charCodeAt(i)] = i;

/** The table number in a document id, or null when it is not one. See values-and-sync.md §2.1. */
export function tableNumberOf(id) {
  if (id.length < 31 || id.length > 37) return null;
  const bytes = new Uint8Array(Math.floor((id.length * 5) / 8));
  let bits = 0, held = 0, at = 0;
  for (let i = 0; i < id.length; i++) {
    const value = VALUES[id.charCodeAt(i)] ?? -1;
    if (value < 0) return null;
    held = (held << 5) | value;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      bytes[at++] = (held >> bits) & 0xff;
      held &= (1 << bits) - 1;
    }
  }
  if (held !== 0) return null; // Another spelling of the same id.
  let number = 0, length = 0;
  for (; length < 5; length++) {
    const byte = bytes[length];
    number += (byte & 0x7f) * 2 ** (7 * length);
    if ((byte & 0x80) === 0) break;
  }
  length++;
  if (number === 0 || number > 0xffffffff || bytes.length !== length + 18) return null;
  if (length > 1 && bytes[length - 1] === 0) return null;
  if (id.length !== Math.ceil((bytes.length * 8) / 5)) return null;
  let c0 = 0, c1 = 0;
  for (let i = 0; i < length + 16; i++) {
    c0 = (c0 + bytes[i]) & 0xff;
    c1 = (c1 + c0) & 0xff;
  }
  return bytes[length + 16] === c0 && bytes[length + 17] === c1 ? number : null;
}

function normalizeId(execution, { table, idString }) {
  execution.observedTables = true;
  const wanted = execution.tables.get(table);
  if (wanted === undefined || typeof idString !== "string") return '{"id":null}';
  return tableNumberOf(idString) === wanted ? `{"id":${JSON.stringify(idString)}}` : '{"id":null}';
}

function encodedInt64(text) {
  const bytes = new DataView(new ArrayBuffer(8));
  bytes.setBigInt64(0, BigInt(text), true);
  let binary = "";
  for (let i = 0; i < 8; i++) binary += String.fromCharCode(bytes.getUint8(i));
  return `{"$integer":"${btoa_(binary)}"}`;
}
const btoa_ = btoa;

// ---- streamed queries

class Stream {
  constructor(id, query, limit) {
    this.id = id;
    this.query = query; // sent with the first page
    this.buffer = [];
    this.at = 0;
    this.taken = 0;
    this.done = false; // the parent has no more
    this.reachedEnd = false; // user code has been told so
    this.closed = false;
    this.fetching = false;
    this.failure = null;
    this.claimed = 0; // queued requests for a document that have been looked at
    this.page = 0;
    this.limit = limit;
  }

  want() {
    // A limit is taken whole (`take`, `first`, `unique`); `collect` and iteration look alike, so pages grow.
    if (this.limit !== Infinity) return Math.max(1, Math.min(this.limit - this.taken, PAGES[2]));
    return PAGES[Math.min(this.page, 2)];
  }
}

/** How many documents a query gives at most, by its own operators; not the user's values, whatever they look like. */
function limitOf(parsed) {
  const operators = parsed?.query?.operators;
  let limit = Infinity;
  if (!Array.isArray(operators)) return limit;
  for (let i = 0; i < operators.length; i++) {
    const least = operators[i]?.limit;
    if (typeof least === "number" && least < limit) limit = least;
  }
  return limit;
}

function openStream(execution, args, parsed) {
  const id = execution.streams.length;
  execution.streams.push(new Stream(id, oneLine(args), limitOf(parsed)));
  return `{"queryId":${id}}`;
}

function closeStream(execution, stream) {
  if (stream.closed) return;
  stream.closed = true;
  if (stream.page === 0) return; // The parent never heard of it.
  stream.buffer = [];
  (execution.closedStreams ??= []).push([stream.id, stream.taken, stream.reachedEnd]);
}

function cleanupStream(execution, queryId) {
  const stream = execution.streams[queryId];
  if (!stream || stream.closed) return "false";
  const existed = !stream.reachedEnd;
  closeStream(execution, stream);
  return String(existed);
}

/** What has been read of queries that are still open, for the end of an execution. */
export function closeAllStreams(execution) {
  for (const stream of execution.streams) closeStream(execution, stream);
}

// ---- the queue

class Op {
  constructor(name, args, resolve, reject) {
    this.name = name;
    this.args = args;
    this.resolve = resolve;
    this.reject = reject;
    this.stream = null;
    this.claimed = false; // counted in stream.claimed
    this.answer = undefined; // raw JSON, or a Rejection
  }
}

export class Rejection {
  constructor(message, data) {
    this.message = message;
    this.data = data;
  }
}

let attend = () => {};

/** `callback(execution)` is told of every operation that user code issues. */
export function setAttention(callback) {
  attend = callback;
}

function enqueue(execution, name, args) {
  return new Promise((resolve, reject) => {
    const op = new Op(name, args, resolve, reject);
    if (name === "1.0/queryStreamNext") {
      const stream = execution.streams[queryIdOf(name, args)];
      if (stream === undefined) {
        op.answer = new Rejection("Invalid argument `queryId` for `queryStreamNext`: there is no such query", null);
      } else {
        op.stream = stream;
      }
    }
    execution.ops.push(op);
    attend(execution);
  });
}

/**
 * What the parent must now do: {headers, lines}, or null when nothing. All that is queued goes into one frame, in
 * order. It stops at an operation that will need a further page of a query whose current one is still spoken for:
 * sending what stands behind it first would change the order in which the database sees them.
 */
export function takeUnsent(execution) {
  const headers = [];
  const lines = [];
  const targets = [];
  const { ops } = execution;
  let i = Math.max(execution.unsent, execution.head);
  for (; i < ops.length; i++) {
    const op = ops[i];
    const { stream } = op;
    if (stream === null) {
      if (op.answer !== undefined) continue;
      headers.push(op.name);
      lines.push(op.args);
      targets.push(op);
      continue;
    }
    if (stream.claimed >= stream.buffer.length - stream.at && !(stream.done || stream.closed)) {
      if (stream.claimed > 0) break;
      if (!stream.fetching) {
        headers.push(pageHeader(stream, lines));
        targets.push(stream);
      }
    }
    stream.claimed++;
    op.claimed = true;
  }
  execution.unsent = i;
  if (headers.length === 0) return null;
  execution.sent = targets;
  return { headers, lines };
}

function pageHeader(stream, lines) {
  const first = stream.page === 0;
  const header = [stream.id, stream.want(), first ? 1 : 0];
  if (first) {
    lines.push(stream.query);
    stream.query = "";
  }
  stream.page++;
  stream.fetching = true;
  return header;
}

/** A page of a query as it arrived. */
export class Page {
  constructor(documents, done) {
    this.documents = documents;
    this.done = done;
  }
}

/** Put what the parent answered where it belongs; `answers` are in the order of what was sent. */
export function receive(execution, answers) {
  const targets = execution.sent;
  execution.sent = null;
  for (let i = 0; i < targets.length; i++) {
    const target = targets[i];
    const answer = answers[i];
    if (target instanceof Op) {
      target.answer = answer;
      continue;
    }
    target.fetching = false;
    target.at = 0;
    if (answer instanceof Rejection) {
      target.buffer = [];
      target.failure = answer;
      target.done = true;
    } else {
      target.buffer = answer.documents;
      target.done = answer.done;
    }
  }
}

const WRITES_WITHOUT_RESULT = new Set(["1.0/shallowMerge", "1.0/replace", "1.0/remove"]);

/**
 * Answer all that is queued without asking the parent: only when it is nothing but writes without a result, and not
 * too many of them are outstanding. False when the parent has to be asked. Should it refuse one later, the call starts
 * again from its beginning, without this.
 */
export function answerWritesEarly(execution) {
  const { ops, head, early } = execution;
  const count = ops.length - head;
  if (count === 0 || early.length + count > execution.earlyMax || execution.sent !== null) return false;
  for (let i = head; i < ops.length; i++) {
    if (ops[i].answer !== undefined || !WRITES_WITHOUT_RESULT.has(ops[i].name)) return false;
  }
  for (let i = head; i < ops.length; i++) {
    ops[i].answer = "null";
    early.push(ops[i]);
  }
  return true;
}

/** The names of the writes that were answered early and not sent yet, or 0. Their arguments go in front of `lines`. */
export function takeEarly(execution, lines) {
  const { early } = execution;
  if (early.length === 0) return 0;
  execution.early = [];
  lines.unshift(...early.map((op) => op.args));
  return early.map((op) => op.name);
}

function isBatchable(op) {
  return op.stream !== null || op.name === "1.0/get";
}

/** The answer for an operation, or undefined when it must come from the parent first. */
function answerOf(execution, op) {
  if (op.stream === null || op.answer !== undefined) return op.answer;
  const { stream } = op;
  if (stream.fetching) return undefined;
  if (op.claimed && (stream.at < stream.buffer.length || stream.done || stream.closed)) {
    stream.claimed--;
    op.claimed = false;
  }
  if (stream.at < stream.buffer.length) {
    const text = stream.buffer[stream.at];
    stream.buffer[stream.at++] = undefined;
    stream.taken++;
    return `{"value":${text},"done":false}`;
  }
  if (stream.failure) return stream.failure;
  if (stream.done || stream.closed) {
    stream.reachedEnd = stream.done;
    closeStream(execution, stream);
    return '{"value":null,"done":true}';
  }
  return undefined;
}

function settle(op, answer) {
  if (!(answer instanceof Rejection)) {
    op.resolve(answer);
    return;
  }
  const error = new Error(answer.message);
  if (answer.data !== null) error.data = JSON.parse(answer.data);
  op.reject(error);
}

/** Settle the next batch whose answers are here. False when nothing could be settled. */
export function settleBatch(execution) {
  const { ops } = execution;
  const first = ops[execution.head];
  if (first === undefined) return false;
  let answer = answerOf(execution, first);
  if (answer === undefined) return false;
  let count = 0;
  let op = first;
  const kind = isBatchable(first) ? "reads" : first.name === "1.0/storageGetUrl" ? "urls" : "one";
  for (;;) {
    settle(op, answer);
    ops[execution.head++] = undefined;
    if (++count >= BATCH_MAX || kind === "one") break;
    op = ops[execution.head];
    if (op === undefined) break;
    if (kind === "reads" ? !isBatchable(op) : op.name !== "1.0/storageGetUrl") break;
    answer = answerOf(execution, op);
    if (answer === undefined) break;
  }
  if (execution.head === ops.length) {
    ops.length = 0;
    execution.head = 0;
    execution.unsent = 0;
  }
  return true;
}

// ---- the global

export function withCode(error, code) {
  Object.defineProperty(error, "code", { value: code, configurable: true, writable: true });
  return error;
}

/** The execution that calls. Throws while it may not. */
export function running(op) {
  const execution = currentExecution();
  if (!execution || execution.phase === PHASE_OVER) throw new Error("No function is running");
  if (typeof op !== "string") throw withCode(new TypeError("Invalid argument `op`: expected a string"), "SyscallOpNotString");
  if (execution.phase === PHASE_IMPORT) {
    const code = /db|get$|query|insert|replace|remove|Merge/i.test(op) ? "NoDbDuringImport" : "NoSyscallDuringImport";
    throw withCode(new Error(`${code}: can't use the database or other Convex features while a module is being imported`), code);
  }
  return execution;
}

export function parseArgs(op, args) {
  try {
    return JSON.parse(args);
  } catch {
    throw withCode(new Error(`SyscallArgsInvalidJson: the arguments of ${op} are not JSON`), "SyscallArgsInvalidJson");
  }
}

function queryIdOf(op, args) {
  const usual = QUERY_ID.exec(args);
  return usual === null ? parseArgs(op, args).queryId : Number(usual[1]);
}

function syscall(op, args) {
  const execution = running(op);
  switch (op) {
    case "1.0/queryStream":
      return openStream(execution, args, parseArgs(op, args));
    case "1.0/queryCleanup":
      return cleanupStream(execution, queryIdOf(op, args));
    case "1.0/db/normalizeId":
      return normalizeId(execution, parseArgs(op, args));
    case "1.0/getSnapshotTs":
      execution.observedTime = true;
      return encodedInt64(execution.snapshotTs);
    case "1.0/componentArgument":
      return componentArgument(execution, parseArgs(op, args));
    default:
      throw withCode(new Error(`Unknown operation ${op}`), "UnknownOperation");
  }
}

export function componentArgument(execution, { name }) {
  if (execution.componentArgs === null) {
    throw withCode(new Error("NoComponentArgs: component arguments exist only inside components"), "NoComponentArgs");
  }
  const args = JSON.parse(execution.componentArgs);
  return Object.hasOwn(args, name) ? JSON.stringify({ value: args[name] }) : "{}";
}

function asyncSyscall(op, args) {
  const execution = running(op);
  if (typeof args !== "string") {
    throw withCode(new TypeError(`SyscallArgsInvalidJson: the arguments of ${op} are not text`), "SyscallArgsInvalidJson");
  }
  return enqueue(execution, op, oneLine(args));
}

function jsSyscall(op) {
  const execution = currentExecution();
  const message = `Uncaught Error: ${String(op)} is not available in queries and mutations`;
  if (execution) execution.fatal ??= { message, frames: "", kind: "developer" };
  throw new Error(message);
}

export function makeConvex() {
  return Object.freeze({
    syscall: Object.freeze((op, args) => syscall(op, args)),
    asyncSyscall: Object.freeze((op, args) => asyncSyscall(op, args)),
    jsSyscall: Object.freeze((op, args) => jsSyscall(op, args)),
  });
}
