// The official one-shot client. Arguments: url, admin key, name of this run.
import assert from "node:assert/strict";
import { ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import { ConvexError } from "convex/values";

// `run` keeps the channels of one run apart from those of another.
const [url, adminKey, run] = process.argv.slice(2);
const api = anyApi;
const logger = { log() {}, warn() {}, error() {}, logVerbose() {} };
const client = new ConvexHttpClient(url, { logger });

assert.deepEqual(await client.query(api.wire.list, { channel: run + "h" }), []);
const id = await client.mutation(api.wire.send, { channel: run + "h", body: "one" });
assert.match(id, /^[0-9a-z]{32}$/);
assert.deepEqual(await client.query(api.wire.list, { channel: run + "h" }), ["one"]);

const odd = {
  int: 2n ** 62n,
  negative: -1n,
  nan: NaN,
  infinity: -Infinity,
  minusZero: -0,
  whole: 1,
  half: 0.5,
  bytes: new Uint8Array([0, 1, 255]).buffer,
  text: "é€😀",
  nested: [[], {}, [null, true]],
};
assert.deepEqual(await client.query(api.wire.echo, { value: odd }), odd);

for (const [how, data] of [["data", { code: 7n, why: "because" }], ["null", null]]) {
  for (const call of [() => client.query(api.wire.failing, { how }), () => client.mutation(api.wire.sendAndFail, { channel: run + "h", how })]) {
    const error = await call().then(() => assert.fail("no error"), (e) => e);
    assert.ok(error instanceof ConvexError, String(error));
    assert.deepEqual(error.data, data);
  }
}
const plain = await client.query(api.wire.failing, { how: "plain" }).then(() => assert.fail(), (e) => e);
assert.ok(!(plain instanceof ConvexError));
assert.match(plain.message, /^\[Request ID: [0-9a-f]{16}\] Server Error\nUncaught Error: plain trouble\n    at /);

const rejected = async (call, pattern) => {
  const error = await call().then(() => assert.fail("no error"), (e) => e);
  assert.match(error.message, pattern);
};
await rejected(() => client.query(api.wire.nothing, {}), /Could not find public function for 'wire:nothing'/);
await rejected(() => client.query(api.wire.hidden, {}), /Could not find public function for 'wire:hidden'/);
await rejected(() => client.query(api.wire.send, { channel: run + "h", body: "" }), /Trying to execute .* as Query, but it is defined as Mutation/);
await rejected(() => client.query(api.wire.list, { channel: 1 }), /ArgumentValidationError/);
assert.equal(await client.action(api.wire.act, {}), "acted");

const consistent = await client.consistentQuery(api.wire.list, { channel: run + "h" });
assert.deepEqual(consistent, ["one"]);

const many = await Promise.all(Array.from({ length: 20 }, (_, n) => client.mutation(api.wire.send, { channel: run + "many", body: `${n}` }, { skipQueue: true })));
assert.equal(new Set(many).size, 20);

const admin = new ConvexHttpClient(url, { logger });
admin.setAdminAuth(adminKey);
assert.equal(await admin.query(api.wire.hidden, {}), "secret");
assert.equal(await admin.function("wire:hidden", undefined, {}), "secret");
const acting = new ConvexHttpClient(url, { logger });
acting.setAdminAuth(adminKey, { issuer: "https://i.test", subject: "ada", tokenIdentifier: "https://i.test|ada" });
assert.equal(await acting.query(api.wire.who, {}), "ada");
await rejected(() => client.function("wire:hidden", undefined, {}), /BadDeployKey/);
const wrong = new ConvexHttpClient(url, { logger });
wrong.setAdminAuth(adminKey.slice(0, -2) + "00");
await rejected(() => wrong.query(api.wire.hidden, {}), /BadAdminKey/);
const tokened = new ConvexHttpClient(url, { logger });
tokened.setAuth("not.a.token");
await rejected(() => tokened.query(api.wire.list, { channel: run + "h" }), /code/);
console.log("ok");
