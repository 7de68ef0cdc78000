// Clients whose backend is killed and started again. What happens to it is asked for on stdout, answered on stdin:
// `ask("kill")` returns when the process is gone, `ask("start")` when it answers again.

import { createInterface } from "node:readline";

import { assert, check, finish, rejection, sleep, until, url, watch } from "./harness.mjs";
import { h, mount, newClient, RecordedSocket } from "./page.mjs";

const { usePaginatedQuery, useQuery, useConvexConnectionState, useMutation } = await import("convex/react");
const { ConvexClient, ConvexHttpClient } = await import("convex/browser");
const { anyApi: api } = await import("convex/server");

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const ask = async (what) => {
  console.log(`ask ${what}`);
  const { value } = await answers.next();
  assert.equal(value, `done ${what}`);
};
const fresh = () => new ConvexHttpClient(url, { logger: false });
const texts = (group) => fresh().query(api.items.texts, { group });
const add = (group, ns) => fresh().mutation(api.items.add, { group, ns });
const range = (from, to) => Array.from({ length: to - from }, (_, n) => from + n);
const list = (ns) => ns.map((n) => `#${n}`);

const quiet = { logger: false };
const live = new ConvexClient(url, quiet);
const other = new ConvexClient(url, quiet);

for (const ending of ["kill", "stop"]) {
  await check(`${ending} in the middle of mutations: each applied exactly once, in order`, async () => {
    const group = `${ending} burst`;
    const seen = watch(other, api.items.texts, { group });
    await until(() => seen.value);
    const sent = [];
    const send = () => sent.push(live.mutation(api.items.add, { group, ns: [sent.length] }));
    for (let n = 0; n < 40; n++) send();
    await sent[7];
    // They go on until it has ended, so that some are under way when it does.
    let ended = false;
    const ending_ = ask(ending).then(() => (ended = true));
    while (!ended) {
      send();
      await sleep(20);
    }
    await ending_;
    // One more, written while nobody is there.
    send();
    assert.equal(live.connectionState().hasInflightRequests, true);
    await ask("start");
    assert.deepEqual(await Promise.all(sent), sent.map(() => 1));
    assert.deepEqual(await texts(group), list(range(0, sent.length)));
    await until(() => seen.value.length === sent.length, "the other client's subscription");
    for (const value of seen.values) assert.deepEqual(value, list(range(0, value.length)), "only prefixes are ever seen");
    assert.deepEqual(seen.errors, []);
    seen.stop();
  });
}

await check("subscriptions go on: what did not change, what changed, what failed", async () => {
  await add("sub", [1]);
  const steady = watch(live, api.items.texts, { group: "sub" });
  const failing = watch(live, api.items.countAtLeast, { group: "sub", least: 2 });
  await until(() => steady.value && failing.error);
  await ask("kill");
  await until(() => !live.connectionState().isWebSocketConnected, "the loss is noticed");
  await ask("start");
  await until(() => live.connectionState().isWebSocketConnected, "the client is back");
  await add("sub", [2]);
  await until(() => steady.value.length === 2 && failing.value === 2);
  assert.deepEqual(steady.value, ["#1", "#2"]);
  steady.stop();
  failing.stop();
});

await check("a refused mutation is refused after the restart too, and its optimistic update is taken back", async () => {
  const seen = watch(live, api.items.texts, { group: "refused" });
  await until(() => seen.value);
  await ask("kill");
  const optimisticUpdate = (store, { group }) => store.setQuery(api.items.texts, { group }, ["(maybe)"]);
  const refused = rejection(live.mutation(api.items.add, { group: "refused", ns: [1], refuse: true }, { optimisticUpdate }));
  await until(() => seen.value[0] === "(maybe)");
  await ask("start");
  assert.deepEqual((await refused).data, { code: "REFUSED", ns: [1] });
  await until(() => seen.value.length === 0);
  seen.stop();
});

function Pages({ group }) {
  const { results, status, loadMore } = usePaginatedQuery(api.items.page, { group }, { initialNumItems: 3 });
  return h("div", null, `${status}| ${results.map((item) => item.text).join(" ")}`, h("button", { onClick: () => loadMore(3) }));
}

await check("a paginated list keeps its pages and what is on them", async () => {
  const client = newClient(url);
  await add("pages", range(0, 12).map((n) => n * 10));
  const page = mount(client, Pages, { group: "pages" });
  const expect = (ns) => until(() => page.text() === `CanLoadMore| ${list(ns).join(" ")}`, `${ns}; it is ${page.text()}`);
  await expect([0, 10, 20]);
  page.click("button");
  await expect([0, 10, 20, 30, 40, 50]);
  await add("pages", [15, 25]);
  const before = [0, 10, 15, 20, 25, 30, 40, 50];
  await expect(before);
  page.shown.length = 0;
  await ask("kill");
  await until(() => RecordedSocket.open.size === 0);
  await ask("start");
  await until(() => client.connectionState().isWebSocketConnected);
  await add("pages", [35, 55]);
  await expect([0, 10, 15, 20, 25, 30, 35, 40, 50]);
  for (const text of page.shown) assert.ok(text.startsWith("CanLoadMore| #0 #10 #15 #20 #25 #30"), text);
  // Journals went with the queries that were asked again.
  const again = RecordedSocket.sent.filter((message) => message.type === "Connect").length;
  assert.ok(again >= 2);
  const journals = RecordedSocket.sent.flatMap((message) => message.modifications ?? []).filter((change) => change.type === "Add" && change.journal);
  assert.ok(journals.length >= 2, "no journal was sent");
  page.click("button");
  await expect([0, 10, 15, 20, 25, 30, 35, 40, 50, 55, 60, 70]);
  page.unmount();
  await client.close();
});

function State({ group }) {
  const rows = useQuery(api.items.texts, { group });
  const { isWebSocketConnected } = useConvexConnectionState();
  const addRow = useMutation(api.items.add).withOptimisticUpdate((store, { group, ns }) => {
    const now = store.getQuery(api.items.texts, { group });
    if (now) store.setQuery(api.items.texts, { group }, [...now, `(${ns[0]})`]);
  });
  return h("div", null, `${isWebSocketConnected ? "on" : "off"}: ${rows?.join(" ") ?? "loading"}`, h("button", { onClick: () => void addRow({ group, ns: [2] }) }));
}

await check("a page shows that it is offline, keeps its data and its optimistic rows, and comes back", async () => {
  const client = newClient(url);
  await add("state", [1]);
  const page = mount(client, State, { group: "state" });
  await until(() => page.text() === "on: #1");
  page.shown.length = 0;
  await ask("kill");
  await until(() => page.text() === "off: #1");
  page.click("button");
  await until(() => page.text() === "off: #1 (2)");
  await ask("start");
  await until(() => page.text() === "on: #1 #2");
  assert.ok(!page.shown.some((text) => text.includes("loading")));
  assert.deepEqual(await texts("state"), ["#1", "#2"]);
  page.unmount();
  await client.close();
});

await live.close();
await other.close();
finish();
