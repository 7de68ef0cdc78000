// The hooks of the official React package, rendered; what the page shows is what is checked.

import { assert, check, finish, rejection, sleep, until, url } from "./harness.mjs";
import { added, h, mount, newClient, RecordedSocket } from "./page.mjs";

const React = await import("react");
const {
  insertAtPosition, insertAtTop, optimisticallyUpdateValueInPaginatedQuery, useConvex, useConvexConnectionState, useMutation, usePaginatedQuery,
  usePaginatedQuery_experimental, useQueries, useQuery,
} = await import("convex/react");
const { ConvexHttpClient } = await import("convex/browser");
const { ConvexError } = await import("convex/values");
const { anyApi: api } = await import("convex/server");

const client = newClient(url);
const outside = new ConvexHttpClient(url, { logger: false });
const add = (group, ns) => outside.mutation(api.items.add, { group, ns });
const remove = (group, from, to) => outside.mutation(api.items.remove, { group, from, to });
const range = (from, to) => Array.from({ length: to - from }, (_, n) => from + n);
const list = (ns) => ns.map((n) => `#${n}`).join(" ");

function Texts({ group }) {
  const texts = useQuery(api.items.texts, group === undefined ? "skip" : { group });
  return texts === undefined ? "loading" : `${group}: ${texts.join(" ")}`;
}

await check("useQuery: loading, a value, live, another argument, skip", async () => {
  await add("a", [1, 2]);
  const page = mount(client, Texts, { group: "a" });
  await until(() => page.text() === "a: #1 #2");
  assert.equal(page.shown[0], "loading");
  await add("a", [3]);
  await until(() => page.text() === "a: #1 #2 #3");
  page.render({ group: "b" });
  await until(() => page.text() === "b: ");
  page.render({});
  await until(() => page.text() === "loading");
  const marked = RecordedSocket.received.length;
  await add("a", [4]);
  await add("b", [1]);
  await sleep(100);
  assert.deepEqual(RecordedSocket.received.slice(marked).flatMap((message) => message.modifications ?? []).filter((change) => change.type === "QueryUpdated"), []);
  page.unmount();
});

await check("two components and two clients share what they ask for", async () => {
  const other = newClient(url);
  const pages = [mount(client, Texts, { group: "shared" }), mount(client, Texts, { group: "shared" }), mount(other, Texts, { group: "shared" })];
  await until(() => pages.every((page) => page.text() === "shared: "));
  assert.equal(added("items:texts").filter((args) => args.group === "shared").length, 2);
  await add("shared", [1]);
  await until(() => pages.every((page) => page.text() === "shared: #1"));
  pages.forEach((page) => page.unmount());
  await other.close();
});

function Adder({ group }) {
  const texts = useQuery(api.items.texts, { group });
  const [failure, setFailure] = React.useState("");
  const addItem = useMutation(api.items.add).withOptimisticUpdate((store, { group, ns }) => {
    const now = store.getQuery(api.items.texts, { group });
    if (now !== undefined) store.setQuery(api.items.texts, { group }, [...now, ...ns.map((n) => `(${n})`)]);
  });
  const send = (ns, refuse) => addItem({ group, ns, refuse }).catch((error) => setFailure(` ${error instanceof ConvexError ? JSON.stringify(error.data) : error}`));
  return h("div", null,
    texts === undefined ? "loading" : texts.join(" "), failure,
    h("button", { className: "one", onClick: () => send([texts.length + 1]) }),
    h("button", { className: "refused", onClick: () => send([99], true) }),
    h("button", { className: "burst", onClick: () => { send([7]); send([8], true); send([9]); } }));
}

await check("useMutation: shown before the server knows, replaced without a gap, taken back when refused", async () => {
  const page = mount(client, Adder, { group: "optimistic" });
  await until(() => page.shown.length > 1 && page.text() === "");
  page.click(".one");
  await until(() => page.text() === "#1");
  assert.deepEqual(page.shown.filter((text) => text !== "loading" && text !== ""), ["(1)", "#1"]);
  page.shown.length = 0;
  page.click(".refused");
  await until(() => page.text() === '#1 {"code":"REFUSED","ns":[99]}');
  assert.equal(page.shown[0], "#1 (99)");
  assert.ok(!page.shown.some((text) => text.includes("#99")));
  assert.deepEqual(await outside.query(api.items.texts, { group: "optimistic" }), ["#1"]);
  page.unmount();
});

