import { ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { ConvexError } from "convex/values";
import { assert, check, rejection, url } from "../harness.mjs";

const client = new ConvexHttpClient(url, { logger: false });

// Years: Ada 1880–1910, Grace 1885–1915, Edsger 1890–1920, in steps of ten.
const BY_YEAR = ["Ada 0", "Grace 0", "Ada 1", "Edsger 0", "Grace 1", "Ada 2", "Edsger 1", "Grace 2", "Ada 3", "Edsger 2", "Grace 3", "Edsger 3"];

export async function run() {
  await client.mutation(api.library.stock);

  await check("convex-helpers: triggers", async () => {
    assert.equal(await client.query(api.library.tally), 12);
  });

  await check("convex-helpers: relationships", async () => {
    assert.deepEqual(await client.query(api.library.byAuthor, { name: "Grace" }), {
      name: "Grace",
      books: [0, 1, 2, 3].map((n) => ({ title: `Grace ${n}`, year: 1885 + 10 * n, tags: [n % 2 ? "odd" : "even"] })),
      authors: 4,
    });
    assert.equal(await client.query(api.library.byAuthor, { name: "Nobody" }), null);
  });

  await check("convex-helpers: filter", async () => {
    assert.deepEqual(await client.query(api.library.filtered, {}), ["Grace 1", "Edsger 1"]);
    assert.deepEqual(await client.query(api.library.filtered, { paginationOpts: { numItems: 6, cursor: null } }), ["Grace 1"]);
  });

  await check("convex-helpers: streams, merged and paginated", async () => {
    // 1880–1890 and 1905–1910, without Ada.
    const expected = ["Grace 0", "Edsger 0", "Grace 2", "Edsger 2"];
    const seen = [];
    let cursor = null;
    for (let n = 0; n < 10; n++) {
      const page = await client.query(api.library.merged, { paginationOpts: { numItems: 2, cursor } });
      seen.push(...page.page);
      cursor = page.continueCursor;
      if (page.isDone) break;
    }
    assert.deepEqual(seen, expected);
  });

  await check("convex-helpers: getPage and paginator", async () => {
    const first = await client.query(api.library.manualPage, {});
    assert.equal(first.hasMore, true);
    const second = await client.query(api.library.manualPage, { start: first.last });
    const third = await client.query(api.library.manualPage, { start: second.last });
    assert.deepEqual([third.hasMore, third.titles.length], [false, 2]);
    const byYear = await client.query(api.library.paginatorPage, { paginationOpts: { numItems: 12, cursor: null } });
    assert.deepEqual(byYear.page, [...first.titles, ...second.titles, ...third.titles].reverse());
    assert.deepEqual(new Set(byYear.page), new Set(BY_YEAR));
    assert.deepEqual([byYear.page[0], byYear.page.at(-1)], ["Edsger 3", "Ada 0"]);
  });

  await check("convex-helpers: custom functions and row-level security", async () => {
    const { reader, titles } = await client.query(api.library.restricted, { key: "key-me", limit: 3 });
    assert.equal(reader, "me");
    // After 1900: Edsger 1 is 1900 itself, so it is not among them.
    assert.deepEqual(titles, ["Grace 2", "Ada 3", "Edsger 2"].filter((title) => titles.includes(title)));
    assert.equal(titles.length, 3);
    const error = await rejection(client.query(api.library.restricted, { key: "wrong", limit: 3 }));
    assert.ok(error instanceof ConvexError);
    assert.deepEqual(error.data, { code: "BAD_KEY", key: "wrong" });
    assert.match((await rejection(client.query(api.library.restricted, { limit: 3 }))).message, /missing the required field `key`/);
  });

  await check("convex-helpers: zod", async () => {
    const good = { email: "ada@example.com", age: 36, extra: { tags: ["a"] } };
    assert.deepEqual(await client.query(api.library.withZod, good), { greeting: "ada@example.com is 36", tags: 1 });
    const error = await rejection(client.query(api.library.withZod, { ...good, age: 17 }));
    assert.ok(error instanceof ConvexError);
    assert.deepEqual([error.data.ZodError[0].path, error.data.ZodError[0].code], [["age"], "too_small"]);
    assert.match((await rejection(client.query(api.library.withZod, { ...good, age: "17" }))).message, /ArgumentValidationError/);
  });

  await check("convex-helpers: validators", async () => {
    const books = await client.query(api.library.helperValidators, { level: "high", name: null, changes: { year: 1890 } });
    assert.deepEqual(books.map((book) => book.title), ["Ada 1", "Edsger 0"]);
    assert.match((await rejection(client.query(api.library.helperValidators, { level: "middle", name: null, changes: {} }))).message, /ArgumentValidationError/);
  });

  await check("convex-helpers: triggers on delete", async () => {
    await client.mutation(api.library.dropBook, { title: "Ada 0" });
    assert.equal(await client.query(api.library.tally), 11);
  });
}
