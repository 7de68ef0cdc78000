// What a function may do, where it ends, and what it is told there.

import { ConvexHttpClient, ConvexClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { assert, check, finish, rejection, url } from "./harness.mjs";

const http = new ConvexHttpClient(url, { logger: false });
const live = new ConvexClient(url, { logger: false, unsavedChangesWarning: false });
/** A one-shot call: {status, value | errorMessage, logLines}. */
async function raw(kind, path, args = {}, headers = {}) {
  const answer = await fetch(`${url}/api/${kind}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({ path, args, format: "json" }),
  });
  assert.equal(answer.status, 200, await answer.clone().text());
  return await answer.json();
}
const refused = async (promise) => (await rejection(promise)).message;

// ---- features that come later

const notYet = {
  audit: /Audit logs/,
};
const features = await http.query(api.later.features);
for (const [kind, names] of [["mutation", features.mutations], ["query", features.queries]]) {
  const fn = kind === "mutation" ? api.later.inMutation : api.later.inQuery;
  for (const feature of names) {
    await check(`${feature} in a ${kind}`, async () => {
      const caught = await http[kind](fn, { feature, caught: true });
      assert.match(caught.caught, notYet[feature]);
      assert.match(caught.caught, /not available yet in this version of cvx/);
      assert.equal(caught.data, undefined);
      for (const client of [http, live]) {
        const message = await refused(client[kind](fn, { feature, caught: false }));
        assert.match(message, notYet[feature]);
        assert.match(message, /Server Error\s+Uncaught Error: .* not available yet/);
      }
    });
  }
}

// ---- who asks, what runs

await check("the request of a mutation over HTTP", async () => {
  const plain = (await raw("mutation", "meta:request", {}, { "user-agent": "tester/1" })).value;
  assert.deepEqual({ ...plain, requestId: 0 }, { ip: "127.0.0.1", userAgent: "tester/1", requestId: 0, scheduledFunctionId: null, authToken: null });
  assert.match(plain.requestId, /^[0-9a-f]{16}$/);
  const proxied = (await raw("mutation", "meta:request", {}, { "x-forwarded-for": " 203.0.113.7 , 10.0.0.1", "convex-request-id": "abcd" })).value;
  assert.equal(proxied.ip, "203.0.113.7");
  assert.equal(proxied.requestId, "abcd");
  assert.equal((await raw("run/meta/request", "")).value.ip, "127.0.0.1");
});
await check("the request of a mutation over a socket", async () => {
  const seen = await live.mutation(api.meta.request, {});
  assert.equal(seen.ip, "127.0.0.1");
  assert.match(seen.requestId, /^[0-9a-f]{16}$/);
});
await check("a nested mutation has the request of its parent", async () => {
  const seen = (await raw("mutation", "meta:nested", {}, { "user-agent": "tester/2" })).value;
  assert.equal(seen.request.userAgent, "tester/2");
  assert.deepEqual(seen.fn, { name: "meta:below", componentPath: "", type: "mutation", visibility: "internal" });
});
await check("queries have no request", async () => {
  assert.match(await refused(http.query(api.meta.inQuery)), /getRequestMetadata/);
  assert.match(await http.query(api.meta.syscallInQuery), /^caught: .*queries/);
});
await check("functions and the deployment", async () => {
  const query = await http.query(api.meta.whereQuery);
  assert.deepEqual(query.fn, { name: "meta:whereQuery", componentPath: "", type: "query", visibility: "public" });
  assert.deepEqual(Object.keys(query.deployment).sort(), ["class", "name", "region"]);
  assert.ok(query.deployment.name.length > 0);
  assert.equal((await http.mutation(api.meta.whereMutation)).fn.type, "mutation");
  assert.equal((await http.query(api.meta.default)).name, "meta:default");
});

// ---- limits

await check("documents written", async () => {
  assert.match(await refused(http.mutation(api.limits.fill, { from: 0, count: 16_001, size: 0 })), /Too many documents written.*limit: 16000/);
  assert.equal(await http.query(api.limits.collect), 0, "nothing of it was written");
  assert.match(await refused(http.mutation(api.limits.rewrite, { times: 16_000 })), /Too many documents written/);
});
await check("bytes written", async () => {
  const { n, message } = await http.mutation(api.limits.fillUntilRefused, { size: 1_000_000 });
  assert.match(message, /Too many bytes written.*limit: 16777216 bytes/);
  assert.equal(n, 16, "the writes before it count");
});
await check("documents read", async () => {
  assert.equal(await http.mutation(api.limits.fill, { from: 0, count: 16_000, size: 0 }), 16_000);
  assert.equal(await http.mutation(api.limits.fill, { from: 16_000, count: 16_000, size: 0 }), 16_000);
  assert.equal(await http.query(api.limits.collect), 32_000);
  await http.mutation(api.limits.fill, { from: 32_000, count: 1, size: 0 });
  for (const fn of [api.limits.collect, api.limits.filtered]) assert.match(await refused(http.query(fn)), /Too many documents read.*limit: 32000/);
  const page = await http.query(api.limits.page, { numItems: 32_000 });
  assert.deepEqual([page.length <= 32_000, page.isDone], [true, false]);
  assert.match(await refused(http.query(api.limits.page, { numItems: 32_001 })), /32000/);
});
await check("bytes read", async () => {
  assert.equal(await http.query(api.limits.collectAnything), 16);
  await http.mutation(api.limits.fillUntilRefused, { size: 1_000_000 });
  assert.match(await refused(http.query(api.limits.collectAnything)), /Too many bytes read.*limit: 16777216 bytes/);
});
await check("index ranges read", async () => {
  assert.equal(await http.query(api.limits.points, { count: 4_095 }), 4_095);
  assert.match(await refused(http.query(api.limits.points, { count: 4_100 })), /Too many reads.*limit: 4096/);
});
await check("arguments", async () => {
  const rows = (count) => Array.from({ length: count }, () => Array(8_000).fill(1.5));
  assert.equal(await http.query(api.limits.take, { value: "x".repeat(1_000_000) }), 1_000_002);
  const message = await refused(http.query(api.limits.take, { value: rows(250) }));
  assert.match(message, /Arguments for limits:take are too large \(actual: 18\d{6} bytes, limit: 16777216 bytes\)/);
  const tooLarge = await fetch(`${url}/api/query`, {
    method: "POST", headers: { "content-type": "application/json" },
    body: JSON.stringify({ path: "limits:take", args: { value: "x".repeat(17_000_000) } }),
  });
  assert.deepEqual([tooLarge.status, (await tooLarge.json()).code], [413, "RequestTooLarge"]);
  assert.match(await refused(live.query(api.limits.take, { value: rows(250) })), /are too large/);
});
await check("return values", async () => {
  assert.equal((await http.query(api.limits.give, { bytes: 16_777_000 })).length, 16_777_000);
  assert.match(await refused(http.query(api.limits.give, { bytes: 16_777_216 })), /return value is too large \(actual: 16777218 bytes, limit: 16777216 bytes\)/);
  assert.match(await refused(http.query(api.limits.giveNested, { depth: 65 })), /nest/);
  assert.match(await refused(http.query(api.limits.giveArray, { length: 8_193 })), /8193.*8192/);
});
for (const [what, message] of [
  ["document", /^written$/], ["documentOver", /Document is too large.*1048576 bytes/],
  ["array", /^written$/], ["arrayOver", /Array has 8193 elements, and the maximum is 8192/],
  ["fields", /^written$/], ["fieldsOver", /Object has 1025 fields, and the maximum is 1024/],
  ["nesting", /^written$/], ["nestingOver", /nested too deeply.*16/],
  ["fieldName", /^written$/], ["fieldNameOver", /1024/],
  ["fieldNameControl", /[Ff]ield name/], ["fieldNameNotAscii", /[Ff]ield name/],
  ["fieldNameDollar", /\$/], ["fieldNameUnderscore", /_a/],
])
  await check(`a document: ${what}`, async () => assert.match(await http.mutation(api.limits.write, { what }), message));
await check("log lines", async () => {
  assert.equal((await raw("query", "limits:logMany", { count: 256 })).logLines.length, 256);
  const many = (await raw("query", "limits:logMany", { count: 300 })).logLines;
  assert.equal(many.length, 256);
  assert.match(many[255], /^\[ERROR\] .*Log overflow \(maximum 256\)/);
  const [long] = (await raw("query", "limits:logLong", { length: 40_000 })).logLines;
  assert.match(long, /truncated due to length/);
  assert.ok(long.length < 33_000 && long.length > 30_000, String(long.length));
});
await check("operators of a query", async () => {
  assert.match(await refused(http.query(api.limits.manyOperators, { count: 257 })), /256/);
});

await live.close();
finish();
