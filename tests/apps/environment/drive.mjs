// Environment variables through the official client: who is told of a change, what names and values are refused.

import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { adminKey, assert, check, finish, rejection, until, url, watch } from "./harness.mjs";

const client = new ConvexClient(url, { logger: false });
const http = new ConvexHttpClient(url, { logger: false });
const headers = { Authorization: `Convex ${adminKey}`, "Content-Type": "application/json", "Convex-Client": "npm-cli-1.48.0" };

async function change(changes) {
  const body = { changes: Object.entries(changes).map(([name, value]) => ({ name, value })) };
  return await fetch(`${url}/api/update_environment_variables`, { method: "POST", headers, body: JSON.stringify(body) });
}

async function set(changes) {
  const answer = await change(changes);
  assert.equal(answer.status, 200, await answer.text());
}

async function refused(changes) {
  const answer = await change(changes);
  const body = await answer.json();
  assert.equal(answer.status, 400);
  assert.ok(body.message.length > 10);
  return body.code;
}

let cursor = 0;
/** How often each function ran (not from the cache) since the last question. */
async function runs() {
  const page = await (await fetch(`${url}/api/stream_function_logs?cursor=${cursor}`, { headers })).json();
  cursor = page.newCursor;
  const counts = {};
  for (const entry of page.entries) {
    if (entry.kind === "Completion" && !entry.cachedResult) counts[entry.identifier] = (counts[entry.identifier] ?? 0) + 1;
  }
  return counts;
}

const currency = watch(client, api.shop.currency);
const banner = watch(client, api.shop.banner);
const addresses = watch(client, api.shop.addresses);
await until(() => currency.value && addresses.value && banner.values.length);

await check("what is not set is undefined", async () => {
  assert.equal(currency.value, "EUR");
  assert.equal(banner.value, null);
});

await check("system variables say where the deployment is", async () => {
  assert.equal(addresses.value.api, url);
  assert.match(addresses.value.httpActions, /^http:\/\/127\.0\.0\.1:\d+$/);
  assert.notEqual(addresses.value.httpActions, url);
});

await check("a change re-runs exactly the queries that read it", async () => {
  await runs();
  await set({ CURRENCY: "CHF" });
  await until(() => currency.value === "CHF");
  await set({ UNRELATED: "1" });
  await set({ CURRENCY: "USD", BANNER: "Sale!" });
  await until(() => currency.value === "USD" && banner.value === "Sale!");
  const counts = await runs();
  assert.equal(counts["shop:currency"], 2);
  assert.equal(counts["shop:banner"], 1);
  assert.equal(counts["shop:addresses"], undefined);
  assert.deepEqual(currency.values, ["EUR", "CHF", "USD"]);
});

await check("setting the same value again wakes nobody", async () => {
  await set({ CURRENCY: "USD" });
  assert.equal(await http.query(api.shop.currency), "USD");
  assert.equal((await runs())["shop:currency"], undefined);
});

await check("removing is a change, too", async () => {
  await set({ BANNER: null });
  await until(() => banner.value === null);
});

await check("a module that reads one while it is loaded sees the new value as well", async () => {
  const imported = watch(client, api.peculiarities.importedCurrency);
  await until(() => imported.value === "USD");
  await set({ CURRENCY: "SEK" });
  await until(() => imported.value === "SEK");
  await set({ CURRENCY: "USD" });
  await until(() => imported.value === "USD");
  imported.stop();
});

await check("the object gives values and nothing else", async () => {
  await set({ BANNER: "there" });
  assert.deepEqual(await http.query(api.peculiarities.shape), {
    keys: [],
    spread: [],
    has: false,
    own: false,
    json: "{}",
    missing: "undefined",
    odd: ["undefined", "undefined", "true", "undefined"],
    afterAssignment: "USD",
    afterDelete: "there",
    otherMembers: ["env"],
    mode: "production",
  });
});

await check("mutations read them, and fail as they say when one is missing", async () => {
  assert.match(String(await rejection(http.mutation(api.shop.checkout, { cents: 250 }))), /PAYMENT_KEY is not set/);
  await set({ PAYMENT_KEY: "sk_123" });
  assert.equal(await http.mutation(api.shop.checkout, { cents: 250 }), "2.5 USD with a key of 6 characters");
});

await check("actions read them, as they are at their beginning", async () => {
  assert.deepEqual(await http.action(api.shop.pay), ["USD", url, 0]);
  await set({ CURRENCY: "NOK" });
  assert.deepEqual(await http.action(api.shop.pay), ["NOK", url, 0]);
  await set({ CURRENCY: "USD" });
});

await check("values arrive as they are", async () => {
  for (const value of ["", " ", "a\nb\r\n\tc", '"quoted"', "ünï©ødé 🦕", "\u0000", "x".repeat(8192)]) {
    await set({ ODD: value });
    assert.equal(await http.query(api.peculiarities.one, { name: "ODD" }), value);
  }
});

await check("names and values have rules, each with its code", async () => {
  for (const name of ["", "1A", "A-B", "A B", "Ä", "A.B", "A\n"]) {
    assert.equal(await refused({ [name]: "x" }), "EnvironmentVariableNameInvalid", name);
  }
  for (const name of ["_", "a", "A1_", "Z".repeat(256)]) await set({ [name]: "x" });
  assert.equal(await refused({ ["Z".repeat(257)]: "x" }), "EnvironmentVariableNameTooLong");
  for (const name of ["CONVEX_CLOUD_URL", "CONVEX_SITE_URL"]) assert.equal(await refused({ [name]: "x" }), "EnvVarNameForbidden");
  assert.equal(await refused({ A: "x".repeat(8193) }), "EnvironmentVariableValueTooLarge");
  assert.equal(await refused({ A: "ü".repeat(4097) }), "EnvironmentVariableValueTooLarge");
  const twice = JSON.stringify({ changes: [{ name: "A", value: "1" }, { name: "A", value: null }] });
  const answer = await fetch(`${url}/api/update_environment_variables`, { method: "POST", headers, body: twice });
  assert.equal((await answer.json()).code, "EnvVarNameNotUnique");
});

await check("all changes or none", async () => {
  await refused({ GOOD: "1", "BAD-NAME": "1" });
  assert.equal(await http.query(api.peculiarities.one, { name: "GOOD" }), null);
});

await check("there is an end to how many there may be, and to all of them together", async () => {
  const many = Object.fromEntries(Array.from({ length: 1001 }, (_, n) => [`MANY_${n}`, "x"]));
  assert.equal(await refused(many), "EnvVarLimitMet");
  const large = Object.fromEntries(Array.from({ length: 65 }, (_, n) => [`LARGE_${n}`, "x".repeat(8190)]));
  assert.equal(await refused(large), "EnvVarTotalSizeLimitMet");
  const rest = await (await fetch(`${url}/api/v1/list_environment_variables`, { headers })).json();
  assert.ok(!Object.keys(rest.environmentVariables).some((name) => name.startsWith("MANY_") || name.startsWith("LARGE_")));
  assert.ok(!("CONVEX_CLOUD_URL" in rest.environmentVariables));
});

await check("nobody but an admin sees or sets them", async () => {
  for (const authorization of ["", "Bearer x", "Convex nonsense|0123"]) {
    const answer = await fetch(`${url}/api/v1/list_environment_variables`, { headers: { ...headers, Authorization: authorization } });
    assert.ok([400, 401, 403].includes(answer.status), String(answer.status));
  }
});

await client.close();
finish();
