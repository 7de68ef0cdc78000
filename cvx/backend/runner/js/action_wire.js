// Frames and byte streams between a child that runs actions and its parent.
//
// A frame is a 4-byte little-endian length, that many bytes and a line feed. Bytes that begin with 0 are a part of a
// stream: a zero, the stream's number (4 bytes, little-endian), then the part as it is. All others are UTF-8 lines: messages,
// each a JSON header and as many payload lines as the header says. The parent's half is runner/action_messages.py.
//
// Rule: the reader of a stream grants bytes, and its writer sends no more than it was granted, so neither side ever
// holds more of a stream than its window. Reading frames is asynchronous: user code runs in between.

import { headerLine } from "./json_lines.js";

const { core } = Deno[Deno.internal];
const soon = setImmediate;
const now = performance.now.bind(performance);
const FLUSH_AFTER_MS = 5;
const encoder = new TextEncoder();
const encodeInto = encoder.encodeInto.bind(encoder);

/** What the parent says at the start: bounds, see `configured` in runner/action_child.py. */
export const config = { window: 1 << 18, chunk: 1 << 16, operations: 1000, timers: 10000 };

/** Where frames come from and go to. A "use node" child has another than standard input and output: see node_host.js. */
const channel = {
  read: (into) => core.read(0, into),
  write: (bytes) => core.writeSync(1, bytes),
};

export function useChannel(other) {
  Object.assign(channel, other);
}

// ---- out

let outgoing = [];
let flushPlanned = false;
let flushedAt = 0;
let output = new Uint8Array(1 << 16);

function put(length) {
  output[0] = length & 0xff;
  output[1] = (length >> 8) & 0xff;
  output[2] = (length >> 16) & 0xff;
  output[3] = length >>> 24;
  output[length + 4] = 10; // Standard output is buffered by line: so it is one write.
  let at = 0;
  while (at < length + 5) at += channel.write(output.subarray(at, length + 5));
  if (output.length > 1 << 22) output = new Uint8Array(1 << 16);
}

/** Write what has been said. */
export function flush() {
  flushPlanned = false;
  flushedAt = now();
  if (outgoing.length === 0) return;
  const text = outgoing.join("\n");
  outgoing = [];
  if (text.length * 3 + 5 > output.length) output = new Uint8Array(text.length * 3 + 5);
  put(encodeInto(text, output.subarray(4)).written);
}

/** Say something: with what else is said in this turn of the loop, or at once when nothing was for a while. */
export function send(header, lines) {
  outgoing.push(headerLine(header));
  if (lines !== undefined) for (const line of lines) outgoing.push(line);
  if (now() - flushedAt > FLUSH_AFTER_MS) flush(); // User code may go on for long without a pause.
  else if (!flushPlanned) {
    flushPlanned = true;
    soon(flush);
  }
}

function sendPart(stream, bytes) {
  flush();
  const length = bytes.length + 5;
  if (length + 5 > output.length) output = new Uint8Array(length + 5);
  output[4] = 0;
  output[5] = stream & 0xff;
  output[6] = (stream >> 8) & 0xff;
  output[7] = (stream >> 16) & 0xff;
  output[8] = stream >>> 24;
  output.set(bytes, 9);
  put(length);
}

// ---- in

/** Read frames until the parent is gone. `take(lines)` gets messages; parts go to their streams. */
export async function readFrames(take) {
  let input = new Uint8Array(1 << 18);
  let held = 0;
  for (;;) {
    const read = await channel.read(input.subarray(held));
    if (read === 0 || read === null) return;
    held += read;
    let at = 0;
    let need = 4;
    while (held - at >= 4) {
      const length = (input[at] | (input[at + 1] << 8) | (input[at + 2] << 16) | (input[at + 3] << 24)) >>> 0;
      need = length + 5;
      if (held - at < need) break;
      const body = input.subarray(at + 4, at + 4 + length);
      if (body[0] === 0) takePart(body);
      else take(core.decode(body).split("\n"));
      at += need;
      need = 4;
    }
    input.copyWithin(0, at, held);
    held -= at;
    if (need > input.length) {
      const larger = new Uint8Array(Math.max(need, input.length * 2));
      larger.set(input.subarray(0, held));
      input = larger;
    } else if (held === 0 && input.length > 1 << 22) input = new Uint8Array(1 << 18);
  }
}

