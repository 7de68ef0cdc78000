// Components in components in components: search of both kinds, Node, HTTP, failures, handles. Official clients only.

import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import { assert, check, finish, rejection, until, url, watch } from "./harness.mjs";

const site = process.argv[4];
const { app, inNode } = anyApi;
const client = new ConvexHttpClient(url, { logger: false });
const live = new ConvexClient(url, { logger: false });
const everywhere = (state) => Object.values(state);

await check("every instance has its own indexes of each kind: order, words, vectors", async () => {
  for (const [name, rank] of [["red apple", 1], ["green apple", 2], ["red car", 3]]) {
    await client.mutation(app.add, { below: false, name, rank, place: [rank, 1] });
  }
  await client.mutation(app.add, { below: false, second: true, name: "red herring", rank: 1, place: [1, 1] });
  await client.mutation(app.add, { below: true, name: "inner apple", rank: 1, place: [1, 1] });
  await client.mutation(app.addHere, { name: "apple of the app", rank: 1, place: [1, 1] });
  assert.deepEqual(await client.query(app.ranked, { from: 2 }), ["green apple", "red car"]);
  assert.deepEqual(await client.query(app.ranked, { from: 2, second: true }), []);
  assert.deepEqual((await client.query(app.search, { words: "apple" })).sort(), ["green apple", "red apple"]);
  assert.deepEqual(await client.query(app.search, { words: "red", second: true }), ["red herring"]);
  assert.deepEqual(await client.query(app.search, { words: "apple", second: true }), []);
  assert.deepEqual(await client.action(app.near, { vector: [1, 1] }), ["red apple", "green apple", "red car"]);
  assert.deepEqual(await client.action(app.near, { vector: [1, 1], rank: 3 }), ["red car"]);
  assert.deepEqual(await client.action(app.near, { vector: [1, 1], second: true }), ["red herring"]);
  assert.deepEqual(await client.action(app.near, { vector: [1, 1], below: true }), ["inner apple"]);
  assert.deepEqual(await client.action(app.near, { vector: [1, 1], below: true, second: true }), []);
});

await check("a search of a component is live", async () => {
  const seen = watch(live, app.search, { words: "pear", second: true });
  await until(() => seen.value !== undefined);
  assert.deepEqual(seen.value, []);
  await client.mutation(app.add, { below: false, name: "pear elsewhere", rank: 9, place: [9, 1] });
  await client.mutation(app.add, { below: false, second: true, name: "pear", rank: 9, place: [9, 1] });
  await until(() => seen.value.length === 1, "the pear", 30_000);
  assert.deepEqual(seen.values, [[], ["pear"]]);
  seen.stop();
});

await check("variables are handed down, crons run at every depth, nobody is signed in", async () => {
  const states = await until(async () => {
    const all = { ...(await client.query(app.all, {})) };
    return everywhere(all).every(({ beats }) => beats > 0) && all;
  }, "a beat everywhere", 30_000);
  assert.deepEqual(Object.fromEntries(Object.entries(states).map(([at, { word }]) => [at, word])), {
    outer: "one", left: "one", right: "right", leftInner: "one", rightInner: "right",
  });
  assert.equal((await client.query(app.all, { second: true })).leftInner.word, "two");
  assert.ok(everywhere(states).every(({ identity }) => identity === null));
});

await check("from an action in Node", async () => {
  const found = await client.action(inNode.everything, { name: "from node" });
  assert.deepEqual(found.ranked, ["from node"]);
  assert.deepEqual(found.near, ["from node"]);
  assert.deepEqual(found.failure, { code: "no_room", big: 12n, bytes: new ArrayBuffer(2) });
  assert.match(found.wrong, /ArgumentValidationError/);
});

await check("HTTP routes at every depth: preflight, what an HTTP action can do, streams, errors", async () => {
  for (const [path, word, found] of [
    ["/outer", "one", "outer item"],
    ["/outer/left", "one", "left item"],
    ["/outer/left/inner", "one", "inner item"],
    ["/second/left/inner", "two", "second inner item"],
  ]) {
    const preflight = await fetch(`${site}${path}/items`, { method: "OPTIONS", headers: { Origin: "http://elsewhere.test" } });
    assert.equal(preflight.status, 204);
    assert.equal(preflight.headers.get("access-control-allow-methods"), "GET, POST");
    const made = await fetch(`${site}${path}/items`, { method: "POST", body: JSON.stringify({ name: found, rank: 20 }) });
    assert.equal(made.status, 201, await made.clone().text());
    const { near, found: names, url, word: said } = await made.json();
    assert.deepEqual([near, names[0], said], [1, found, word]);
    assert.equal(await (await fetch(url)).text(), found);
    const streamed = await fetch(`${site}${path}/stream`);
    assert.equal(streamed.headers.get("access-control-allow-origin"), "*");
    assert.ok((await streamed.text()).endsWith(`${word}: ${found}\n`));
    const failed = await fetch(`${site}${path}/fails`);
    assert.equal(failed.status, 500);
    assert.match((await failed.json()).code, /Error|Failed/);
  }
  assert.equal((await fetch(`${site}/outer/right/items`)).status, 404);
  assert.equal((await fetch(`${site}/second`)).status, 404);
});

await check("a failure three deep leaves nothing where it happened, and may be caught on the way", async () => {
  const stored = await client.action(app.keepBelow, { text: "a file" });
  const before = await client.query(app.all, {});
  const caught = await client.mutation(app.fail, { how: "data", stored, caught: true });
  assert.deepEqual(caught.data, { code: "no_room", big: 12n, bytes: new ArrayBuffer(2) });
  const after = await client.query(app.all, {});
  assert.deepEqual(after.leftInner.items, before.leftInner.items);
  assert.equal(after.leftInner.files, before.leftInner.files);
  assert.equal(after.leftInner.jobs, before.leftInner.jobs);
  assert.deepEqual(after.left.items.slice(before.left.items.length), ["before data", "after data"]);
  assert.equal((await client.query(app.here)).filter((name) => name === "went on").length, 1);
  // Not caught: nothing anywhere.
  const error = await rejection(client.mutation(app.fail, { how: "data", stored, caught: false }));
  assert.deepEqual(error.data, { code: "no_room", big: 12n, bytes: new ArrayBuffer(2) });
  const plain = await rejection(client.mutation(app.fail, { how: "error", caught: false }));
  console.log(plain.message);
  assert.match(plain.message, /TypeError: inner cannot go on/);
  assert.deepEqual((await client.query(app.all, {})).left.items, after.left.items);
  // And when nothing fails, all of it is there.
  await client.mutation(app.fail, { how: "no", stored, caught: true });
  const last = await client.query(app.all, {});
  assert.equal(last.leftInner.files, before.leftInner.files - 1);
  assert.equal(last.leftInner.jobs, before.leftInner.jobs + 1);
});

await check("no pages inside a component", async () => {
  assert.match((await rejection(client.query(app.paged))).message, /paginate\(\) is only supported in the app|[Pp]agina/);
});

await check("a handle is kept by a component, called and scheduled", async () => {
  const handle = await client.mutation(app.remember);
  assert.match(handle, /^function:\/\//);
  assert.equal(await client.mutation(app.callRemembered, { text: "hello" }), "heard hello");
  await client.mutation(app.scheduleRemembered, { text: "later" });
  await until(async () => (await client.query(app.here)).includes("heard later"), "the scheduled handle", 30_000);
});

await live.close();
finish();
