// Text and vector search through the official clients.

import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { assert, check, finish, rejection, until, url, watch } from "./harness.mjs";

const http = new ConvexHttpClient(url, { logger: false });
const live = new ConvexClient(url, { logger: false, unsavedChangesWarning: false });

const [ada, bob, eve] = await Promise.all(["Ada", "Bob", "Eve"].map((name) => http.mutation(api.users.create, { name })));
const create = (title, content, ownerId, collaborators = [], folder = undefined) =>
  http.mutation(api.documents.create, { title, content, ownerId, collaborators, folder });
const titles = async (words, as, more = {}) =>
  (await http.query(api.documents.search, { words, as, mine: false, ...more })).map(({ title }) => title);

const plan = await create("plan", "The launch plan: rockets, fuel and a long countdown.", ada, [bob], "work");
await create("recipe", "Rocket salad with parmesan.", ada);
await create("notes", "Fuel prices are rising; the rocket engineers complain about fuel.", bob, [ada], "work");
await create("diary", "Nobody may read about my rocket.", eve);

await check("any word, the best first; the last word may be unfinished", async () => {
  assert.deepEqual(await titles("fuel", ada), ["notes", "plan"]);
  assert.deepEqual((await titles("rock", ada)).sort(), ["notes", "plan", "recipe"]);
  assert.deepEqual(await titles("rock fuel", ada), ["notes", "plan"]);
  assert.deepEqual(await titles("parmesan countdown", ada), ["recipe", "plan"]);
  assert.deepEqual(await titles("PARMESAN!", ada), ["recipe"]);
  assert.deepEqual(await titles("unheard of words", ada), []);
  assert.deepEqual(await titles("", ada), []);
  assert.deepEqual(await titles("?!", ada), []);
});

await check("filters, and who may see what", async () => {
  assert.deepEqual((await titles("rocket", ada, { mine: true })).sort(), ["plan", "recipe"]);
  assert.deepEqual(await titles("fuel", ada, { mine: true, folder: "work" }), ["plan"]);
  assert.deepEqual(await titles("fuel", ada, { folder: "elsewhere" }), []);
  assert.deepEqual(await titles("rocket", eve), ["diary"]);
  assert.equal((await rejection(http.mutation(api.documents.edit, { id: plan, as: eve, content: "mine" }))).data, "Only the owner and collaborators may edit this document.");
});

await check("a subscribed search hears of what concerns it, and of nothing else", async () => {
  const seen = watch(live, api.documents.search, { words: "launch zebr", as: ada, mine: false, folder: undefined });
  const shown = () => seen.value?.map(({ title }) => title);
  await until(() => shown()?.length === 1, "the first result");
  const zoo = await create("zoo", "Zebras graze.", ada);
  await until(() => shown().length === 2, "the new document, by its prefix");
  const before = seen.values.length;
  await create("other", "Giraffes do not.", ada);
  await create("also", "Lunch at noon.", ada);
  await http.mutation(api.documents.edit, { id: zoo, as: ada, content: "Zebras sleep." });
  await until(() => seen.value?.some(({ content }) => content === "Zebras sleep."), "a changed document");
  assert.equal(seen.values.length, before + 1, "one change was of interest");
  await http.mutation(api.documents.edit, { id: zoo, as: ada, content: "Empty cages." });
  await until(() => shown().length === 1, "a document that no longer matches");
  await http.mutation(api.documents.edit, { id: plan, as: bob, content: "The launch is off." });
  await until(() => seen.value?.[0]?.content === "The launch is off.", "a collaborator's edit");
  await http.mutation(api.documents.remove, { id: plan });
  await until(() => shown().length === 0, "a deleted document");
  seen.stop();
});

await check("a mutation finds what it has just written", async () => {
  assert.deepEqual(await http.mutation(api.probes.ownWrites, { owner: ada }), { before: [], inserted: ["own"], patched: [], deleted: [] });
});

await check("misuse says what is wrong", async () => {
  const expected = {
    missing: /no search expression/,
    twice: /more than one search expression/,
    wrongField: /searches the field title; the index is on content/,
    notAFilter: /filters on the field title, which is not one of its filter fields \(ownerId, folder\)/,
    nineFilters: /9 filters; the maximum is 8/,
    notText: /must be a string/,
    unknownIndex: /Index documents.nothing not found/,
    databaseIndex: /Index documents.by_owner is a database index, not a search index/,
    searchIndexAsRange: /Index documents.search_content is a search index, not a database index/,
    vectorIndexAsRange: /Index passages.by_embedding is a vector index, not a database index/,
  };
  for (const [how, message] of Object.entries(expected)) {
    assert.match((await http.query(api.probes.misuse, { how })).error ?? "no error", message, how);
  }
  assert.deepEqual(await http.query(api.probes.nowhere, {}), []);
});

