// Drives the app while it is deployed again and its backend dies. Says "redeploy" or "restart" on its output and goes on when a
// line comes back.

import { createInterface } from "node:readline";
import { createHash } from "node:crypto";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { ConvexError } from "convex/values";
import { assert, check, finish, rejection, sleep, until, url, watch } from "./harness.mjs";

const CLIENTS = Number(process.env.CLIENTS ?? 200);
const site = process.argv[4];
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const ask = async (what) => {
  process.stdout.write(`${what}\n`);
  await answers.next();
};
const quiet = { logger: false };
const client = new ConvexClient(url, quiet);
const http = new ConvexHttpClient(url, quiet);
const sha = (text) => createHash("sha256").update(text).digest("hex");
const t0 = Date.now();
const lap = (what) => process.env.LAPS && process.stderr.write(`${((Date.now() - t0) / 1000).toFixed(2)} ${what}\n`);

const crowd = Array.from({ length: CLIENTS }, () => new ConvexClient(url, quiet));
const screens = crowd.map((each) => watch(each, api.chain.progress));
const everybodySees = (wanted, deadline) =>
  until(() => screens.every(({ value }) => value && Object.entries(wanted).every(([k, v]) => value[k] === v)), `all seeing ${JSON.stringify(wanted)}`, deadline);
await everybodySees({ release: "first", done: 0 });
lap("crowd");

const LEVELS = ["begun", "done", "searched"];
const ended = (id) => async () => {
  const state = await client.query(api.chain.job, { id });
  return ["pending", "inProgress"].includes(state?.kind) ? undefined : state;
};

await check("a chain from end to end, by the scheduler and by a client, in any script", async () => {
  for (const text of ["straight on", "größe 東京 🦊 עברית", "word ".repeat(20_000)]) {
    const chain = `one ${text.slice(0, 20)}/?&#%`;
    const id = await client.mutation(api.chain.begin, { chain, text });
    assert.deepEqual(await until(ended(id), "the job's end"), { kind: "success" });
    assert.deepEqual(await client.query(api.chain.steps, { chain }), LEVELS);
    assert.equal(await client.action(api.chain.through_all, { chain: `${chain} again`, text }), `first: found: ${sha(text)}`);
    assert.equal(await http.action(api.chain.through_all, { chain: `${chain} http`, text }), `first: found: ${sha(text)}`);
  }
});
lap("chains");

const failures = [];
for (const level of ["action", "http", "node", "search"]) for (const how of ["convex", "plain", "oddity"]) failures.push({ level, how });
await check("errors of every level reach the client, and each undoes its own transaction only", async () => {
  await Promise.all(
    failures.map(async ({ level, how }) => {
      const chain = `failing ${level} ${how}`;
      for (const each of [client, http]) {
        const error = await rejection(each.action(api.chain.through_all, { chain, text: "fails", fail: { level, how } }));
        if (how === "convex") {
          assert.ok(error instanceof ConvexError, `${chain}: ${error}`);
          const data = level === "action" ? error.data : error.data.passedOn;
          assert.deepEqual({ ...data, bytes: [...new Uint8Array(data.bytes)] }, { level, n: 9007199254740993n, bytes: [0, 255], text: "“ü” 🦊" });
        } else {
          assert.ok(!(error instanceof ConvexError), `${chain}: ${error}`);
          assert.ok(error.message.includes("Server Error") && error.message.includes(`“${level}”`), error.message);
          if (level !== "action") assert.match(error.message, /the HTTP action said: \[Request ID: [0-9a-f]+\] Server Error/);
        }
      }
      assert.deepEqual(await client.query(api.chain.steps, { chain }), []);
      const id = await client.mutation(api.chain.begin, { chain, text: "fails", fail: { level, how } });
      const state = await until(ended(id), `the failure of ${chain}`);
      assert.equal(state.kind, "failed", chain);
      assert.ok(how === "convex" ? state.error.includes("ConvexError") : state.error.includes(`“${level}”`), state.error);
      assert.deepEqual(await client.query(api.chain.steps, { chain }), ["begun"]);
    }),
  );
  for (const how of ["convex", "plain"]) {
    const chain = `failing mutation ${how}`;
    const error = await rejection(client.mutation(api.chain.begin, { chain, text: "x", fail: { level: "mutation", how } }));
    assert.equal(error instanceof ConvexError, how === "convex");
    if (how === "convex") assert.deepEqual([error.data.n, new Uint8Array(error.data.bytes)], [9007199254740993n, new Uint8Array([0, 255])]);
    assert.deepEqual(await client.query(api.chain.steps, { chain }), []);
  }
});
lap("failures");

