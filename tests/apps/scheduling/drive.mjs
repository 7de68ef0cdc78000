// Everything about scheduled mutations, through official clients only.

import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { adminKey, assert, check, finish, rejection, sleep, until, url, watch } from "./harness.mjs";

const live = new ConvexClient(url, { logger: false });
const admin = new ConvexHttpClient(url, { logger: false });
admin.setAdminAuth(adminKey);
const runs = (what) => live.query(api.jobs.ran, { what });
const beat = (delay, what, n) => live.mutation(api.jobs.after, { delay, name: "jobs:beat", args: { what, n } });
const day = 86_400_000;

await check("a job runs after its delay, once, and is seen doing so", async () => {
  const before = Date.now();
  const id = await beat(1000, "later", 7);
  const seen = watch(live, api.jobs.get, { id });
  await until(() => seen.value?.state.kind === "success");
  assert.deepEqual(seen.values.map((job) => job.state.kind), ["pending", "success"]);
  const { _id, _creationTime, name, args, scheduledTime, completedTime } = seen.value;
  assert.equal(_id, id);
  assert.match(id, /^kc2/);
  assert.equal(name, "jobs.js:beat");
  assert.deepEqual(args, [{ what: "later", n: 7 }]);
  assert.ok(Number.isInteger(scheduledTime) && scheduledTime >= before + 1000 && scheduledTime <= _creationTime + 1001);
  assert.ok(completedTime >= scheduledTime && completedTime < scheduledTime + 30_000);
  const [at] = await live.query(api.jobs.times, { what: "later" });
  assert.ok(at >= scheduledTime && at < scheduledTime + 30_000, `${at - scheduledTime} ms late`);
  assert.deepEqual(Object.keys(seen.value).sort(), ["_creationTime", "_id", "args", "completedTime", "name", "scheduledTime", "state"]);
  await sleep(100);
  assert.deepEqual(await runs("later"), [7]);
  seen.stop();
});

await check("a post is published when it was planned; planning again and dropping the plan cancel", async () => {
  const post = await live.mutation(api.posts.write, { title: "On time" });
  const seen = watch(live, api.posts.status, { post });
  const first = await live.mutation(api.posts.publishAt, { post, at: Date.now() + 60_000 });
  await until(() => seen.value?.publication === "pending");
  await live.mutation(api.posts.keepAsDraft, { post });
  await until(() => seen.value.publication === "canceled");
  await live.mutation(api.posts.publishAt, { post, at: Date.now() + 60_000 });
  await live.mutation(api.posts.publishAt, { post, at: Date.now() - 5_000 });
  await until(() => seen.value.state === "published");
  assert.equal(seen.value.publication, "success");
  assert.equal((await live.query(api.jobs.get, { id: first })).state.kind, "canceled");
  assert.equal((await live.query(api.jobs.list, {})).filter((job) => job.name === "posts.js:publish").length, 3);
  seen.stop();
});

await check("a job is there exactly when its mutation commits, nested ones too", async () => {
  assert.match((await rejection(live.mutation(api.jobs.scheduleAndThrow, { what: "never" }))).message, /after all, no/);
  await live.mutation(api.jobs.catches, { what: "caught" });
  await until(async () => (await runs("caught outer")).length === 1);
  await sleep(100);
  assert.deepEqual([await runs("never"), await runs("caught inner")], [[], []]);
});

