import { ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { ConvexError } from "convex/values";
import { assert, check, rejection, url } from "../harness.mjs";

const client = new ConvexHttpClient(url, { logger: false });
const texts = (from, to) => Array.from({ length: to - from }, (_, n) => `n${from + n}`);

export async function run() {
  await client.mutation(api.reading.clear);
  await client.mutation(api.reading.seed, { count: 4, group: "four" });
  await client.mutation(api.reading.seed, { count: 10, group: "ten" });

  await check("every way to read a query", async () => {
    assert.deepEqual(await client.query(api.reading.everyWay, { group: "four" }), {
      collect: texts(0, 4),
      descending: texts(0, 4).reverse(),
      ascending: texts(0, 4),
      take: ["n0", "n1"],
      takeNone: [],
      takeMany: texts(0, 4),
      first: "n0",
      firstOfNone: null,
      uniqueOfNone: null,
      uniqueOfOne: "n1",
      iterated: texts(0, 4),
      stopped: ["n3", "n2"],
      byHand: ["n0", "n1"],
      together: ["n0", "n3", 2],
    });
    const error = await rejection(client.query(api.reading.uniqueOfTwo, { group: "four" }));
    assert.match(error.message, /unique\(\) query returned more than one result from table notes:\n? ?\[/);
    assert.deepEqual(await client.query(api.reading.missingTable), []);
  });

  const page = (paginationOpts, more = {}) => client.query(api.reading.page, { group: "ten", paginationOpts, ...more });
  const pages = async (numItems, more = {}) => {
    const seen = [];
    let cursor = null;
    for (;;) {
      const result = await page({ numItems, cursor }, more);
      assert.equal(typeof result.continueCursor, "string");
      seen.push(result.page);
      if (result.isDone) return seen;
      cursor = result.continueCursor;
    }
  };

  await check("pages one after the other", async () => {
    assert.deepEqual(await pages(4), [texts(0, 4), texts(4, 8), texts(8, 10)]);
    assert.deepEqual(await pages(5), [texts(0, 5), texts(5, 10), []]);
    assert.deepEqual(await pages(100), [texts(0, 10)]);
    assert.deepEqual(await pages(4, { order: "desc" }), [texts(6, 10).reverse(), texts(2, 6).reverse(), ["n1", "n0"]]);
    assert.deepEqual((await client.query(api.reading.page, { group: "nobody", paginationOpts: { numItems: 3, cursor: null } })).page, []);
  });

  await check("cursors: deterministic, pinned ends, split points", async () => {
    const first = await page({ numItems: 4, cursor: null });
    assert.equal(first.continueCursor, (await page({ numItems: 4, cursor: null, id: 1 })).continueCursor);
    assert.equal(first.isDone, false);
    const pinned = await page({ numItems: 1, cursor: null, endCursor: first.continueCursor });
    assert.deepEqual([pinned.page, pinned.continueCursor, pinned.isDone], [texts(0, 4), first.continueCursor, false]);
    assert.equal(typeof pinned.splitCursor, "string");
    const left = await page({ numItems: 1, cursor: null, endCursor: pinned.splitCursor });
    const right = await page({ numItems: 1, cursor: pinned.splitCursor, endCursor: pinned.continueCursor });
    assert.deepEqual([...left.page, ...right.page], texts(0, 4));
    assert.ok(left.page.length > 0 && right.page.length > 0);
    const end = await page({ numItems: 100, cursor: first.continueCursor });
    assert.deepEqual(end.page, texts(4, 10));
    const after = await page({ numItems: 3, cursor: end.continueCursor });
    assert.deepEqual([after.page, after.isDone], [[], true]);
    assert.equal((await page({ numItems: 2, cursor: null })).splitCursor ?? null, null);
  });

  await check("a maximum of rows read ends a page early", async () => {
    const result = await client.query(api.reading.filteredPage, { group: "ten", paginationOpts: { numItems: 10, cursor: null, maximumRowsRead: 5 } });
    assert.deepEqual(result.page, ["n0", "n3"]);
    assert.equal(result.isDone, false);
    assert.equal(result.pageStatus, "SplitRequired");
    const rest = await client.query(api.reading.filteredPage, { group: "ten", paginationOpts: { numItems: 10, cursor: result.continueCursor } });
    assert.deepEqual([rest.page, rest.isDone], [["n6", "n9"], true]);
    const tiny = await page({ numItems: 10, cursor: null, maximumBytesRead: 1 });
    assert.deepEqual(tiny.page, ["n0"]);
  });

  await check("page requests that are refused", async () => {
    assert.match((await rejection(page({ numItems: 0, cursor: null }))).message, /Server Error/);
    assert.match((await rejection(page({ numItems: -1, cursor: null }))).message, /numItems/);
    assert.match((await rejection(page({ numItems: 40_000, cursor: null }))).message, /Server Error/);
    assert.match((await rejection(client.query(api.reading.twoPages))).message, /paginated quer/i);
    assert.match((await rejection(page({ numItems: 1, cursor: "made up" }))).message, /ursor/);
    const { continueCursor } = await page({ numItems: 2, cursor: null });
    const foreign = await rejection(client.query(api.reading.page, { group: "four", paginationOpts: { numItems: 2, cursor: continueCursor } }));
    assert.ok(foreign instanceof ConvexError);
    assert.deepEqual(foreign.data, { isConvexSystemError: true, paginationError: "InvalidCursor" });
    assert.match(foreign.message, /InvalidCursor/);
  });

  await check("normalizeId", async () => {
    const id = await client.mutation(api.writing.insert, { text: "normal" });
    const normal = (table, text) => client.query(api.reading.normalize, { table, text });
    assert.equal(await normal("notes", id), id);
    assert.equal(await normal("rows", id), null);
    assert.equal(await normal("no_such_table", id), null);
    assert.match((await rejection(normal("_storage", id))).message, /db\.system\.normalizeId/);
    for (const text of ["", "nonsense", id.slice(1), `${id}0`, id.toUpperCase(), id.slice(0, -1) + (id.at(-1) === "0" ? "1" : "0")]) {
      assert.equal(await normal("notes", text), null, text);
    }
    const storage = "kg2000820c20a1g7104gm2rc1m70y674";
    const ofSystem = (table, text) => client.query(api.reading.normalizeSystem, { table, text });
    assert.equal(await ofSystem("_storage", storage), storage);
    assert.equal(await ofSystem("_storage", id), null);
    assert.equal(await ofSystem("_scheduled_functions", storage), null);
    assert.equal(await ofSystem("_modules", storage), null);
  });

  await check("system tables", async () => {
    assert.deepEqual(await client.query(api.reading.system, {}), { files: [], jobs: [], one: null });
    assert.equal((await client.query(api.reading.system, { id: "kg2000820c20a1g7104gm2rc1m70y674" })).one, null);
    const id = await client.mutation(api.writing.insert, { text: "user row" });
    const said = (which) => client.query(api.reading.systemMistake, { which, id });
    assert.match(await said("userTableThroughSystem"), /^error: .*db\.system/);
    assert.match(await said("queryUserTableThroughSystem"), /^error: /);
    assert.match(await said("systemTableThroughDb"), /^error: /);
  });
}
