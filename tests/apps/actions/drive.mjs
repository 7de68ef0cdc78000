// Actions through the official clients. Arguments: url, admin key.

import http from "node:http";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { ConvexError } from "convex/values";
import { adminKey, assert, check, finish, rejection, sleep, until, url, watch } from "./harness.mjs";

let held; // What asked for /held waits for its answer.
const server = http.createServer((request, response) => {
  if (request.url === "/hang") return;
  if (request.url === "/held") return void (held = response);
  if (request.url === "/missing") return response.writeHead(404).end("nothing here");
  if (request.url === "/plain") return response.end("no title here");
  setTimeout(() => response.end(`<html><title> Page ${request.url} </title></html>`), request.url === "/slow" ? 300 : 0);
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const site = `http://127.0.0.1:${server.address().port}`;

const lines = [];
const logger = Object.fromEntries(["log", "warn", "error", "logVerbose"].map((level) => [level, (...args) => lines.push(args.join(" "))]));
const live = new ConvexClient(url, { logger });
const plain = new ConvexHttpClient(url, { logger });

await check("an action over HTTP and over the socket", async () => {
  assert.equal(await plain.action(api.titles.preview, { url: `${site}/a` }), "Page /a");
  assert.equal(await live.action(api.titles.preview, { url: `${site}/b` }), "Page /b");
  assert.deepEqual(await live.action(api.titles.previewAll, { urls: [`${site}/1`, `${site}/missing`, `${site}/2`] }), ["Page /1", null, "Page /2"]);
});

await check("every kind of value travels both ways", async () => {
  const bytes = new Uint8Array([1, 2, 3]).buffer;
  for (const client of [plain, live]) {
    const back = await client.action(api.probes.values, { big: 2n ** 62n, bytes, nested: { a: [1, null, "é", -0, Infinity] } });
    assert.equal(back.big, 2n ** 62n + 1n);
    assert.deepEqual(new Uint8Array(back.bytes), new Uint8Array(bytes));
    assert.deepEqual(back.nested, { a: [1, null, "é", -0, Infinity] });
  }
});

await check("a mutation has an action run; its result shows in a subscription", async () => {
  const list = watch(live, api.links.list);
  await live.mutation(api.links.add, { url: `${site}/listed` });
  await until(() => list.value?.[0]?.state === "ready", "the title");
  assert.equal(list.value[0].title, "Page /listed");
  assert.ok(list.values.some((seen) => seen[0]?.state === "waiting"), "it was shown before it had a title");
  await live.mutation(api.links.add, { url: `${site}/plain` });
  await until(() => list.value?.[0]?.state === "failed", "the failure");
  list.stop();
});

await check("errors: a ConvexError with its data, another with its text", async () => {
  for (const client of [plain, live]) {
    const refused = await rejection(client.action(api.probes.refuse, {}));
    assert.ok(refused instanceof ConvexError, String(refused));
    assert.deepEqual(refused.data, { code: "no", left: 3n });
    const broken = await rejection(client.action(api.probes.broken, {}));
    assert.match(broken.message, /Server Error\s+Uncaught Error: it broke\s+at handler \(\.\.\/convex\/probes\.ts:\d+:\d+\)/);
    assert.match((await rejection(client.action(api.probes.slow, { name: 5 }))).message, /ArgumentValidationError/);
    assert.match((await rejection(client.action(api.probes.inner, { depth: 0 }))).message, /Could not find public function for 'probes:inner'/);
    assert.match((await rejection(client.action(api.links.list, {}))).message, /Trying to execute links\.js:list as Action, but it is defined as Query/);
    const status = await rejection(client.action(api.titles.preview, { url: `${site}/missing` }));
    assert.deepEqual(status.data, { kind: "NotAPage", status: 404 });
  }
  assert.ok(lines.some((line) => line.includes("about to refuse")), "its lines are shown in the client's console");
});

await check("actions run beside each other, in any order, and beside mutations", async () => {
  const slow = live.action(api.titles.preview, { url: `${site}/held` });
  await until(() => held, "the first one's request");
  assert.equal(await live.action(api.titles.preview, { url: `${site}/x` }), "Page /x");
  await live.mutation(api.links.add, { url: `${site}/y` });
  held.end("<html><title>At last</title></html>");
  assert.equal(await slow, "At last");
});

await check("two hundred sleep at once", async () => {
  const started = Date.now();
  const clients = Array.from({ length: 4 }, () => new ConvexClient(url, { logger: false }));
  const all = clients.flatMap((client, c) => Array.from({ length: 50 }, (_, i) => client.action(api.probes.slow, { name: `many ${c} ${i}`, ms: 300 })));
  assert.deepEqual(await Promise.all(all), Array(200).fill(2));
  assert.ok(Date.now() - started < 55_000, `${Date.now() - started} ms: one after the other takes a minute`);
  await Promise.all(clients.map((client) => client.close()));
});

await check("actions run actions", async () => {
  assert.equal(await live.action(api.probes.outer, { depth: 12 }), 12);
  assert.equal(await live.action(api.probes.transfer, { name: "twenty" }), 20);
  assert.equal(await live.query(api.probes.marks, { name: "twenty" }), 20);
});

await check("a query's answer that an action has waited for includes its own writes", async () => {
  for (let i = 0; i < 10; i++) assert.equal(await plain.action(api.probes.slow, { name: `own ${i}`, ms: 0 }), 2);
});

await check("what is not awaited is dropped, with a warning in the console", async () => {
  lines.length = 0;
  assert.equal(await live.action(api.probes.forgetful, { name: "forgotten" }), "gone");
  assert.ok(lines.some((line) => line.includes("1 unawaited operation: [runMutation]")), lines.join("\n"));
});

await check("an action goes on when its client goes; it is not run again", async () => {
  const leaving = new ConvexClient(url, { logger: false });
  const lost = leaving.action(api.probes.slow, { name: "left", ms: 700 });
  lost.catch(() => {});
  await until(async () => (await plain.query(api.probes.marks, { name: "left" })) === 1, "its first step");
  await leaving.close();
  await until(async () => (await plain.query(api.probes.marks, { name: "left" })) === 2, "its second step");
  await sleep(300);
  assert.equal(await plain.query(api.probes.marks, { name: "left" }), 2);
});

await check("an admin may run internal ones", async () => {
  const admin = new ConvexHttpClient(url, { logger: false });
  admin.setAdminAuth(adminKey);
  assert.equal(await admin.function(api.probes.inner, undefined, { depth: 2 }), 2);
  assert.equal(await admin.action(api.probes.inner, { depth: 1 }), 1);
});

await live.close();
server.closeAllConnections();
server.close();
finish();
