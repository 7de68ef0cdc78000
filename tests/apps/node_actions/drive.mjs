// "use node" actions through the official clients: npm packages, what is Node's, failures, and what belongs to whom.

import { createServer } from "node:http";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { ConvexError } from "convex/values";
import { adminKey, assert, check, finish, rejection, until, url, watch } from "./harness.mjs";

const client = new ConvexClient(url, { logger: false });
const http = new ConvexHttpClient(url, { logger: false });
const headers = { Authorization: `Convex ${adminKey}`, "Content-Type": "application/json", "Convex-Client": "npm-cli-1.48.0" };

async function set(values) {
  const changes = Object.entries(values).map(([name, value]) => ({ name, value }));
  const answer = await fetch(`${url}/api/update_environment_variables`, { method: "POST", headers, body: JSON.stringify({ changes }) });
  assert.equal(answer.status, 200, await answer.text());
}

/** Lines that a call logs, as the client gets them. */
async function linesOf(path, args = {}) {
  const answer = await fetch(`${url}/api/action`, { method: "POST", headers, body: JSON.stringify({ path, args, format: "json" }) });
  return (await answer.json()).logLines;
}

// ---- a stand-in for Stripe

const asked = [];
const stripe = createServer((request, response) => {
  let body = "";
  request.on("data", (chunk) => (body += chunk));
  request.on("end", () => {
    asked.push({ path: request.url, key: request.headers.authorization, body });
    const amount = Number(new URLSearchParams(body).get("amount"));
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ id: `pi_${asked.length}`, object: "payment_intent", amount }));
  });
});
await new Promise((resolve) => stripe.listen(0, "127.0.0.1", resolve));
await set({
  STRIPE_KEY: "sk_test_1", STRIPE_HOST: "127.0.0.1", STRIPE_PORT: String(stripe.address().port), STRIPE_WEBHOOK_SECRET: "whsec_1",
});

await check("stripe: a client and a webhook", async () => {
  const payments = watch(client, api.payments.list);
  assert.equal(await http.action(api.relay.pay, { amount: 500 }), "pi_1");
  assert.deepEqual([asked[0].path, asked[0].key], ["/v1/payment_intents", "Bearer sk_test_1"]);
  assert.match(asked[0].body, /amount=500&currency=eur/);
  const payload = JSON.stringify({
    id: "evt_1", object: "event", type: "payment_intent.succeeded", data: { object: { id: "pi_9", amount: 900 } },
  });
  const signature = await client.action(api.billing.signatureFor, { payload });
  assert.equal(await http.action(api.billing.receive, { payload, signature }), "pi_9");
  assert.equal(await http.action(api.billing.receive, { payload, signature }), "pi_9");
  const forged = await rejection(http.action(api.billing.receive, { payload: payload.replace("900", "1"), signature }));
  assert.match(forged.message, /No signatures found matching the expected signature/);
  await until(() => payments.value?.length === 2, "both payments");
  assert.deepEqual(payments.value.map((each) => each.amount), [500, 900]);
  await client.mutation(api.payments.chargeLater, { amount: 70 });
  await until(() => payments.value.length === 3 && payments.value[2].amount === 70, "the scheduled charge");
  assert.match((await rejection(http.action(api.billing.charge, { amount: 1 }))).message, /Could not find public function/);
});

await check("environment variables take effect at once", async () => {
  await set({ STRIPE_KEY: "sk_test_2" });
  await http.action(api.relay.pay, { amount: 1 });
  assert.equal(asked.at(-1).key, "Bearer sk_test_2");
});

await check("jsonwebtoken, jose and node:crypto", async () => {
  const token = await client.action(api.tokens.issue, { subject: "ann" });
  assert.equal(await client.action(api.tokens.check, { token }), "ann");
  assert.match((await rejection(client.action(api.tokens.check, { token: `${token}x` }))).message, /JsonWebTokenError: invalid signature/);
  assert.deepEqual(await client.action(api.tokens.roundTrip, {}), { role: "admin", kid: "k1", deep: true, kty: "RSA", same: true });
});

await check("pictures: pngjs, jimp and file storage", async () => {
  const id = await client.action(api.images.draw, { size: 64 });
  const { w, h, bytes } = await client.action(api.images.shrink, { id, width: 16 });
  assert.deepEqual([w, h, bytes > 60], [16, 16, true]);
});