await check("what throws fails, with the error, and is not run again; its writes are not there", async () => {
  const id = await live.mutation(api.jobs.after, { delay: 0, name: "jobs:explode", args: { what: "bang" } });
  const job = await until(async () => {
    const found = await live.query(api.jobs.get, { id });
    return found.state.kind === "failed" && found;
  });
  assert.match(job.state.error, /^Uncaught Error: bang exploded\n {4}at handler \(\.\.\/convex\/jobs\.ts:\d+/);
  await sleep(100);
  assert.deepEqual(await runs("bang"), []);
});

await check("bad arguments and wrong kinds are found out when it runs", async () => {
  const cases = [
    ["jobs:beat", { what: 5 }, /ArgumentValidationError/],
    ["jobs:ran", { what: "x" }, /Trying to execute jobs\.js:ran as Mutation, but it is defined as Query/],
  ];
  for (const [name, args, expected] of cases) {
    const id = await live.mutation(api.jobs.after, { delay: 0, name, args });
    const job = await until(async () => {
      const found = await live.query(api.jobs.get, { id });
      return found.state.kind === "failed" && found;
    });
    assert.match(job.state.error, expected);
  }
});

await check("what cannot be scheduled is refused at once", async () => {
  const refused = async (fn, args) => (await rejection(live.mutation(fn, args))).message;
  assert.match(await refused(api.jobs.after, { delay: 0, name: "jobs:nothing", args: {} }), /Attempted to schedule function jobs:nothing, but there is no exported function/);
  assert.match(await refused(api.jobs.after, { delay: 0, name: "nowhere:nothing", args: {} }), /Attempted to schedule function nowhere:nothing, but there is no module/);
  assert.match(await refused(api.jobs.after, { delay: 0, name: "a b", args: {} }), /not a valid path/);
  assert.match(await refused(api.jobs.after, { delay: -1, name: "jobs:beat", args: {} }), /non-negative/);
  assert.match(await refused(api.jobs.after, { delay: Infinity, name: "jobs:beat", args: {} }), /finite/);
  assert.match(await refused(api.jobs.after, { delay: 6 * 365 * day, name: "jobs:beat", args: {} }), /more than five years from now/);
  assert.match(await refused(api.jobs.at, { time: NaN, name: "jobs:beat", args: {} }), /Invalid arguments for `ctx\.scheduler/);
  assert.match(await refused(api.jobs.at, { time: 0, name: "jobs:beat", args: {} }), /more than five years in the past/);
});

await check("the limits on number and size of arguments", async () => {
  const { used, remaining } = await live.mutation(api.jobs.many, { what: "thousand", count: 1000, at: Date.now() + 50_000 });
  assert.deepEqual([used, remaining], [1000, 0]);
  assert.match((await rejection(live.mutation(api.jobs.many, { what: "x", count: 1001 }))).message, /Too many functions scheduled .* \(limit: 1000\)/);
  const [id] = await live.mutation(api.jobs.large, { mib: 3, count: 5 });
  assert.equal((await live.query(api.jobs.get, { id })).args[0].what.length, 3 * 1024 * 1024);
  assert.match((await rejection(live.mutation(api.jobs.large, { mib: 3, count: 6 }))).message, /arguments .* are too large/);
});

await check("canceling: again, finished, unknown and of other tables", async () => {
  const id = await beat(60_000, "canceled");
  for (let i = 0; i < 2; i++) await live.mutation(api.jobs.cancel, { id });
  const job = await live.query(api.jobs.get, { id });
  assert.deepEqual(job.state, { kind: "canceled" });
  assert.ok(job.completedTime >= job._creationTime);
  const done = await beat(0, "done");
  await until(async () => (await live.query(api.jobs.get, { id: done })).state.kind === "success");
  await live.mutation(api.jobs.cancel, { id: done });
  assert.equal((await live.query(api.jobs.get, { id: done })).state.kind, "success");
  const post = await live.mutation(api.posts.write, { title: "Not a job" });
  const refused = async (id) => (await rejection(live.mutation(api.jobs.cancel, { id }))).message;
  assert.match(await refused(post), /_scheduled_functions/);
  assert.match(await refused("nonsense"), /_scheduled_functions/);
  await live.mutation(api.jobs.cancel, { id: "kc2000820c20a1g7104gm2rc1m70y5yj" });
});

await check("a job knows itself, runs as nobody, and cannot cancel itself", async () => {
  await live.mutation(api.jobs.after, { delay: 0, name: "jobs:looksAtItself", args: { what: "self" } });
  await until(async () => (await runs("self: inProgress, jobs.js:looksAtItself, null")).length === 1);
  const id = await live.mutation(api.jobs.after, { delay: 0, name: "jobs:cancelsItself", args: { what: "itself" } });
  const job = await until(async () => {
    const found = await live.query(api.jobs.get, { id });
    return found.state.kind === "failed" && found;
  });
  assert.match(job.state.error, /cannot cancel itself/);
});

await check("user code sees the built-in indexes only", async () => {
  assert.match((await rejection(live.query(api.jobs.byHiddenIndex, {}))).message, /Index _scheduled_functions\.by_completed not found/);
});

await check("function handles run and are scheduled", async () => {
  const handle = await live.query(api.jobs.handle, {});
  assert.match(handle, /^function:\/\/[0-9a-f]{32}#jobs:beat$/);
  await live.mutation(api.jobs.runHandle, { handle, what: "handle" });
  await until(async () => (await runs("handle later")).length === 1);
  assert.equal((await runs("handle now")).length, 1);
  assert.equal(await live.query(api.jobs.handle, {}), handle);
  const refused = async (handle) => (await rejection(live.mutation(api.jobs.runHandle, { handle, what: "x" }))).message;
  assert.match(await refused("function://nonsense"), /not a function handle/);
  assert.match(await refused(`function://${"0".repeat(32)}`), /is not deployed/);
});

await check("a cron of one second fires about every second", async () => {
  const seen = watch(live, api.jobs.times, { what: "heartbeat" });
  await until(() => seen.value?.length >= 3);
  // One run may be late, and the next then comes soon after it.
  const took = seen.value.at(-1) - seen.value[0];
  assert.ok(took > (seen.value.length - 2) * 1000 - 50, `too quick: ${seen.value}`);
  seen.stop();
});

await check("draft cleanup goes on in batches by scheduling itself", async () => {
  for (let i = 0; i < 205; i++) await live.mutation(api.posts.write, { title: `old ${i}`, touched: Date.now() - 100 * day });
  assert.equal(await admin.mutation("drafts:cleanUp", { olderThanMs: 90 * day }), 100);
  await until(async () => (await live.query(api.posts.titles, {})).every((title) => !title.startsWith("old")));
  assert.ok((await live.query(api.posts.titles, {})).includes("Not a job"));
});

await check("daily analytics: yesterday's events by kind, the same when run twice", async () => {
  const midnight = Math.floor(Date.now() / day) * day;
  for (const [kind, at] of [["view", -1], ["view", -day], ["sale", -day / 2], ["view", 1], ["view", -day - 1]])
    await live.mutation(api.analytics.record, { kind, at: midnight + at });
  for (let i = 0; i < 2; i++) await admin.mutation("analytics:summarizeYesterday", {});
  const yesterday = new Date(midnight - 1).toISOString().slice(0, 10);
  assert.deepEqual(await live.query(api.analytics.days, {}), [
    { day: yesterday, kind: "sale", count: 1 },
    { day: yesterday, kind: "view", count: 2 },
  ]);
});

await check("a scheduled action is seen running, then done; it runs once, as nobody", async () => {
  const id = await live.mutation(api.jobs.after, { delay: 0, name: "actions:slow", args: { what: "slow", ms: 800 } });
  const seen = watch(live, api.jobs.get, { id });
  await until(() => seen.value?.state.kind === "success");
  const kinds = seen.values.map((job) => job.state.kind);
  assert.deepEqual(kinds.filter((kind) => kind !== "pending"), ["inProgress", "success"]);
  await until(async () => (await runs("slow nested child")).length === 1 && (await runs("slow direct child")).length === 1);
  assert.equal((await runs("slow began, null")).length, 1);
  seen.stop();
});

await check("a running action that is canceled goes on, but what it schedules is canceled", async () => {
  const id = await live.mutation(api.jobs.after, { delay: 0, name: "actions:slow", args: { what: "stopped", ms: 3000 } });
  await until(async () => (await live.query(api.jobs.get, { id })).state.kind === "inProgress");
  await live.action(api.actions.cancel, { id });
  assert.equal((await live.query(api.jobs.get, { id })).state.kind, "canceled");
  await until(async () => (await runs("stopped ended")).length === 1);
  const children = (await live.query(api.jobs.list, {})).filter((job) => String(job.args[0].what).startsWith("stopped ") && job.name === "jobs.js:beat");
  assert.deepEqual(children.map((job) => job.state.kind), ["canceled", "canceled"]);
  assert.ok(children.every((job) => job.completedTime > 0));
  await sleep(100);
  assert.deepEqual([await runs("stopped direct child"), await runs("stopped nested child")], [[], []]);
  assert.equal((await live.query(api.jobs.get, { id })).state.kind, "canceled");
});

await check("an action that throws fails, and what it did stays done", async () => {
  const id = await live.mutation(api.jobs.after, { delay: 0, name: "actions:explode", args: { what: "action bang" } });
  const job = await until(async () => {
    const found = await live.query(api.jobs.get, { id });
    return found.state.kind === "failed" && found;
  });
  assert.match(job.state.error, /^Uncaught Error: action bang exploded/);
  await sleep(100);
  assert.equal((await runs("action bang")).length, 1);
});

await check("what an action schedules is its own transaction", async () => {
  await live.action(api.actions.remind, { what: "reminder", delay: 0 });
  assert.match((await rejection(live.action(api.actions.remind, { what: "kept", delay: 0, fail: true }))).message, /after that/);
  await until(async () => (await runs("reminder")).length === 1 && (await runs("kept")).length === 1);
  assert.match(await live.action(api.actions.badly, { how: "far" }), /more than five years/);
  assert.match(await live.action(api.actions.badly, { how: "missing" }), /Attempted to schedule function jobs:nothing/);
  assert.match(await live.action(api.actions.badly, { how: "cancel" }), /_scheduled_functions/);
});

await check("a cron may run an action", async () => {
  const seen = watch(live, api.jobs.times, { what: "action heartbeat" });
  await until(() => seen.value?.length >= 2);
  seen.stop();
});

await live.close();
finish();
