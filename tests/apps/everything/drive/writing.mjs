import { ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { assert, check, rejection, url } from "../harness.mjs";

const client = new ConvexHttpClient(url, { logger: false });

export async function run() {
  const inGroup = (group) => client.query(api.writing.count, { group });

  await check("patch: overwrite, remove with undefined, nested replaced whole", async () => {
    assert.deepEqual(await client.mutation(api.writing.patches), {
      seen: [
        { text: "one", group: "patched", size: 2, nested: { a: 1, b: 2 } },
        { text: "one", nested: { a: 1, b: 2 } },
        { text: "one", nested: { b: 3 } },
        { text: "one", nested: { b: 4 } },
        { text: "one", nested: { b: 4 } },
      ],
      foundByIndex: [],
    });
  });

  await check("replace and delete", async () => {
    assert.deepEqual(await client.mutation(api.writing.replaces), { keys: ["_creationTime", "_id", "text"], sameId: true, text: "three", gone: null });
    assert.equal(await client.mutation(api.writing.twoArgumentForms), "b2");
  });

  await check("every mistake in writing is refused, catchable, and changes nothing", async () => {
    const said = await client.mutation(api.writing.mistakes);
    for (const which of ["patchGone", "replaceGone", "deleteGone"]) assert.match(said[which], /nonexistent document ID/, which);
    for (const which of ["schemaType", "schemaMissing", "schemaExtra", "schemaUnion", "patchRemovesRequired"]) assert.match(said[which], /does not match the schema/, which);
    for (const which of ["insertWithId", "insertWithCreationTime", "insertUnderscore", "replaceOtherId", "patchCreationTime", "systemTable", "notAnObject", "badTableName"])
      assert.notEqual(said[which], "no error", which);
    assert.equal(said.untouched, "there");
  });

  await check("writes that nobody awaits happen; writes of a failed mutation do not", async () => {
    assert.equal(await client.mutation(api.writing.unawaited, { group: "unawaited" }), "returned");
    assert.deepEqual(await inGroup("unawaited"), ["u0", "u1", "u2", "u3", "u4"]);
    assert.match((await rejection(client.mutation(api.writing.unawaitedThenThrows, { group: "thrown" }))).message, /after an unawaited write/);
    assert.match((await rejection(client.mutation(api.writing.writesThenThrows, { group: "thrown" }))).message, /after a write/);
    assert.deepEqual(await inGroup("thrown"), []);
  });

  await check("a mutation reads its own writes", async () => {
    assert.deepEqual(await client.mutation(api.writing.readsOwnWrites), [[], ["a", "b"], ["b"], ["a"], []]);
  });

  await check("creation times grow within a mutation, from its start", async () => {
    const { increasing, now, first } = await client.mutation(api.writing.creationOrder);
    assert.equal(increasing, true);
    assert.ok(Math.abs(first - now) < 1000, `${first} against ${now}`);
  });

  await check("many writers at once, none lost", async () => {
    const writers = Array.from({ length: 8 }, () => new ConvexHttpClient(url, { logger: false }));
    await Promise.all(writers.map(async (writer, n) => {
      for (let m = 0; m < 10; m++) await writer.mutation(api.writing.insert, { text: `${n}-${m}`, group: "many" });
    }));
    const all = await inGroup("many");
    assert.equal(all.length, 80);
    for (let n = 0; n < 8; n++) assert.deepEqual(all.filter((text) => text.startsWith(`${n}-`)), Array.from({ length: 10 }, (_, m) => `${n}-${m}`));
  });
}
