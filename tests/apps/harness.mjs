// What every driver script shares: named checks that all run, and waiting for something to become true.

import assert from "node:assert/strict";
import { inspect } from "node:util";

export const url = process.argv[2];
export const adminKey = process.argv[3];

const failures = [];
let passed = 0;

const CHECK_DEADLINE_MS = 150_000; // Less than a driver has in all, so that what hangs is named.

/** Run one named check; a failure is remembered and the others go on. One that never ends, ends everything. */
export async function check(name, body) {
  const deadline = setTimeout(() => {
    failures.push(`✗ ${name}\nit did not end within ${CHECK_DEADLINE_MS} ms`);
    finish();
  }, CHECK_DEADLINE_MS);
  try {
    await body();
    passed += 1;
  } catch (error) {
    failures.push(`✗ ${name}\n${error?.stack ?? inspect(error)}`);
  } finally {
    clearTimeout(deadline);
  }
}

/** Print the outcome; the exit code says whether all was well. Ends open handles too. */
export function finish() {
  for (const failure of failures) console.log(failure, "\n");
  console.log(`${passed} passed, ${failures.length} failed`);
  process.exit(failures.length === 0 && passed > 0 ? 0 : 1);
}

/** Wait until `probe` returns something truthy (or stops throwing); returns it. */
export async function until(probe, what = "the condition", deadline_ms = 40_000) {
  const deadline = Date.now() + deadline_ms;
  let last;
  for (;;) {
    try {
      const value = await probe();
      if (value) return value;
      last = value;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) throw new Error(`${what} did not happen within ${deadline_ms} ms; last: ${inspect(last, { depth: 5 })}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** What a promise was rejected with; it is an error if it was not. */
export async function rejection(promise) {
  let value;
  try {
    value = await promise;
  } catch (error) {
    return error;
  }
  throw new Error(`expected a rejection, got ${inspect(value)}`);
}

/** The latest result of a subscription, every result it ever had, and the last error. */
export function watch(client, fn, args = {}) {
  const seen = { value: undefined, values: [], error: undefined, errors: [] };
  seen.stop = client.onUpdate(
    fn,
    args,
    (value) => {
      seen.value = value;
      seen.values.push(value);
      seen.error = undefined;
    },
    (error) => {
      seen.error = error;
      seen.errors.push(error);
    },
  );
  return seen;
}

export { assert };
