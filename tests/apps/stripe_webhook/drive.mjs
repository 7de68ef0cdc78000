// Stripe's part: events with its signatures, delivered to both webhooks; the app's part: a live list of payments.

import { createHmac } from "node:crypto";
import { ConvexClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { adminKey, assert, check, finish, until, url, watch } from "./harness.mjs";

const site = process.argv[4];
const SECRET = "whsec_test_secret";
const now = () => Math.floor(Date.now() / 1000);

async function setVariables(variables) {
  const changes = Object.entries(variables).map(([name, value]) => ({ name, value }));
  const headers = { Authorization: `Convex ${adminKey}`, "Content-Type": "application/json" };
  const answer = await fetch(`${url}/api/update_environment_variables`, { method: "POST", headers, body: JSON.stringify({ changes }) });
  assert.equal(answer.status, 200);
}

const sign = (time, body, secret = SECRET) => createHmac("sha256", secret).update(`${time}.${body}`).digest("hex");

function event(id, amount, type = "payment_intent.succeeded") {
  const object = { id: `pi_${id}`, object: "payment_intent", amount_received: amount, currency: "eur", description: "für „Ünïcode“" };
  return JSON.stringify({ id: `evt_${id}`, object: "event", type, data: { object } }, null, 2);
}

async function deliver(path, body, header) {
  const headers = { "Content-Type": "application/json; charset=utf-8", "User-Agent": "Stripe/1.0" };
  if (header !== undefined) headers["Stripe-Signature"] = header;
  const answer = await fetch(site + path, { method: "POST", headers, body });
  return { status: answer.status, text: await answer.text() };
}

const client = new ConvexClient(url, { logger: false });
const payments = watch(client, api.payments.list);
await until(() => payments.value);

await check("without the secret it says what is missing", async () => {
  const answer = await deliver("/stripe", event("none", 1), `t=${now()},v1=${sign(now(), event("none", 1))}`);
  assert.equal(answer.status, 500);
  assert.match(answer.text, /STRIPE_WEBHOOK_SECRET is not set/);
});

await setVariables({ STRIPE_WEBHOOK_SECRET: SECRET });

for (const path of ["/stripe", "/stripe-package"]) {
  const name = path.slice(1);
  const count = () => payments.value.filter((payment) => payment.paymentId.startsWith(`pi_${name}`)).length;

  await check(`${name}: a payment is on every screen at once, and once`, async () => {
    const body = event(`${name}_1`, 1250);
    const time = now();
    const header = `t=${time},v1=${sign(time, body)},v0=${"0".repeat(64)}`;
    assert.deepEqual(await deliver(path, body, header), { status: 200, text: "" });
    await until(() => count() === 1);
    const [{ cents, currency, paymentId }] = payments.value;
    assert.deepEqual({ cents, currency, paymentId }, { cents: 1250, currency: "eur", paymentId: `pi_${name}_1` });
    const answers = await Promise.all(Array.from({ length: 5 }, () => deliver(path, body, header)));
    assert.ok(answers.every(({ status }) => status === 200));
    assert.equal(count(), 1);
  });

  await check(`${name}: one of several signatures is enough (a secret is being rolled)`, async () => {
    const body = event(`${name}_2`, 99);
    const time = now();
    assert.equal((await deliver(path, body, `t=${time},v1=${sign(time, body, "whsec_old")},v1=${sign(time, body)}`)).status, 200);
    await until(() => count() === 2);
  });

  await check(`${name}: other events are taken and do nothing`, async () => {
    const body = event(`${name}_3`, 99, "customer.created");
    const time = now();
    assert.equal((await deliver(path, body, `t=${time},v1=${sign(time, body)}`)).status, 200);
  });

  await check(`${name}: what Stripe did not sign is refused`, async () => {
    const body = event(`${name}_4`, 1_000_000);
    const time = now();
    const good = sign(time, body);
    for (const [why, text, header] of [
      ["no header", body, undefined],
      ["another secret", body, `t=${time},v1=${sign(time, body, "whsec_other")}`],
      ["another body", body.replace("1000000", "1"), `t=${time},v1=${good}`],
      ["another time", body, `t=${time - 1},v1=${good}`],
      ["too long ago", body, `t=${time - 400},v1=${sign(time - 400, body)}`],
      ["another scheme", body, `t=${time},v0=${good}`],
      ["half a signature", body, `t=${time},v1=${good.slice(0, 32)}`],
      ["nonsense", body, "nonsense"],
    ]) {
      assert.equal((await deliver(path, text, header)).status, 400, why);
    }
    assert.equal(count(), 2);
  });
}

await client.close();
finish();
