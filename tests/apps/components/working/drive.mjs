// The workpool retries and holds back, the workflow goes on after anything, crons and migrations run, caches keep.
// Called a second time after the backend was killed and started again: `drive.mjs … after <workflow id>`.

import { ConvexClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { assert, check, finish, sleep, until, url, watch } from "./harness.mjs";

const live = new ConvexClient(url, { logger: false });
const { flows, notes, others, pools } = api;
const results = (what) => live.query(notes.results, { what });
const [phase, waiting] = process.argv.slice(5);

if (phase === "after") {
  await check("workflow: one that waited when the backend was killed goes on when its event comes", async () => {
    const seen = watch(live, flows.status, { id: waiting });
    await until(() => seen.value?.type === "inProgress");
    await live.mutation(flows.answer, { id: waiting, text: "thank you" });
    await until(() => seen.value?.type === "completed", "the end of the workflow");
    assert.equal(seen.value.result, "Dear Carol thank you");
    assert.deepEqual(await results("letter to Carol"), ["Dear Carol"]);
    await until(async () => (await results("end of Carol")).length === 1);
    seen.stop();
  });
  finish();
}

await check("workpool: an action is tried until it succeeds, and who asked is told once", async () => {
  const id = await live.mutation(pools.send, { to: "ada", failures: 2 });
  const seen = watch(live, pools.status, { id });
  await until(() => seen.value?.state === "finished", "the end of the work");
  await until(async () => (await results("ada")).length === 1);
  assert.deepEqual(await results("ada"), [{ kind: "success", returnValue: "sent to ada" }]);
  assert.equal(await live.query(notes.tries, { what: "ada" }), 3);
  seen.stop();
});

await check("workpool: it gives up when it was told to, and does not retry what is not to be retried", async () => {
  await live.mutation(pools.send, { to: "bob", failures: 99 });
  await live.mutation(pools.send, { to: "cy", failures: 99, retry: false });
  const [bob] = await until(async () => {
    const found = await results("bob");
    return found.length > 0 && found;
  });
  assert.equal(bob.kind, "failed");
  assert.match(bob.error, /the mail server is away \(4\)/);
  await until(async () => (await results("cy")).length === 1);
  assert.equal(await live.query(notes.tries, { what: "bob" }), 4);
  assert.equal(await live.query(notes.tries, { what: "cy" }), 1);
});

await check("workpool: no more at once than it may", async () => {
  await live.mutation(pools.enqueueSlow, { what: "slow", count: 6 });
  await until(async () => (await results("slow")).length === 6, "six of them");
  assert.deepEqual(await results("slow"), [0, 0, 0, 0, 0, 0]);
});

await check("workflow: steps of every kind, two beside each other, one that is retried", async () => {
  const id = await live.mutation(flows.begin, { name: "Ada" });
  const seen = watch(live, flows.status, { id });
  await until(() => seen.value?.type === "completed", "the end of the workflow");
  assert.equal(seen.value.result, "Dear Ada (8, 1)");
  assert.deepEqual(await results("letter to Ada"), ["Dear Ada"]);
  await until(async () => (await results("end of Ada")).length === 1);
  assert.equal((await results("end of Ada"))[0].kind, "success");
  seen.stop();
});

await check("workflow: canceled while it waits", async () => {
  const id = await live.mutation(flows.begin, { name: "Bob", waits: true });
  await until(async () => (await results("letter to Bob")).length === 1, "the letter");
  await live.mutation(flows.cancel, { id });
  await until(async () => (await live.query(flows.status, { id })).type === "canceled");
  await until(async () => (await results("end of Bob"))[0]?.kind === "canceled");
});

await check("crons: made, listed, run, removed at run time", async () => {
  await live.mutation(others.every, { name: "second", ms: 1000 });
  assert.deepEqual(await live.query(others.listed), ["second"]);
  await until(async () => (await results("tick second")).length >= 2, "two ticks");
  await live.mutation(others.noMore, { name: "second" });
  assert.deepEqual(await live.query(others.listed), []);
  await sleep(700); // One that was due already may still run.
  const ticks = (await results("tick second")).length;
  await sleep(1300);
  assert.equal((await results("tick second")).length, ticks);
});

await check("migrations: every row, in batches", async () => {
  await live.mutation(others.addPeople, { count: 35 });
  await live.mutation(others.migrate);
  await until(async () => (await live.query(others.migrated))[0]?.state === "success", "the migration");
  assert.deepEqual(await live.query(others.migrated), [{ state: "success", processed: 35 }]);
  assert.ok((await live.query(others.people)).every(({ name, greeting }) => greeting === `Hello ${name}`));
});

await check("action-cache: asked once, remembered, forgotten", async () => {
  const ask = (force) => live.action(others.thought, { about: "tea", force });
  assert.equal(await ask(), "tea 0");
  assert.equal(await ask(), "tea 0");
  assert.equal(await ask(true), "tea 1");
  assert.equal(await ask(), "tea 1");
  await live.action(others.forget, { about: "tea" });
  assert.equal(await ask(), "tea 2");
});

await check("presence: who is in the room, who has left, who has just stopped sending", async () => {
  const beat = (userId, interval = 10_000) =>
    live.mutation(others.heartbeat, { roomId: "room", userId, sessionId: `session of ${userId}`, interval });
  const { roomToken, sessionToken } = await beat("ada");
  const seen = watch(live, others.list, { roomToken });
  await until(() => seen.value?.length === 1);
  await beat("bob", 600);
  const online = () => seen.value?.filter((each) => each.online).map(({ userId }) => userId).sort();
  await until(() => seen.values.some((room) => room.filter((each) => each.online).length === 2));
  await until(() => online().length === 1, "bob's silence being noticed");
  assert.deepEqual(online(), ["ada"]);
  await live.mutation(others.disconnect, { sessionToken });
  await until(() => online().length === 0);
  seen.stop();
});

if (phase === "before") {
  await check("workflow: one that waits, for the time after the restart", async () => {
    const id = await live.mutation(flows.begin, { name: "Carol", waits: true });
    await until(async () => (await results("letter to Carol")).length === 1, "the letter");
    console.log(`waiting: ${id}`);
  });
}

finish();