const strict = [["query", api.strict.asQuery], ["mutation", api.strict.asMutation], ["action", api.strict.asAction], ["action", api.machine.strict]];
await check("arguments and results of every kind are held against their validators", async () => {
  const id = await client.mutation(api.strict.insert, { bytes: 1 });
  for (const each of [client, http]) {
    for (const [kind, fn] of strict) {
      const node = fn === api.machine.strict;
      assert.equal(await each[kind](fn, { kind: "node", id }), 0);
      for (const wrong of [{}, { kind: "node" }, { kind: 1, id }, { kind: "node", id: "x" }, { kind: "node", id, more: 1 }, { kind: "node", id, many: [1] }, { kind: "node", id: id.replace(/.$/, (c) => (c === "a" ? "b" : "a")) }]) {
        const error = await rejection(each[kind](fn, wrong));
        assert.match(error.message, /ArgumentValidationError/, `${kind} ${node} ${JSON.stringify(wrong)}`);
      }
    }
    for (const [kind, fn] of [["query", api.strict.lyingQuery], ["mutation", api.strict.lyingMutation], ["action", api.strict.lyingAction], ["action", api.machine.lying]]) {
      assert.match((await rejection(each[kind](fn, {}))).message, /ReturnsValidationError/);
    }
    for (const path of [api.strict.hidden, api.strict.nothing, api.nowhere.at, api["_deps/x"].y, api.http.default, api.machine.nothing, api.crons.default, api.schema.default]) {
      assert.match((await rejection(each.query(path, {}))).message, /Could not find public function/);
    }
    assert.match((await rejection(each.query(api["ünï"].cødé, {}))).message, /is not a valid path/);
    assert.match((await rejection(each.query(api.strict.asAction, { kind: "", id }))).message, /Trying to execute .* as Query, but it is defined as Action/);
    assert.match((await rejection(each.action(api.strict.asQuery, { kind: "", id }))).message, /Trying to execute .* as Action, but it is defined as Query/);
    assert.match((await rejection(each.mutation(api.machine.strict, { kind: "", id }))).message, /Trying to execute .* as Mutation, but it is defined as Action/);
  }
});
lap("validators");

await check("ids of any shape", async () => {
  const id = await client.mutation(api.strict.insert, { bytes: 1 });
  const odd = ["", " ", id.toUpperCase(), `${id} `, id.slice(1), `${id}${id}`, "🦊", "a".repeat(10_000), "\u0000", "00000000000000000000000000000000", "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz", "3f0a5c1e-5d55-4b53-9d0a-000000000000", "_storage", "../../etc/passwd"];
  for (const each of odd) {
    const tried = await client.query(api.strict.anyId, { id: each });
    assert.equal(tried.normalized, null, each);
    assert.ok(tried.get === null || /Invalid argument `id` for `db.get`/.test(tried.get), `${each}: ${tried.get}`);
    assert.ok(tried.url === null || /Invalid storage ID|Invalid argument/i.test(tried.url), `${each}: ${tried.url}`);
  }
  assert.equal((await client.query(api.strict.anyId, { id })).normalized, id);
  const storage = await client.query(api.strict.anyId, { id });
  assert.match(storage.url, /Invalid storage ID/i);
});
lap("ids");

await check("more chains at once than there are places for actions: none waits for itself", async () => {
  const text = "at once";
  const said = await Promise.all(Array.from({ length: 72 }, (_, n) => client.action(api.chain.through_all, { chain: `many ${n}`, text })));
  assert.deepEqual(new Set(said), new Set([`first: found: ${sha(text)}`]));
});
lap("many");

