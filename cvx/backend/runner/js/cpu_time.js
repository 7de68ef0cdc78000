// How long an execution has computed: the time that passed, without what the machine gave to others meanwhile.
//
// Rule: asking the system costs more than a clock, so it is asked about long stretches alone, and at most every
// SAMPLE_EVERY_MS for the point that they are measured from. What is not long counts as it passed.
// Source: reference/runtime-and-database.md §3.3 (time waited for a permit to run is not counted).

import { realNow } from "./determinism.js";

const { op_current_thread_cpu_usage } = Deno[Deno.internal].core.ops;
const SAMPLE_EVERY_MS = 50;
const used = new Float64Array(2); // [in the program, in the system], microseconds
let sampledAt = -Infinity;
let sampled = 0;

function threadTime() {
  op_current_thread_cpu_usage(used);
  return (used[0] + used[1]) / 1000;
}

/** Now, in milliseconds: the beginning of a stretch. */
export function beginStretch() {
  const now = realNow();
  if (now - sampledAt > SAMPLE_EVERY_MS) {
    sampledAt = now;
    sampled = threadTime();
  }
  return now;
}

/** The milliseconds computed since `began`; never more than have passed. */
export function computedSince(began) {
  const passed = realNow() - began;
  return passed > SAMPLE_EVERY_MS ? Math.min(passed, threadTime() - sampled) : passed;
}
