import { query } from "./_generated/server";

let calls = 0;
export function other() {
  return ++calls;
}
export const count = query(async () => other());