await check("a burst of mutations: never a state in which one is shown twice or lost", async () => {
  const page = mount(client, Adder, { group: "burst" });
  await until(() => page.shown.length > 1 && page.text() === "");
  page.click(".burst");
  await until(() => page.text().startsWith("#7 #9"));
  for (const text of page.shown.filter((text) => text !== "loading" && text !== "")) {
    const sevens = text.match(/[#(]7/g) ?? [];
    const nines = text.match(/[#(]9\b/g) ?? [];
    assert.deepEqual([sevens.length, nines.length <= 1], [1, true], text);
  }
  assert.deepEqual(await outside.query(api.items.texts, { group: "burst" }), ["#7", "#9"]);
  page.unmount();
});

function List({ hook = usePaginatedQuery, fn = api.items.page, group, size = 4 }) {
  const { results, status, loadMore, isLoading } = hook(fn, group === undefined ? "skip" : { group }, { initialNumItems: size });
  return h("div", null,
    h("span", { className: "status" }, `${status}${isLoading ? "…" : ""}| `),
    results.map((item) => item.text).join(" "),
    h("button", { className: "more", onClick: () => loadMore(size) }));
}

// Before 1.43 the experimental hook, where it exists, started split pages at the beginning (the package's changelog).
const { version } = await import("convex");
const paginated = { usePaginatedQuery, ...(Number(version.split(".")[1]) >= 43 ? { usePaginatedQuery_experimental } : {}) };
for (const [name, hook] of Object.entries(paginated)) {
  await check(`${name}: pages, loadMore, exhausted`, async () => {
    const group = `${name} pages`;
    await add(group, range(0, 10));
    const page = mount(client, List, { hook, group });
    await until(() => page.text() === `CanLoadMore| ${list(range(0, 4))}`);
    assert.equal(page.shown[0], "LoadingFirstPage…| ");
    page.click(".more");
    await until(() => page.text() === `CanLoadMore| ${list(range(0, 8))}`);
    assert.ok(page.shown.some((text) => text === `LoadingMore…| ${list(range(0, 4))}`));
    page.click(".more");
    await until(() => page.text() === `Exhausted| ${list(range(0, 10))}`);
    page.unmount();
  });

  await check(`${name}: rows appear and vanish in the middle, at the end and between pages, without gaps`, async () => {
    const group = `${name} middle`;
    await add(group, range(0, 20).map((n) => n * 10));
    const page = mount(client, List, { hook, group });
    const expect = (ns) => until(() => page.text().endsWith(`| ${list(ns)}`), `${list(ns)} in ${page.text()}`);
    await expect([0, 10, 20, 30]);
    page.click(".more");
    await expect(range(0, 8).map((n) => n * 10));
    await add(group, [15]);
    await expect([0, 10, 15, 20, 30, 40, 50, 60, 70]);
    await add(group, [35]);
    await expect([0, 10, 15, 20, 30, 35, 40, 50, 60, 70]);
    await remove(group, 30, 40);
    await expect([0, 10, 15, 20, 50, 60, 70]);
    await add(group, [75]);
    await sleep(100);
    assert.ok(page.text().endsWith(`| ${list([0, 10, 15, 20, 50, 60, 70])}`), "a row after the last loaded one stays outside");
    page.click(".more");
    await expect([0, 10, 15, 20, 50, 60, 70, 75, 80, 90, 100]);
    await remove(group, 0, 65);
    await expect([70, 75, 80, 90, 100]);
    page.click(".more");
    await expect([70, 75, 80, 90, 100, 110, 120, 130, 140]);
    page.unmount();
  });

  await check(`${name}: a page that grows past twice its size is split, and never flickers`, async () => {
    const group = `${name} grows`;
    await add(group, [0, 100, 200, 300, 400]);
    const page = mount(client, List, { hook, group, size: 2 });
    await until(() => page.text() === "CanLoadMore| #0 #100");
    page.click(".more");
    await until(() => page.text() === "CanLoadMore| #0 #100 #200 #300");
    const marked = RecordedSocket.sent.length;
    page.shown.length = 0;
    for (const n of range(1, 9)) await add(group, [n]);
    await until(() => page.text() === `CanLoadMore| ${list([...range(0, 9), 100, 200, 300])}`);
    const splits = added("items:page", marked).filter((args) => args.group === group);
    assert.ok(splits.length >= 2 && splits.every((args) => typeof args.paginationOpts.endCursor === "string"), JSON.stringify(splits));
    await until(() => RecordedSocket.sent.slice(marked).some((message) => message.modifications?.some((change) => change.type === "Remove")), "the split page is given up");
    for (const text of page.shown) {
      const shown = [...text.matchAll(/#(\d+)/g)].map((match) => Number(match[1]));
      assert.deepEqual(shown, [...new Set(shown)].sort((a, b) => a - b), text);
      assert.ok(shown.includes(0) && shown.includes(300) && shown.length >= 4, `a gap: ${text}`);
    }
    // The two halves go on being live.
    await add(group, [50]);
    await remove(group, 3, 3);
    await until(() => page.text() === `CanLoadMore| ${list([0, 1, 2, 4, 5, 6, 7, 8, 50, 100, 200, 300])}`);
    page.click(".more");
    await until(() => page.text() === `Exhausted| ${list([0, 1, 2, 4, 5, 6, 7, 8, 50, 100, 200, 300, 400])}`);
    page.unmount();
  });

  await check(`${name}: maximumRowsRead ends pages early, which are then split`, async () => {
    const group = `${name} sparse`;
    await add(group, range(0, 20));
    const page = mount(client, List, { hook, fn: api.items.sparsePage, group, size: 4 });
    const expected = [];
    for (let n = 0; n < 20; n += 3) expected.push(n);
    await until(() => /^(CanLoadMore|Exhausted)\| #0/.test(page.text()));
    for (let n = 0; n < 12 && !page.text().startsWith("Exhausted"); n++) {
      const before = page.text();
      page.click(".more");
      await until(() => page.text() !== before && /^(CanLoadMore|Exhausted)\|/.test(page.text()), `more than ${before}`);
    }
    assert.equal(page.text(), `Exhausted| ${list(expected)}`);
    page.unmount();
  });

  await check(`${name}: other arguments start again; skip`, async () => {
    const page = mount(client, List, { hook, group: `${name} pages` });
    await until(() => page.text() === `CanLoadMore| ${list(range(0, 4))}`);
    page.click(".more");
    await until(() => page.text() === `CanLoadMore| ${list(range(0, 8))}`);
    page.render({ hook, group: "nothing here" });
    await until(() => page.text() === "Exhausted| ");
    page.render({ hook });
    await until(() => page.text() === "LoadingFirstPage…| ");
    page.unmount();
  });
}

function OptimisticList({ group }) {
  const { results } = usePaginatedQuery(api.items.page, { group }, { initialNumItems: 10 });
  const argsToMatch = { group };
  const item = (n) => ({ _id: `new ${n}`, _creationTime: 0, group, n, text: `(${n})` });
  const insert = useMutation(api.items.add).withOptimisticUpdate((localQueryStore, { ns: [n] }) =>
    insertAtPosition({ paginatedQuery: api.items.page, argsToMatch, sortOrder: "asc", sortKeyFromItem: (row) => [row.n, row._creationTime], localQueryStore, item: item(n) }));
  const top = useMutation(api.items.add).withOptimisticUpdate((localQueryStore, { ns: [n] }) =>
    insertAtTop({ paginatedQuery: api.items.page, argsToMatch, localQueryStore, item: item(n) }));
  const rename = useMutation(api.items.rename).withOptimisticUpdate((store, { id, text }) =>
    optimisticallyUpdateValueInPaginatedQuery(store, api.items.page, { group }, (row) => (row._id === id ? { ...row, text: `(${text})` } : row)));
  return h("div", null, results.map((row) => row.text).join(" "),
    h("button", { className: "insert", onClick: () => void insert({ group, ns: [25] }) }),
    h("button", { className: "top", onClick: () => void top({ group, ns: [5] }) }),
    h("button", { className: "rename", onClick: () => void rename({ id: results[0]._id, text: "first" }) }));
}

await check("optimistic updates of paginated lists", async () => {
  await add("optimistic list", [10, 20, 30]);
  const page = mount(client, OptimisticList, { group: "optimistic list" });
  await until(() => page.text() === "#10 #20 #30");
  const step = async (button, optimistic, final) => {
    page.shown.length = 0;
    page.click(button);
    await until(() => page.text() === final);
    assert.deepEqual(page.shown, [optimistic, final]);
  };
  await step(".insert", "#10 #20 (25) #30", "#10 #20 #25 #30");
  await step(".top", "(5) #10 #20 #25 #30", "#5 #10 #20 #25 #30");
  await step(".rename", "(first) #10 #20 #25 #30", "first #10 #20 #25 #30");
  page.unmount();
});

function Several({ groups }) {
  const queries = Object.fromEntries(groups.map((group) => [group, { query: api.items.countAtLeast, args: { group, least: 1 } }]));
  const results = useQueries(React.useMemo(() => queries, [groups.join()]));
  return groups.map((group) => {
    const result = results[group];
    if (result === undefined) return `${group}=…`;
    return result instanceof ConvexError ? `${group}!${result.data.code}` : `${group}=${result}`;
  }).join(" ");
}

await check("useQueries: a changing set, errors as values", async () => {
  await add("q1", [1, 2]);
  const page = mount(client, Several, { groups: ["q1", "q2"] });
  await until(() => page.text() === "q1=2 q2!TOO_FEW");
  await add("q2", [1]);
  await until(() => page.text() === "q1=2 q2=1");
  page.render({ groups: ["q2", "q3"] });
  await until(() => page.text() === "q2=1 q3!TOO_FEW");
  await remove("q2", 0, 9);
  await until(() => page.text() === "q2!TOO_FEW q3!TOO_FEW");
  page.unmount();
});

function AtLeast({ group, least }) {
  return `${useQuery(api.items.countAtLeast, { group, least }) ?? "loading"}`;
}

await check("an error boundary gets the ConvexError with its data", async () => {
  const show = (error) => `caught ${error instanceof ConvexError} ${JSON.stringify(error.data)}`;
  const page = mount(client, AtLeast, { group: "q1", least: 5 }, show);
  await until(() => page.text() === 'caught true {"code":"TOO_FEW","have":2,"least":5}');
  page.unmount();
  const fine = mount(client, AtLeast, { group: "q1", least: 2 }, show);
  await until(() => fine.text() === "2");
  await remove("q1", 2, 2);
  await until(() => fine.text() === 'caught true {"code":"TOO_FEW","have":1,"least":2}');
  fine.unmount();
  const failing = mount(client, List, { fn: api.items.failingPage, group: "forbidden" }, show);
  await until(() => failing.text() === 'caught true {"code":"FORBIDDEN","group":"forbidden"}');
  failing.unmount();
  const wrong = mount(client, AtLeast, { group: 5, least: 1 }, (error) => error.message);
  await until(() => /ArgumentValidationError[\s\S]*Path: \.group/.test(wrong.text()));
  wrong.unmount();
});

function Connection() {
  const state = useConvexConnectionState();
  return `${state.isWebSocketConnected ? "connected" : "away"} ${state.hasInflightRequests ? "busy" : "idle"} ${state.inflightMutations} ${state.connectionRetries}`;
}

await check("connection state", async () => {
  const fresh = newClient(url);
  const page = mount(fresh, Connection);
  await until(() => page.text() === "connected idle 0 0");
  const done = fresh.mutation(api.items.add, { group: "state", ns: [1] });
  await until(() => page.shown.some((text) => text === "connected busy 1 0"));
  await done;
  await until(() => page.text() === "connected idle 0 0");
  page.unmount();
  await fresh.close();
});

function OneShot({ group }) {
  const convex = useConvex();
  const [answer, setAnswer] = React.useState("asking");
  React.useEffect(() => void convex.query(api.items.texts, { group }).then((texts) => setAnswer(`once: ${texts}`)), [group]);
  return answer;
}

await check("useConvex: a query once, a mutation by hand, a watch", async () => {
  await add("once", [1]);
  const page = mount(client, OneShot, { group: "once" });
  await until(() => page.text() === "once: #1");
  await add("once", [2]);
  await sleep(50);
  assert.equal(page.text(), "once: #1");
  page.unmount();
  const error = await rejection(client.mutation(api.items.add, { group: "once", ns: [3], refuse: true }));
  assert.deepEqual(error.data, { code: "REFUSED", ns: [3] });
  const watched = client.watchQuery(api.items.texts, { group: "once" });
  let updates = 0;
  const stop = watched.onUpdate(() => updates++);
  await until(() => watched.localQueryResult()?.length === 2);
  await add("once", [4]);
  await until(() => watched.localQueryResult()?.length === 3);
  assert.ok(updates >= 1);
  stop();
});

await client.close();
finish();
