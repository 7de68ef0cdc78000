// The files of the code that a "use node" child runs: where a stack frame was written, and what analysis reads.
//
// `error.stack` stays what Deno makes of it, since packages read it: it finds the source maps beside the modules and puts
// in the files that people wrote. Frames are taken from its text, and only when an error leaves an action or is logged.
// Source: reference/runtime-and-database.md §1.9, §3.5.

import { readFileSync } from "node:fs";
import { SourceMap, withoutPlumbing } from "./errors.js";

const { core } = Deno[Deno.internal];
const FRAME = /^\s+at (?:(async )?(.*?) \()?((?:async )?)(file:\/\/.*?):(\d+):(\d+)\)?$/;
const IMPORT = /^(?:import|export)\b[^"'\n]*?(?:\bfrom )?["'](\.[^"'\n]+)["'];?$|^\} from ["'](\.[^"'\n]+)["'];?$/gm;
const MAPS_MAX = 64;

const HOST = new URL(".", import.meta.url).href;

let folder = "";
let beside = ""; // What its modules were made from seems to lie here.
const maps = new Map(); // path → SourceMap or null

export function setCodeFolder(url) {
  folder = url;
  beside = new URL("..", url).href;
}

function textOf(path) {
  try {
    return readFileSync(new URL(encodeURI(path), folder));
  } catch {
    return null;
  }
}

function mapOf(path) {
  if (!maps.has(path)) {
    const text = textOf(`${path}.map`);
    if (maps.size >= MAPS_MAX) maps.clear();
    maps.set(path, text === null ? null : new SourceMap(text));
  }
  return maps.get(path);
}

/** Where a frame is, relative to the code's folder as source maps have it; null for what is ours. */
function placeOf(url, line, column) {
  if (url.startsWith(HOST)) return null;
  const inPackage = url.lastIndexOf("/node_modules/");
  const place = inPackage >= 0 && !url.startsWith(beside) ? url.slice(inPackage + 1) : relative(folder, url);
  return `${decodeURI(place)}:${line}:${column}`;
}

function relative(from, to) {
  const base = from.split("/").slice(0, -1);
  const target = to.split("/");
  let common = 0;
  while (common < base.length && base[common] === target[common]) common++;
  return "../".repeat(base.length - common) + target.slice(common).join("/");
}

/** The frames of an error, as the other runtimes have them. */
export function framesOf(error) {
  let stack;
  try {
    ({ stack } = error);
  } catch {
    return "";
  }
  if (typeof stack !== "string") return "";
  const lines = [];
  for (const text of stack.split("\n")) {
    const frame = FRAME.exec(text);
    if (frame === null) continue;
    const [, asyncCall, name, asyncPlace, url, line, column] = frame;
    const place = placeOf(url, Number(line), Number(column));
    if (place !== null) lines.push(`    at ${asyncCall || asyncPlace ? "async " : ""}${name || "<anonymous>"} (${place})`);
  }
  return withoutPlumbing(lines);
}

/** A module and all of its push that it imports, itself last, as analyze.js wants them. */
export function moduleSources(entry) {
  const order = [];
  const seen = new Set();
  const visit = (path) => {
    if (seen.has(path)) return;
    seen.add(path);
    const text = textOf(path);
    if (text === null) return;
    const source = core.decode(text);
    for (const match of source.matchAll(IMPORT)) visit(new URL(match[1] ?? match[2], `convex:/${path}`).pathname.slice(1));
    order.push({ module: { path, source, sourceMap: mapOf(path) } });
  };
  visit(entry);
  return order;
}
