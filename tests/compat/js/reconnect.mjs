// The backend dies and comes back under a reactive client. Arguments: url. Talks in lines: says "ready", "asked", "ok".
import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import { ConvexClient } from "convex/browser";
import { anyApi as api } from "convex/server";

const [url] = process.argv.slice(2);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const quiet = { log() {}, warn() {}, error() {}, logVerbose() {} };
const client = new ConvexClient(url, { logger: quiet });
const seen = [];
client.onUpdate(api.wire.list, { channel: "r" }, (list) => seen.push(list));

const sends = [];
const send = (body) => sends.push(client.mutation(api.wire.send, { channel: "r", body }));
await client.mutation(api.wire.send, { channel: "r", body: "before" });
// Some are under way when it dies, some are asked while it is gone.
for (let n = 0; n < 20; n++) send(`under way ${n}`);
console.log("ready");
await lines.next();
for (let n = 0; n < 5; n++) send(`while gone ${n}`);
console.log("asked");
await lines.next();
await Promise.all(sends);
const want = ["before", ...Array.from({ length: 20 }, (_, n) => `under way ${n}`), ...Array.from({ length: 5 }, (_, n) => `while gone ${n}`)];
assert.deepEqual(seen.at(-1), want);
// What was shown only ever grew: no empty list, no duplicate, no step back.
for (const [n, list] of seen.entries()) {
  assert.deepEqual(list, want.slice(0, list.length));
  if (n > 0) assert.ok(list.length >= seen[n - 1].length);
}
await client.close();
console.log("ok");
process.exit(0);
