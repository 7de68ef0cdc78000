import { ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { assert, check, rejection, url } from "../harness.mjs";

const client = new ConvexHttpClient(url, { logger: false });
const bytes = (...list) => new Uint8Array(list).buffer;

export async function run() {
  const row = (await client.mutation(api.ranges.seed, { rows: [{ tag: "for kinds" }] }))[0];
  const other = await client.mutation(api.writing.insert, { text: "a note" });
  const full = {
    nothing: null,
    float: -0,
    whole: -(2n ** 63n),
    flag: false,
    text: "ünïcode 😀 \u0000 end",
    data: bytes(0, 1, 255),
    list: ["a", 1.5, "", NaN],
    inner: { x: Infinity, y: "y", deep: { longs: [0n, 2n ** 63n - 1n] } },
    map: { "": 1, "a b": 2, "~": 3 },
    byRow: { [row]: true },
    either: 2n,
    exactly: "exact",
    row,
    anything: { nested: [{ bytes: bytes() }, [[]], null, 5e-324, 1.7976931348623157e308] },
    maybe: "there",
  };

  await check("a document of every kind comes back as it was stored", async () => {
    const id = await client.mutation(api.kinds.store, full);
    assert.match(id, /^[0-9a-hjkmnp-tv-z]{32}$/);
    const { _id, _creationTime, ...stored } = await client.query(api.kinds.load, { id });
    assert.equal(_id, id);
    assert.ok(Math.abs(_creationTime - Date.now()) < 60_000);
    assert.deepEqual(stored, full);
    assert.ok(Object.is(stored.float, -0));
    assert.ok(Number.isNaN(stored.list[3]));
    assert.deepEqual((await client.query(api.kinds.loadTwoArguments, { id })).map, full.map);
    assert.equal((await client.query(api.kinds.byInner, { x: Infinity })).length, 1);
    const { maybe, ...without } = full;
    const second = await client.query(api.kinds.load, { id: await client.mutation(api.kinds.store, { ...without, inner: { x: 1, deep: { longs: [] } } }) });
    assert.ok(!("maybe" in second));
    assert.deepEqual(second.inner, { x: 1, deep: { longs: [] } });
  });

  const values = [
    null, true, false, 0, -0, 1, -1.5, NaN, Infinity, -Infinity, 2 ** 53, 1e21, 1e-7, 0n, 1n, -1n, 2n ** 63n - 1n, -(2n ** 63n),
    "", "text", "\"quoted\" \\ \n", "😀", "\u2028", bytes(), bytes(1, 2, 3), [], [null, [1n, [bytes(9)]]], {}, { a: { b: { c: [1, { d: "e" }] } } }, { "": 0, "with space": 1 },
  ];
  await check("values of every kind pass through arguments and results", async () => {
    for (const value of values) {
      assert.deepEqual(await client.query(api.kinds.echo, { value }), value);
      assert.deepEqual(await client.mutation(api.kinds.echoFromMutation, { value }), value);
    }
    assert.deepEqual(await client.query(api.kinds.echo, { value: values }), values);
    let deep = 1;
    for (let n = 0; n < 61; n++) deep = [deep];
    assert.deepEqual(await client.query(api.kinds.echo, { value: deep }), deep);
    assert.match((await rejection(client.query(api.kinds.echo, { value: [[[[deep]]]] }))).message, /nest/i);
  });

  const accepted = {
    acceptsNull: [[null], [0, "", false, {}]],
    acceptsNumber: [[0, -0, NaN, Infinity], [1n, "1", null, true, [1]]],
    acceptsFloat64: [[1.5], [1n]],
    acceptsInt64: [[0n, -5n], [0, "0"]],
    acceptsBigint: [[7n], [7]],
    acceptsBoolean: [[true, false], [0, null, "true"]],
    acceptsString: [["", "x"], [1, null, ["x"]]],
    acceptsBytes: [[bytes(), bytes(1)], ["AA==", [1]]],
    acceptsId: [[row], [other, "nonsense", row.slice(0, -1), row.toUpperCase(), 5]],
    acceptsArray: [[[], [1, 2]], [[1, "2"], { 0: 1 }, [1n], [null]]],
    acceptsObject: [[{ a: 1 }, { a: 1, b: "x" }], [{}, { a: 1, c: 1 }, { a: "1" }, { a: 1, b: null }, [], null]],
    acceptsRecord: [[{}, { x: 1, y: 2 }], [{ x: "1" }, [], null]],
    acceptsUnion: [["x", 5], [null, 5n, {}]],
    acceptsLiteral: [["yes"], ["no", 1]],
    acceptsLiteralNumber: [[3], [4, "3", 3n]],
    acceptsLiteralBigint: [[3n], [3, 4n]],
    acceptsLiteralBoolean: [[false], [true, 0]],
    acceptsAny: [[null, 1, { a: [1] }], []],
    acceptsNullable: [[null, "x"], [1, undefined]],
    acceptsNested: [[{ list: [] }, { list: [{ n: 1 }] }], [{ list: [{ n: 1 }, { n: "x" }] }, { list: [{}] }]],
  };
  for (const [name, [good, bad]] of Object.entries(accepted)) {
    await check(name, async () => {
      for (const value of good) assert.deepEqual(await client.query(api.kinds[name], { value }), value);
      for (const value of bad) {
        const error = await rejection(client.query(api.kinds[name], { value }));
        assert.match(error.message, /ArgumentValidationError/, `${name}(${JSON.stringify(value, (_, v) => (typeof v === "bigint" ? `${v}n` : v))})`);
      }
    });
  }

  const complaint = async (fn, args) => (await rejection(client.query(fn, args))).message;
  await check("what a validator says", async () => {
    assert.match(
      await complaint(api.kinds.acceptsNumber, { value: "5" }),
      /ArgumentValidationError: Value does not match validator\.\nPath: \.value\nValue: "5"\nValidator: v\.float64\(\)/,
    );
    assert.match(
      await complaint(api.kinds.acceptsObject, { value: {} }),
      /Object is missing the required field `a`[\s\S]*\nPath: \.value\nObject: \{\}\nValidator: v\.object\(\{a: v\.float64\(\), b: v\.optional\(v\.string\(\)\)\}\)/,
    );
    assert.match(
      await complaint(api.kinds.acceptsObject, { value: { a: 1, zzz: 2 } }),
      /Object contains extra field `zzz` that is not in the validator\.\nPath: \.value\nObject: \{a: 1\.0, zzz: 2\.0\}\n/,
    );
    assert.match(await complaint(api.kinds.acceptsNested, { value: { list: [{ n: 1 }, { n: "x" }] } }), /Path: \.value\.list\[1\]\.n\n/);
    assert.match(await complaint(api.kinds.acceptsLiteral, { value: "no" }), /does not match literal validator/);
    assert.match(await complaint(api.kinds.acceptsId, { value: other }), /Found ID .* from table `notes`[\s\S]*v\.id\("rows"\)/);
    assert.match(await complaint(api.kinds.acceptsUnion, { value: null }), /Value: null\nValidator: v\.union\(v\.string\(\), v\.float64\(\)\)/);
    assert.match(await complaint(api.kinds.optionalArgument, {}), /missing the required field `b`/);
    assert.match(await complaint(api.kinds.noArguments, { x: 1 }), /extra field `x`/);
  });

  await check("optional and unvalidated arguments", async () => {
    assert.deepEqual(await client.query(api.kinds.optionalArgument, { b: 1 }), ["b"]);
    assert.deepEqual(await client.query(api.kinds.optionalArgument, { a: undefined, b: 1 }), ["b"]);
    assert.equal(await client.query(api.kinds.noArguments), "none");
    assert.deepEqual(await client.query(api.kinds.noValidators, { anything: [1n] }), { anything: [1n] });
  });

  await check("results are validated", async () => {
    assert.deepEqual(await client.query(api.kinds.returnsWrongly, { what: { n: 1 } }), { n: 1 });
    for (const what of [{ n: "1" }, {}, { n: 1, m: 1 }, null]) {
      assert.match(await complaint(api.kinds.returnsWrongly, { what }), /ReturnsValidationError/);
    }
    const error = await rejection(client.mutation(api.kinds.writesThenReturnsWrongly, {}));
    assert.match(error.message, /ReturnsValidationError: Value does not match validator/);
    const notes = await client.query(api.filters.tags, { expression: ["eq", ["field", "text"], ["value", "from a mutation with a wrong return value"]], table: "notes" });
    assert.deepEqual(notes, []);
    assert.equal(await client.query(api.kinds.returnsNothing), null);
    assert.equal(await client.query(api.kinds.returnsNothingValidated), null);
    assert.deepEqual(await client.query(api.kinds.returnsUndefinedField), { a: 1 });
    assert.match(await complaint(api.kinds.returnsFunction, {}), /not a supported Convex type/);
    assert.match(await complaint(api.kinds.returnsDate, {}), /not a supported Convex type/);
    assert.match(await complaint(api.kinds.returnsQuery, {}), /Return value is a Query/);
  });

  await check("the schema stands in the way of wrong documents", async () => {
    const refused = async (table, document) => {
      const error = await rejection(client.mutation(api.kinds.insertUnchecked, { table, document }));
      assert.match(error.message, /Failed to insert or update a document in table/, JSON.stringify(document));
      assert.match(error.message, /does not match the schema/);
    };
    await refused("notes", { text: 1 });
    await refused("notes", {});
    await refused("notes", { text: "x", other: 1 });
    await refused("books", { title: "x", authorId: row, year: 1 });
    await refused("shapes", { kind: "circle", width: 1, height: 1 });
    await refused("shapes", { kind: "triangle" });
    const circle = await client.mutation(api.kinds.insertUnchecked, { table: "shapes", document: { kind: "circle", radius: 1 } });
    await client.mutation(api.kinds.insertUnchecked, { table: "shapes", document: { kind: "box", width: 1, height: 2 } });
    const patch = await rejection(client.mutation(api.kinds.patchUnchecked, { id: circle, fields: { kind: "box" } }));
    assert.match(patch.message, /does not match the schema/);
    // A table that the schema does not name takes anything.
    const loose = await client.mutation(api.kinds.insertUnchecked, { table: "loose", document: { anything: [1n, { a: null }] } });
    assert.equal(typeof loose, "string");
  });

  await check("what is not a Convex value is refused where it is written", async () => {
    for (const which of ["date", "map", "set", "regexp", "symbol", "function", "undefinedInArray", "hugeBigint", "instance", "dollarKey", "notAscii"]) {
      const error = await rejection(client.mutation(api.kinds.insertOddValue, { which }));
      assert.match(error.message, /Server Error/, which);
    }
  });
}