// ---- streams from the parent

const incoming = new Map(); // number → Incoming

function takePart(body) {
  const stream = (body[1] | (body[2] << 8) | (body[3] << 16) | (body[4] << 24)) >>> 0;
  incoming.get(stream)?.arrived(body.slice(5));
}

/** A stream that the parent sends. `readable()` or `collect()`, once. */
export class Incoming {
  constructor(number) {
    this.number = number;
    this.parts = [];
    this.ended = false;
    this.error = null;
    this.wake = null;
    incoming.set(number, this);
  }

  arrived(part) {
    this.parts.push(part);
    this.woken();
  }

  /** The parent has sent all, or says why it cannot. */
  end(error) {
    incoming.delete(this.number);
    this.ended = true;
    this.error = error;
    this.woken();
  }

  woken() {
    const { wake } = this;
    this.wake = null;
    if (wake !== null) wake();
  }

  /** The next part, or null at the end. Throws when the parent could not go on. */
  async next() {
    while (this.parts.length === 0 && !this.ended) await new Promise((resolve) => (this.wake = resolve));
    if (this.parts.length > 0) {
      const part = this.parts.shift();
      if (!this.ended) send(["credit", this.number, part.length]);
      return part;
    }
    if (this.error !== null) throw new TypeError(this.error);
    return null;
  }

  /** Nobody will read it. */
  stop() {
    if (incoming.delete(this.number)) send(["stop", this.number]);
    this.parts = [];
    this.ended = true;
    this.woken();
  }

  readable() {
    return new ReadableStream({
      pull: async (controller) => {
        const part = await this.next();
        if (part === null) controller.close();
        else controller.enqueue(part);
      },
      cancel: () => this.stop(),
    }, { highWaterMark: 0 });
  }

  async collect() {
    const parts = [];
    for (let part = await this.next(); part !== null; part = await this.next()) parts.push(part);
    return parts;
  }
}

// ---- streams to the parent

const outgoingStreams = new Map(); // number → Outgoing
let streams = 0;

/** A stream that this child sends. */
export class Outgoing {
  constructor() {
    this.number = ++streams;
    this.granted = config.window;
    this.stopped = false;
    this.wake = null;
    outgoingStreams.set(this.number, this);
  }

  grant(bytes) {
    this.granted += bytes;
    this.woken();
  }

  woken() {
    const { wake } = this;
    this.wake = null;
    if (wake !== null) wake();
  }

  /** The parent, or the end of the action, wants no more. */
  stop() {
    this.stopped = true;
    outgoingStreams.delete(this.number);
    this.woken();
  }

  /** Send all of a ReadableStream. Rejects with its error, which the parent has then been told. */
  async pump(readable) {
    const reader = readable.getReader();
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done || this.stopped) break;
        if (!ArrayBuffer.isView(value)) throw new TypeError("A body's parts must be bytes (Uint8Array)");
        await this.write(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
      }
      if (this.stopped) reader.cancel().catch(() => {});
      else send(["end", this.number]);
    } catch (error) {
      if (!this.stopped) send(["fail", this.number, `${error?.message ?? error}`.slice(0, 1024)]);
      reader.cancel(error).catch(() => {});
      throw error;
    } finally {
      outgoingStreams.delete(this.number);
    }
  }

  async write(bytes) {
    for (let at = 0; at < bytes.length && !this.stopped;) {
      while (this.granted <= 0 && !this.stopped) await new Promise((resolve) => (this.wake = resolve));
      if (this.stopped) return;
      const part = bytes.subarray(at, at + Math.min(config.chunk, this.granted));
      this.granted -= part.length;
      at += part.length;
      sendPart(this.number, part);
    }
  }
}

/** Messages about streams: what the parent says of its own and of ours. */
export const streamHandlers = {
  end([, stream]) {
    incoming.get(stream)?.end(null);
  },
  fail([, stream, message]) {
    incoming.get(stream)?.end(message);
  },
  credit([, stream, bytes]) {
    outgoingStreams.get(stream)?.grant(bytes);
  },
  stop([, stream]) {
    outgoingStreams.get(stream)?.stop();
  },
};
