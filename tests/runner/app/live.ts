// An export that changes after evaluation: only real module records keep its meaning.
import { query } from "./_generated/server";
import { other } from "./shared";

export let current = 0;

export const bump = query(async () => {
  current++;
  return [current, other()];
});

export const failing = query(async () => {
  throw new Error("from a record");
});
