// The official reactive client. Arguments: url, admin key, name of this run.
import assert from "node:assert/strict";
import { ConvexClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { ConvexError } from "convex/values";

// `run` keeps the channels of one run apart from those of another.
const [url, adminKey, run] = process.argv.slice(2);
const logged = [];
const logger = Object.fromEntries(["log", "warn", "error", "logVerbose"].map((level) => [level, (...args) => logged.push(args.join(" "))]));
const open = () => new ConvexClient(url, { logger });

/** Every result of a query, in order, with a way to wait for one. */
function follow(client, query, args) {
  const seen = [];
  const waiters = new Set();
  const push = (item) => {
    seen.push(item);
    for (const waiter of [...waiters]) waiter();
  };
  const stop = client.onUpdate(query, args, push, (error) => push({ error }));
  const until = (test) =>
    new Promise((resolve, reject) => {
      const check = () => {
        const found = seen.find(test);
        if (found === undefined) return;
        clearTimeout(timer);
        waiters.delete(check);
        resolve(found);
      };
      const timer = setTimeout(() => reject(new Error(`not seen: ${test} in ${JSON.stringify(seen.map(String))}`)), 40_000);
      waiters.add(check);
      check();
    });
  return { seen, stop, until };
}
const same = (want) => (got) => JSON.stringify(got) === JSON.stringify(want);

const one = open();
const two = open();
const list1 = follow(one, api.wire.list, { channel: run + "l" });
const list2 = follow(two, api.wire.list, { channel: run + "l" });
const any2 = follow(two, api.wire.hasAny, { channel: run + "l" });
await Promise.all([list1.until(same([])), list2.until(same([])), any2.until(same(false))]);

// A mutation of one is seen by both, and by its own client before its promise resolves.
await one.mutation(api.wire.send, { channel: run + "l", body: "a" });
assert.deepEqual(list1.seen.at(-1), ["a"]);
await Promise.all([list2.until(same(["a"])), any2.until(same(true))]);
assert.ok(logged.some((line) => line.includes("[CONVEX M(wire:send)]") && line.includes("sending")), logged.join("\n"));

// A result that did not change is not delivered again; another channel's message reaches nobody.
await two.mutation(api.wire.send, { channel: run + "elsewhere", body: "x" });
await two.mutation(api.wire.send, { channel: run + "l", body: "b" });
await list1.until(same(["a", "b"]));
assert.deepEqual(any2.seen, [false, true]);
assert.deepEqual(list1.seen, [[], ["a"], ["a", "b"]]);

// An optimistic update is shown at once, and no state in between shows both or neither.
const before = list1.seen.length;
await one.mutation(api.wire.send, { channel: run + "l", body: "c" }, {
  optimisticUpdate: (store, args) => {
    const now = store.getQuery(api.wire.list, { channel: run + "l" });
    store.setQuery(api.wire.list, { channel: run + "l" }, [...now, args.body]);
  },
});
assert.deepEqual(list1.seen.slice(before).map(String).filter((s, i, all) => s !== all[i - 1]), ["a,b,c"]);

// A failed mutation rolls its optimistic update back and tells why.
const failed = await one.mutation(api.wire.sendAndFail, { channel: run + "l", how: "data" }, {
  optimisticUpdate: (store) => store.setQuery(api.wire.list, { channel: run + "l" }, ["optimism"]),
}).then(() => assert.fail(), (e) => e);
assert.ok(failed instanceof ConvexError);
assert.deepEqual(failed.data, { code: 7n, why: "because" });
assert.deepEqual(list1.seen.at(-1), ["a", "b", "c"]);
// (Older releases have optimistic updates in React only.)
if (one.mutation.length > 2) assert.ok(list1.seen.some(same(["optimism"])));

// Many at once: answered in order, applied once each.
await Promise.all(Array.from({ length: 50 }, (_, n) => one.mutation(api.wire.send, { channel: run + "order", body: String(n) })));
assert.deepEqual(await one.query(api.wire.list, { channel: run + "order" }), Array.from({ length: 50 }, (_, n) => String(n)));

// Failing queries, unknown ones, wrong arguments: errors of that query alone.
for (const [query, args, pattern] of [
  [api.wire.failing, { how: "plain" }, /Server Error\n *Uncaught Error: plain trouble/],
  [api.wire.nothing, {}, /Could not find public function for 'wire:nothing'/],
  [api.wire.hidden, {}, /Could not find public function for 'wire:hidden'/],
  [api.wire.list, { channel: 5 }, /ArgumentValidationError/],
]) {
  const { error } = await follow(one, query, args).until((item) => item?.error);
  assert.match(error.message, pattern);
}
const { error } = await follow(one, api.wire.failing, { how: "null" }).until((item) => item?.error);
assert.ok(error instanceof ConvexError && error.data === null);
assert.equal(await one.action(api.wire.act, {}), "acted");
await assert.rejects(one.mutation("not a path!", {}), /not a path/);

// Values of every kind survive.
const odd = { int: -5n, nan: NaN, bytes: new Uint8Array([1, 2]).buffer, text: "é😀", whole: 3 };
assert.deepEqual(await one.query(api.wire.echo, { value: odd }), odd);

// A Transition of more than 5 MB comes in pieces.
assert.equal((await one.query(api.wire.big, { characters: 4_000_000 })).length, 4_000_000);

// Pages, with a journal.
const first = await one.query(api.wire.page, { channel: run + "order", paginationOpts: { numItems: 10, cursor: null } });
assert.equal(first.page.length, 10);
const rest = await one.query(api.wire.page, { channel: run + "order", paginationOpts: { numItems: 100, cursor: first.continueCursor } });
assert.equal(rest.page.length, 40);
assert.equal(rest.isDone, true);
const page = (channel, cursor) => follow(one, api.wire.page, { channel, paginationOpts: { numItems: 1, cursor } }).until((item) => item?.error);
const foreign = (await page(run + "l", first.continueCursor)).error;
assert.match(foreign.message, /InvalidCursor/);
assert.deepEqual(foreign.data, { isConvexSystemError: true, paginationError: "InvalidCursor" });
assert.match((await page(run + "order", first.continueCursor + "x")).error.message, /cursor/);

// Admin, acting as a user; then as nobody.
const admin = open();
admin.client.setAdminAuth(adminKey, { issuer: "https://i.test", subject: "ada", tokenIdentifier: "https://i.test|ada" });
const who = follow(admin, api.wire.who, {});
await who.until(same("ada"));
assert.equal(await admin.query(api.wire.hidden, {}), "secret");

// A token that no provider vouches for: told so, and served as nobody.
const stranger = open();
const changes = [];
const denied = new Promise((resolve) => {
  stranger.setAuth(async () => "aGVhZA.eyJpYXQiOjEsImV4cCI6OTk5OTk5OTk5OX0.c2ln", (isAuthenticated) => {
    changes.push(isAuthenticated);
    resolve();
  });
});
await denied;
assert.deepEqual(changes, [false]);
assert.equal(await stranger.query(api.wire.who, {}), null);

for (const client of [one, two, admin, stranger]) await client.close();
console.log("ok");
