import { ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { ConvexError } from "convex/values";
import { assert, check, rejection, url } from "../harness.mjs";

const client = new ConvexHttpClient(url, { logger: false });

export async function run() {
  await check("queries in queries", async () => {
    assert.deepEqual(await client.query(api.nesting.queryInQuery, { n: 10 }), [20, 22, 24]);
    assert.equal(await client.query(api.nesting.dive, { depth: 5 }), 5);
    assert.match((await rejection(client.query(api.nesting.dive, { depth: 40 }))).message, /Server Error/);
  });

  await check("mutations in mutations: a caught failure is rolled back alone", async () => {
    const seen = await client.mutation(api.nesting.mutationInMutation, { group: "nested" });
    assert.deepEqual(seen[0], ["parent 1", "child 1"]);
    assert.equal(seen[1][0], "Error");
    assert.match(seen[1][1], /Uncaught TypeError: thrown below/);
    assert.deepEqual(seen[2], ["parent 1", "child 1"]);
    assert.deepEqual(seen[3], ["parent 1", "child 1", "child 2", "child 3", "parent 2"]);
    assert.deepEqual(await client.query(api.nesting.list, { group: "nested" }), seen[3]);
  });

  await check("a ConvexError keeps its data on its way up", async () => {
    assert.deepEqual(await client.mutation(api.nesting.convexErrorFromBelow, { group: "below" }), { data: { code: 7n, list: [1, "a", null] }, left: 0 });
    const error = await rejection(client.mutation(api.nesting.uncaughtFromBelow, { group: "below", data: { reason: "sold out", left: 0n } }));
    assert.ok(error instanceof ConvexError);
    assert.deepEqual(error.data, { reason: "sold out", left: 0n });
    const plain = await rejection(client.mutation(api.nesting.uncaughtFromBelow, { group: "below" }));
    assert.ok(!(plain instanceof ConvexError));
    assert.match(plain.message, /thrown below/);
    assert.deepEqual(await client.query(api.nesting.list, { group: "below" }), []);
  });

  await check("wrong calls below", async () => {
    assert.match(await client.query(api.nesting.badArgumentsBelow), /ArgumentValidationError/);
    assert.notEqual(await client.query(api.nesting.mutationFromQuery), "no error");
    assert.match(await client.mutation(api.nesting.wrongKindBelow), /Mutation/);
    assert.notEqual(await client.mutation(api.nesting.missingBelow), "no error");
  });

  await check("internal functions are not public", async () => {
    for (const path of [api.nesting.secret, api.nesting.doesNotExist, api.noModule.nothing, "nesting:secret"]) {
      const error = await rejection(client.query(path, { n: 1 }));
      assert.match(error.message, /Could not find public function for '/);
    }
    assert.match((await rejection(client.mutation(api.nesting.add, { text: "x", group: "x" }))).message, /Could not find public function for 'nesting:add'/);
    assert.match((await rejection(client.query(api.nesting.mutationInMutation, { group: "x" }))).message, /Trying to execute nesting(\.js)?:mutationInMutation as Query, but it is defined as Mutation/);
    assert.match((await rejection(client.mutation(api.nesting.list, { group: "x" }))).message, /as Mutation, but it is defined as Query/);
  });
}