await check("a thousand candidates at most; pages; a filter afterwards", async () => {
  await http.mutation(api.probes.fill, { count: 1100, owner: ada });
  assert.match((await rejection(http.query(api.probes.all, { words: "plentiful" }))).message, /Search query scanned too many documents \(fetched 1024\)/);
  assert.deepEqual((await titles("plentiful", ada)).slice(0, 3), ["bulk 1099", "bulk 1098", "bulk 1097"], "equal scores: the newest first");
  const half = await http.query(api.probes.all, { words: "number109", except: "bulk 1090" });
  assert.deepEqual(half, ["bulk 109", ...[9, 8, 7, 6, 5, 4, 3, 2, 1].map((n) => `bulk 109${n}`)]);
  const pages = [];
  let cursor = null;
  for (let n = 0; n < 3; n++) {
    const { page, continueCursor, isDone, splitCursor } = await http.query(api.documents.searchTitles, { words: "bulk", paginationOpts: { cursor, numItems: 40 } });
    assert.equal(isDone, false);
    assert.equal(splitCursor ?? null, null);
    pages.push(...page.map(({ title }) => title));
    cursor = continueCursor;
  }
  assert.deepEqual(pages, Array.from({ length: 120 }, (_, n) => `bulk ${1099 - n}`));
  const last = await http.query(api.documents.searchTitles, { words: "zoo", paginationOpts: { cursor: null, numItems: 40 } });
  assert.deepEqual([last.page.length, last.isDone], [1, true]);
});

// ---- vectors

const book = await create("book", "About animals.", ada);
const add = (text, kind) => http.action(api.passages.add, { document: book, text, kind });
const passages = ["A cat sat on a mat", "Dogs chase cats", "The stock market fell", "Cat and mat"];
await check("the nearest first, with their similarity; what was just written is found", async () => {
  for (const text of passages) await add(text, "paragraph");
  await add("Cat sat on a mat", "heading");
  const found = await http.action(api.passages.similar, { text: "A cat sat on a mat", kinds: ["paragraph"] });
  assert.equal(found.length, 4);
  assert.equal(found[0].text, "A cat sat on a mat");
  assert.ok(Math.abs(found[0].score - 1) < 1e-6, String(found[0].score));
  assert.equal(found[1].text, "Cat and mat");
  assert.ok(found.every(({ score }, i) => i === 0 || score <= found[i - 1].score));
  const both = await http.action(api.passages.similar, { text: "cat sat on a mat", kinds: ["paragraph", "heading"] });
  assert.equal(both.length, 5);
  assert.equal(both[0].text, "Cat sat on a mat");
  assert.deepEqual((await http.action(api.passages.similar, { text: "cat", kinds: ["heading"] })).map(({ text }) => text), ["Cat sat on a mat"]);
});

await check("misuse of vector search says what is wrong", async () => {
  const vector = Array.from({ length: 64 }, (_, n) => n);
  const ask = async (query, index = "by_embedding", table = "passages") => await http.action(api.probes.vectorMisuse, { table, index, query });
  assert.match((await ask({ vector: [1, 2] })).error, /expected 64, got 2/);
  assert.match((await ask({ vector, limit: 257 })).error, /256 results at most, not 257/);
  assert.match((await ask({ vector, limit: 0 })).error, /whole number from 1 on/);
  assert.match((await ask({ vector, filterOn: "text" })).error, /not one of its filter fields \(kind, document\)/);
  assert.match((await ask({ vector, filterNot: true })).error, /filter .* cannot be used/);
  assert.match((await ask({ vector }, "nothing")).error, /Index passages.nothing not found/);
  assert.match((await ask({ vector }, "by_document")).error, /is a database index, not a vector index/);
  assert.match((await ask({ vector: [] })).error, /must be a non-empty Array/);
  assert.deepEqual(await ask({ vector }, "any", "nowhere"), { value: [] });
  assert.equal((await ask({ vector, limit: 2 })).value.length, 2);
  assert.equal((await ask({ vector })).value.length, 5);
});

finish();