const MIB = 1 << 20;
await check("values just below their limits pass, those just above are refused, and the next call works", async () => {
  const fits = MIB - 300;
  const id = await client.mutation(api.strict.insert, { bytes: fits });
  assert.equal(await client.query(api.strict.read, { id }), fits);
  assert.match((await rejection(client.mutation(api.strict.insert, { bytes: MIB }))).message, /too large/i);
  const blob = new ArrayBuffer(MIB);
  for (const each of [client, http]) {
    assert.equal(await each.action(api.machine.strict, { kind: "node", id, many: [blob, blob, blob] }), 3 * MIB);
    assert.match((await rejection(each.action(api.machine.strict, { kind: "node", id, many: Array(6).fill(blob) }))).message, /too large/i);
  }
  assert.equal(await client.action(api.strict.asAction, { kind: "node", id, many: Array(5).fill(blob) }), 5 * MIB);
  assert.equal((await client.action(api.strict.answer, { bytes: 5 * MIB })).byteLength, 5 * MIB);
  assert.match((await rejection(http.action(api.strict.answer, { bytes: 16 * MIB }))).message, /too large/i);
  await client.mutation(api.strict.drop, { id });
  const big = await fetch(`${site}/big`, { method: "POST", body: new Uint8Array(20 * MIB) });
  assert.equal(await big.text(), String(20 * MIB));
  assert.equal((await fetch(`${site}/big`, { method: "POST", body: new Uint8Array(40 * MIB) })).status, 413);
  assert.equal((await (await fetch(`${site}/down?bytes=${20 * MIB}`)).arrayBuffer()).byteLength, 20 * MIB);
  await rejection(fetch(`${site}/down?bytes=${20 * MIB + 1}`).then((answer) => answer.arrayBuffer()));
});
lap("big");

await check("a redeploy in the middle: chains end as they began or with the new code, and everybody sees the new release", async () => {
  const running = Array.from({ length: 8 }, (_, n) => client.action(api.chain.through_all, { chain: `redeployed ${n}`, text: `redeploy ${n}` }));
  const jobs = await Promise.all(Array.from({ length: 8 }, (_, n) => client.mutation(api.chain.begin, { chain: `shared before ${n}`, text: `shared ${n}` })));
  await ask("redeploy");
  for (const [n, said] of (await Promise.all(running)).entries()) assert.match(said, new RegExp(`^(first|second): found: ${sha(`redeploy ${n}`)}$`));
  for (const id of jobs) assert.deepEqual(await until(ended(id), "the job's end"), { kind: "success" });
  await everybodySees({ release: "second", done: 8, most: 1 });
  assert.match(await client.action(api.chain.through_all, { chain: "after", text: "after" }), /^second: /);
});
lap("redeployed");

await check("a restart in the middle: mutations once, actions at most once, everybody back", async () => {
  const jobs = await Promise.all(Array.from({ length: 12 }, (_, n) => client.mutation(api.chain.begin, { chain: `shared late ${n}`, text: `late ${n}` })));
  const lost = client.action(api.chain.through_all, { chain: "lost", text: "lost ".repeat(1000) }).then(
    () => "done",
    (error) => error.message,
  );
  const safe = Array.from({ length: 10 }, (_, n) => client.mutation(api.strict.insert, { bytes: n }));
  await ask("restart");
  lap("backend is back");
  assert.match(await lost, /^done$|Connection lost while action was in flight/);
  const written = await Promise.all(safe);
  lap("clients are back");
  assert.deepEqual(await Promise.all(written.map((id) => client.query(api.strict.read, { id }))), Array.from({ length: 10 }, (_, n) => n));
  let succeeded = 0;
  for (const [n, id] of jobs.entries()) {
    const state = await until(ended(id), "the job's end");
    const steps = await client.query(api.chain.steps, { chain: `shared late ${n}` });
    if (state.kind === "success") {
      succeeded += 1;
      assert.deepEqual(steps, LEVELS);
    } else {
      assert.equal(state.kind, "failed");
      assert.match(state.error, /Transient error while executing action/);
      assert.ok(steps.length === new Set(steps).size && steps.includes("begun"), steps);
    }
  }
  process.stdout.write(`note: ${succeeded} of 12 chains survived the restart\n`);
  await everybodySees({ release: "second", most: 1 });
  await until(() => new Set(screens.map(({ value }) => value.done)).size === 1, "all seeing the same");
  assert.equal((await client.query(api.chain.jobs)).pending ?? 0, 0);
});
lap("restarted");

await check("the cron drove three chains, and no more", async () => {
  for (const n of [0, 1, 2]) {
    const steps = await until(async () => {
      const steps = await client.query(api.chain.steps, { chain: `tick ${n}` });
      return steps.length === 2 && steps;
    }, `chain of tick ${n}`);
    assert.deepEqual(steps, ["done", "searched"]);
  }
  assert.deepEqual(await client.query(api.chain.steps, { chain: "tick 3" }), []);
});
await check("what fails on a screen is nothing", async () => assert.deepEqual(screens.flatMap(({ errors }) => errors), []));
await Promise.all([...crowd, client].map((each) => each.close()));
lap("end");
await sleep(50);
finish();
