import { ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { assert, check, url } from "../harness.mjs";
import { LADDER, shuffled } from "./ranges.mjs";

const client = new ConvexHttpClient(url, { logger: false });
const TAGS = LADDER.map(([tag]) => tag);
const a = ["field", "a"];
const value = (x) => (x === undefined ? ["missing"] : ["value", x]);

export async function run() {
  await client.mutation(api.ranges.clear);
  await client.mutation(api.ranges.seed, { rows: shuffled().map(([tag, a]) => ({ tag, a })) });
  const tags = (expression, table) => client.query(api.filters.tags, { expression, table });

  await check("comparisons between values of all types, missing ones too", async () => {
    for (const n of [0, 1, 2, 5, 7, 9, 10, 12, 15, 16, 18, 20, 25, 26, 27, 30, 32, 35, 38, 40]) {
      const x = value(LADDER[n][1]);
      const got = await Promise.all(["eq", "neq", "lt", "lte", "gt", "gte"].map((op) => tags([op, a, x])));
      const expected = [[TAGS[n]], TAGS.filter((_, m) => m !== n), TAGS.slice(0, n), TAGS.slice(0, n + 1), TAGS.slice(n + 1), TAGS.slice(n)];
      assert.deepEqual(got, expected, TAGS[n]);
    }
    assert.deepEqual(await tags(["eq", ["field", "nowhere"], ["missing"]]), TAGS);
    assert.deepEqual(await tags(["eq", ["field", "nowhere.deeper"], ["missing"]]), TAGS);
    assert.deepEqual(await tags(["eq", ["field", "a.b"], ["value", 0]]), ["{a:1,b:0}", "{b:0}"]);
    assert.deepEqual(await tags(["eq", a, a]), TAGS);
  });

  const arithmetic = async (expression) => {
    const guarded = await tags(["and", ["eq", ["field", "tag"], ["value", "1"]], expression]);
    return Array.isArray(guarded) ? guarded.length === 1 : guarded;
  };
  const gives = (op, x, y, result) => ["eq", [op, ["value", x], ["value", y]], ["value", result]];

  await check("arithmetic of floats", async () => {
    for (const [op, x, y, result] of [
      ["add", 1, 2.5, 3.5], ["sub", 1, 2.5, -1.5], ["mul", 3, -2, -6], ["div", 1, 4, 0.25], ["mod", 7, 3, 1], ["mod", -7, 3, -1], ["mod", 7.5, 2, 1.5],
      ["div", 1, 0, Infinity], ["add", 0.1, 0.2, 0.1 + 0.2],
    ]) assert.equal(await arithmetic(gives(op, x, y, result)), true, `${x} ${op} ${y}`);
    assert.equal(await arithmetic(["eq", ["neg", ["value", 5]], ["value", -5]]), true);
    assert.equal(await arithmetic(["eq", ["neg", ["value", 0]], ["value", -0]]), true);
    assert.equal(await arithmetic(["eq", ["neg", ["value", 0]], ["value", 0]]), false);
  });

  await check("arithmetic of integers", async () => {
    for (const [op, x, y, result] of [
      ["add", 1n, 2n, 3n], ["sub", 1n, 2n, -1n], ["mul", 3n, -2n, -6n], ["div", 7n, 2n, 3n], ["div", -7n, 2n, -3n], ["mod", -7n, 3n, -1n], ["mod", 7n, -3n, 1n],
    ]) assert.equal(await arithmetic(gives(op, x, y, result)), true, `${x} ${op} ${y}`);
    assert.equal(await arithmetic(["eq", ["neg", ["value", 5n]], ["value", -5n]]), true);
    for (const bad of [
      ["add", ["value", 2n ** 63n - 1n], ["value", 1n]],
      ["sub", ["value", -(2n ** 63n)], ["value", 1n]],
      ["mul", ["value", 2n ** 62n], ["value", 2n]],
      ["div", ["value", 1n], ["value", 0n]],
      ["mod", ["value", 1n], ["value", 0n]],
      ["neg", ["value", -(2n ** 63n)]],
    ]) assert.equal(typeof (await arithmetic(["eq", bad, ["value", 1n]])), "string", bad[0]);
  });

  await check("mixed types in arithmetic are an error", async () => {
    for (const [x, y] of [[1, 1n], [1n, 1], ["1", 1], [null, 1], [true, 1], [1, undefined]]) {
      assert.equal(typeof (await arithmetic(["eq", ["add", value(x), value(y)], ["value", 2]])), "string", `${x} + ${y}`);
    }
    assert.equal(typeof (await arithmetic(["eq", ["neg", ["value", "1"]], ["value", 1]])), "string");
  });

  await check("and, or, not: short circuit, booleans only", async () => {
    const boom = ["eq", ["add", ["value", "x"], ["value", 1]], ["value", 2]];
    const yes = ["eq", ["value", 1], ["value", 1]];
    const no = ["not", yes];
    assert.deepEqual(await tags(["or", yes, boom]), TAGS);
    assert.deepEqual(await tags(["and", no, boom]), []);
    assert.equal(typeof (await tags(["or", no, boom])), "string");
    assert.equal(typeof (await tags(["and", yes, boom])), "string");
    assert.deepEqual(await tags(["and"]), TAGS);
    assert.deepEqual(await tags(["or"]), []);
    assert.deepEqual(await tags(["and", yes, yes, no]), []);
    assert.deepEqual(await tags(["or", no, no, yes]), TAGS);
    assert.deepEqual(await tags(["or", ["eq", a, ["value", 1]], ["eq", a, ["value", "b"]]]), ["1", "b"]);
    assert.match(await tags(["not", ["value", 1]]), /Boolean/i);
    assert.match(await tags(["and", ["value", "x"]]), /Boolean/i);
    assert.match(await tags(["field", "tag"]), /Boolean/i);
    assert.deepEqual(await tags(["value", true]), TAGS);
    assert.match(await tags(["field", "nowhere"]), /Boolean/i);
  });

  await check("filters and limits together", async () => {
    await client.mutation(api.ranges.seedPoints);
    assert.deepEqual(await client.query(api.filters.twoFilters), ["122", "120", "112"]);
    // x in {0, 2}, y ≠ 1, x + y even, 2z − x/2 < 2
    const expected = [];
    for (const x of [0, 1, 2]) for (const y of [0, 1, 2]) for (const z of [0, 1, 2])
      if (x !== 1 && y !== 1 && (x + y) % 2 === 0 && 2 * z - x / 2 < 2) expected.push(`${x}${y}${z}`);
    assert.deepEqual(await client.query(api.filters.typed), expected);
  });
}
