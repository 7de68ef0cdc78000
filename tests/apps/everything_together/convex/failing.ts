// Fails on demand, with either kind of error.

import { ConvexError, v } from "convex/values";

export const failure = v.optional(v.object({ level: v.string(), how: v.string() }));
export type Failure = { level: string; how: string } | undefined;

export function maybeFail(level: string, wanted: Failure): void {
  if (wanted?.level !== level) return;
  if (wanted.how === "convex") throw new ConvexError({ level, n: 9007199254740993n, bytes: new Uint8Array([0, 255]).buffer, text: "“ü” 🦊" });
  if (wanted.how === "plain") throw new Error(`plain “${level}” 🦊`);
  if (wanted.how === "oddity") throw `a string “${level}”`;
  throw new Error(`no such way to fail: ${wanted.how}`);
}
