import { ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { assert, check, url } from "../harness.mjs";

const client = new ConvexHttpClient(url, { logger: false });
const bytes = (...list) => new Uint8Array(list).buffer;

// Ascending in Convex's total order; the first row lacks the field.
export const LADDER = [
  ["missing", undefined], ["null", null], ["int min", -(2n ** 63n)], ["-5n", -5n], ["0n", 0n], ["7n", 7n], ["int max", 2n ** 63n - 1n],
  ["-Inf", -Infinity], ["-1.5", -1.5], ["-0", -0], ["0", 0], ["tiny", 5e-324], ["1", 1], ["2", 2], ["Inf", Infinity], ["NaN", NaN],
  ["false", false], ["true", true], ["''", ""], ["NUL", "\u0000"], ["a", "a"], ["aNUL", "a\u0000"], ["aa", "aa"], ["b", "b"], ["é", "é"], ["ffff", "\uffff"], ["😀", "😀"],
  ["bytes", bytes()], ["bytes 0", bytes(0)], ["bytes 0 0", bytes(0, 0)], ["bytes 1", bytes(1)], ["bytes ff", bytes(255)],
  ["[]", []], ["[null]", [null]], ["[1]", [1]], ["[1,1]", [1, 1]], ["[2]", [2]], ["[[]]", [[]]], ["{}", {}], ["{a:1}", { a: 1 }], ["{a:1,b:0}", { a: 1, b: 0 }], ["{a:2}", { a: 2 }], ["{b:0}", { b: 0 }],
];
const TAGS = LADDER.map(([tag]) => tag);

/** The same values in an order that proves nothing was sorted on the way in. */
export const shuffled = () => [...LADDER.keys()].sort((a, b) => ((a * 17) % 43) - ((b * 17) % 43)).map((n) => LADDER[n]);

export async function run() {
  await client.mutation(api.ranges.clear);
  await client.mutation(api.ranges.seed, { rows: shuffled().map(([tag, a]) => ({ tag, a })) });
  const tags = (steps, more = {}) => client.query(api.ranges.tags, { index: "by_a", steps, ...more });
  const step = (op, value) => ({ op, field: "a", value });

  await check("values of all types sort in one order", async () => {
    assert.deepEqual(await tags([]), TAGS);
    assert.deepEqual(await tags([], { order: "desc" }), [...TAGS].reverse());
    assert.deepEqual(await tags([], { limit: 3 }), TAGS.slice(0, 3));
    assert.deepEqual(await tags([], { limit: 3, order: "desc" }), TAGS.slice(-3).reverse());
  });

  await check("every range form at every value", async () => {
    const jobs = LADDER.flatMap(([, value], n) => [
      [[step("eq", value)], [TAGS[n]]],
      [[step("lt", value)], TAGS.slice(0, n)],
      [[step("lte", value)], TAGS.slice(0, n + 1)],
      [[step("gt", value)], TAGS.slice(n + 1)],
      [[step("gte", value)], TAGS.slice(n)],
    ]);
    for (let n = 0; n < jobs.length; n += 16) {
      const part = jobs.slice(n, n + 16);
      const got = await Promise.all(part.map(([steps]) => tags(steps)));
      part.forEach(([steps, expected], m) => assert.deepEqual(got[m], expected, `${steps[0].op} ${String(steps[0].value)}`));
    }
  });

  await check("two bounds, in either order, both directions", async () => {
    const between = (from, to) => TAGS.slice(TAGS.indexOf(from), TAGS.indexOf(to));
    assert.deepEqual(await tags([step("gte", 0), step("lt", true)]), between("0", "true"));
    assert.deepEqual(await tags([step("lt", true), step("gte", 0)]), between("0", "true"));
    assert.deepEqual(await tags([step("gt", null), step("lte", "b")], { order: "desc" }), [...between("int min", "é")].reverse());
    assert.deepEqual(await tags([step("gt", 5), step("lt", 4)]), []);
    assert.deepEqual(await tags([step("gt", undefined), step("lt", -(2n ** 63n))]), ["null"]);
    assert.deepEqual(await tags([step("gte", undefined), step("lte", null)]), ["missing", "null"]);
  });

  await check("two fields: missing, null and prefixes", async () => {
    await client.mutation(api.ranges.clear);
    const rows = [];
    for (const [x, a] of [["u", undefined], ["n", null], ["1", 1], ["2", 2]])
      for (const [y, b] of [["u", undefined], ["n", null], ["1", 1], ["2", 2]]) rows.push({ tag: x + y, a, b });
    await client.mutation(api.ranges.seed, { rows: [...rows].reverse() });
    const pair = (...steps) => client.query(api.ranges.tags, { index: "by_a_b", steps: steps.map(([op, field, value]) => ({ op, field, value })) });
    assert.deepEqual(await pair(), rows.map((row) => row.tag));
    assert.deepEqual(await pair(["eq", "a", undefined]), ["uu", "un", "u1", "u2"]);
    assert.deepEqual(await pair(["eq", "a", null], ["gt", "b", null]), ["n1", "n2"]);
    assert.deepEqual(await pair(["eq", "a", 1], ["eq", "b", undefined]), ["1u"]);
    assert.deepEqual(await pair(["eq", "b", 2], ["eq", "a", 2]), ["22"]);
    assert.deepEqual(await pair(["gt", "a", null]), ["1u", "1n", "11", "12", "2u", "2n", "21", "22"]);
    assert.deepEqual(await pair(["eq", "a", 2], ["lt", "b", 2]), ["2u", "2n", "21"]);
    assert.deepEqual(await pair(["eq", "a", 3]), []);
  });

  await check("an index over three fields, typed", async () => {
    await client.mutation(api.ranges.seedPoints);
    assert.deepEqual(await client.query(api.ranges.pointsEqEq), ["120", "121", "122"]);
    assert.deepEqual(await client.query(api.ranges.pointsEqRange), ["110", "111", "112", "120", "121", "122"]);
    assert.deepEqual(await client.query(api.ranges.pointsFull), ["202", "201"]);
    assert.deepEqual(await client.query(api.ranges.pointsWholeIndex), ["222", "221"]);
    assert.equal(await client.query(api.ranges.pointsMissingLabel), 27);
    assert.deepEqual(await client.query(api.ranges.pointsCreatedAfter, { x: 1, y: 1, z: 1, after: 0 }), ["111"]);
    assert.deepEqual(await client.query(api.ranges.pointsCreatedAfter, { x: 1, y: 1, z: 1, after: Date.now() + 1e6 }), []);
  });

  await check("by_creation_time and by_id", async () => {
    const rows = await client.query(api.ranges.times);
    assert.deepEqual([...rows].sort((a, b) => a[1] - b[1]), rows);
    assert.deepEqual(
      await client.query(api.ranges.byCreationTime, { after: rows[2][1], until: rows[5][1] }),
      rows.slice(3, 6).map(([tag]) => tag),
    );
    const ids = rows.map((row) => row[2]).sort();
    const from = ids[4];
    assert.deepEqual(await client.query(api.ranges.byId, { from, order: "asc" }), { exact: from, from: ids.slice(4), below: ids.slice(0, 4) });
    assert.deepEqual((await client.query(api.ranges.byId, { from, order: "desc" })).from, ids.slice(4).reverse());
  });

  await check("mistakes are refused and can be caught", async () => {
    const said = async (which) => await client.query(api.ranges.mistake, { which });
    assert.match(await said("unknownIndex"), /Index points\.by_nothing/);
    assert.match(await said("fieldNotInIndex"), /label/);
    for (const which of ["gapInPrefix", "boundsOnTwoFields", "twoLowerBounds", "eqTwice"]) assert.match(await said(which), /by_x_y_z|points/, which);
    assert.notEqual(await said("eqAfterBound"), "no error");
    assert.match(await said("orderTwice"), /order at most once/);
    assert.match(await said("takeMinus"), /non-negative/);
    assert.match(await said("badId"), /Invalid argument `id` for `db\.get`/);
    assert.match(await said("wrongTable"), /expected to be an Id<"points">, got Id<"rows">/);
    assert.match(await said("noArgument"), /Must provide arg/);
  });
}