await check("what Node has", async () => {
  assert.equal(await http.action(api.machine.hash, { text: "abc" }), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  assert.equal(await http.action(api.machine.scratch, { text: "wörter" }), "wörter false");
  assert.deepEqual(await http.action(api.machine.everyday, {}), {
    parts: "AB", ready: 7, seen: "inside", body: "you asked for /x", fetched: "you asked for /y", base64: "aMOpbGxv",
    global: true, version: true, require: "function", deno: "undefined", evaluated: 42,
    agent: "Node.js", absent: [false, "MODULE_NOT_FOUND", "EACCES"],
    variables: ["CONVEX_CLOUD_URL", "CONVEX_SITE_URL", "STRIPE_HOST", "STRIPE_KEY", "STRIPE_PORT", "STRIPE_WEBHOOK_SECRET"],
  });
});

await check("what an action may not do", async () => {
  for (const [name, said] of Object.entries(await http.action(api.machine.forbidden, {}))) {
    assert.notEqual(said, "allowed", name);
  }
});

await check("between the runtimes", async () => {
  assert.match(await client.action(api.relay.digest, { text: "" }), /^sha256:e3b0c442/);
  assert.equal(await client.action(api.behaviour.deep, { levels: 3 }), 3);
  const value = { a: [1, 2n, null, 1.5], b: new Uint8Array([1, 2]).buffer, c: "é\n" };
  assert.deepEqual(await client.action(api.behaviour.echo, { value }), value);
});

await check("a warm process keeps its modules' state", async () => {
  const first = await http.action(api.behaviour.count, {});
  assert.equal(await http.action(api.behaviour.count, {}), first + 1);
});

await check("failures", async () => {
  const plain = await rejection(http.action(api.behaviour.fail, { how: "plain" }));
  assert.match(plain.message, /Uncaught TypeError: a plain error\n {4}at handler \(\.\.\/convex\/behaviour\.ts:\d+:\d+\)/);
  assert.doesNotMatch(plain.message, /node_host|file:/);
  assert.match((await rejection(http.action(api.behaviour.fail, { how: "null" }))).message, /Uncaught null/);
  const convex = await rejection(client.action(api.behaviour.fail, { how: "convex" }));
  assert.ok(convex instanceof ConvexError);
  assert.deepEqual(convex.data, { code: 7, what: "teapot" });
  assert.match((await rejection(client.action(api.behaviour.fail, { how: "rejection" }))).message, /Uncaught Error: nobody looked/);
  assert.match((await rejection(client.action(api.behaviour.fail, { how: "timer" }))).message, /Uncaught Error: in a timer/);
  assert.match((await rejection(client.action(api.behaviour.fail, { how: "exit" }))).message, /process\.exit\(4\) was called/);
  assert.match((await rejection(client.action(api.behaviour.fail, { how: "memory" }))).message, /ran out of memory \(maximum memory usage: \d+ MB\)/);
  assert.match((await rejection(client.action(api.behaviour.fail, { how: "hang" }))).message, /Function execution timed out \(maximum duration: 15s\)/);
  assert.equal(await client.action(api.behaviour.fail, { how: "no" }), "survived");
  assert.match((await rejection(http.action(api.tokens.check, { token: 1 }))).message, /ArgumentValidationError/);
});

await check("log lines", async () => {
  const lines = await linesOf("behaviour:logs");
  assert.equal(lines[0], "[LOG] 'plain' {\n  a: [ 1, 2 ]\n}");
  assert.match(lines[1], /^\[ERROR\] RangeError: shown\n {4}at handler \(\.\.\/convex\/behaviour\.ts:/);
  assert.deepEqual(lines.slice(2), ["[LOG] written", "[LOG] in two parts", '[LOG] {"level":30,"msg":"from pino"}']);
});

await check("forty at once: nothing of one is another's", async () => {
  const tags = Array.from({ length: 40 }, (_, i) => `tag${i}`);
  const found = await Promise.all(tags.map((tag) => linesOf("behaviour:tagged", { tag, rounds: 5 })));
  found.forEach((lines, i) => {
    const mine = lines.filter((line) => line === `[LOG] '${tags[i]}'`);
    assert.equal(mine.length, 20, `${tags[i]}: ${lines}`);
    assert.equal(lines.length, 20);
  });
  const counts = await http.query(api.notes.counts, {});
  for (const tag of tags) assert.equal(counts[tag], 5);
});

await check("what an action leaves behind belongs to nobody", async () => {
  await http.action(api.behaviour.keep, {});
  const used = await http.action(api.behaviour.useKept, {}).catch((error) => error.message);
  assert.ok(used === "nothing kept" || /belongs to an action that has ended/.test(used), used);
  const [warning] = await linesOf("behaviour:unawaited");
  assert.match(warning, /^\[WARN\] 1 unawaited operation: \[runMutation\]/);
});

stripe.close();
finish();
