// An older release of the client library signs in, is refreshed, and signs out. Arguments: url, two tokens of one person.

import assert from "node:assert/strict";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";

const [url, first, second] = process.argv.slice(2);
const client = new ConvexClient(url);
const states = [];
const asked = [];
const seen = [];
const until = async (probe) => {
  for (const end = Date.now() + 10_000; !probe(); ) {
    assert.ok(Date.now() < end, JSON.stringify({ states, asked, seen }));
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};

client.onUpdate(api.users.identity, {}, (value) => seen.push(value?.subject ?? null));
await until(() => seen.length === 1);
client.setAuth(
  async ({ forceRefreshToken }) => (asked.push(forceRefreshToken), forceRefreshToken ? second : first),
  (signedIn) => states.push(signedIn),
);
await until(() => seen.at(-1) === "ann" && asked.length === 2);
await client.mutation(api.users.store, {});
client.client.clearAuth();
await until(() => seen.at(-1) === null);
assert.deepEqual([...new Set(states)], [true]);
await client.close();

const http = new ConvexHttpClient(url);
http.setAuth(first);
assert.equal((await http.query(api.users.identity)).subject, "ann");
http.clearAuth();
assert.equal(await http.query(api.users.identity), null);
console.log("ok");
process.exit(0);
