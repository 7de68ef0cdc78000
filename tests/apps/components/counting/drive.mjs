// The rate limiter limits, the counter counts under contention, the aggregate knows without looking at every row.

import { ConvexClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { assert, check, finish, rejection, sleep, until, url, watch } from "./harness.mjs";

const live = new ConvexClient(url, { logger: false });
const clients = [live, ...Array.from({ length: 3 }, () => new ConvexClient(url, { logger: false }))];
const { messages, scores, visits } = api;

await check("rate-limiter: a bucket of three lets three through, and each author has one", async () => {
  const send = (author) => live.mutation(messages.send, { author, body: "hi" });
  for (let i = 0; i < 3; i++) await send("ada");
  assert.equal(await live.query(messages.wouldPass, { author: "ada" }), false);
  const error = await rejection(send("ada"));
  assert.equal(error.data.kind, "RateLimited");
  assert.equal(error.data.name, "sendMessage");
  assert.ok(error.data.retryAfter > 0 && error.data.retryAfter <= 6000, String(error.data.retryAfter));
  await send("bob");
  assert.equal(await live.query(messages.count), 4);
  await live.mutation(messages.forgive, { author: "ada" });
  await send("ada");
  assert.equal(await live.query(messages.count), 5);
});

await check("rate-limiter: a fixed window, and a bucket that fills again", async () => {
  const limit = (name, count) => live.mutation(messages.limit, { name, count });
  assert.equal((await limit("signUp")).ok, true);
  assert.equal((await limit("signUp")).ok, true);
  const third = await limit("signUp");
  assert.equal(third.ok, false);
  assert.ok(third.retryAfter > 0);
  assert.equal((await limit("quick")).ok, true);
  const refused = await limit("quick");
  assert.equal(refused.ok, false);
  await sleep(refused.retryAfter + 50);
  assert.equal((await limit("quick")).ok, true);
});

await check("rate-limiter: asked by many at once, it never lets too many through", async () => {
  const answers = await Promise.all(
    Array.from({ length: 60 }, (_, i) => clients[i % clients.length].mutation(messages.limit, { name: "sharded" })),
  );
  const passed = answers.filter(({ ok }) => ok).length;
  assert.ok(passed > 20 && passed <= 40, `${passed} passed`);
});

await check("sharded-counter: four clients at once, nothing lost, nothing counted that failed", async () => {
  const seen = watch(live, visits.count, { page: "/" });
  const calls = clients.flatMap((client) => Array.from({ length: 25 }, () => client.mutation(visits.visit, { page: "/" })));
  await rejection(live.mutation(visits.visit, { page: "/", fails: true }));
  await Promise.all(calls);
  await until(() => seen.value === 100);
  assert.equal(await live.query(visits.count, { page: "/other" }), 0);
  await live.mutation(visits.reset, { page: "/" });
  await until(() => seen.value === 0);
  seen.stop();
});

await check("aggregate: counts, sums, percentiles and ranks; two instances with their own order", async () => {
  const seen = watch(live, scores.summary);
  const ids = [];
  for (let i = 1; i <= 30; i++) {
    ids.push(await live.mutation(scores.add, { game: i % 2 ? "go" : "chess", player: `p${i % 3}`, score: i * 10 }));
  }
  await until(() => seen.value?.count === 30);
  assert.deepEqual(seen.value, { count: 30, sum: 4650, best: 300 });
  assert.equal(await live.query(scores.percentile, { p: 0.5 }), 160);
  assert.equal(await live.query(scores.rank, { score: 100 }), 9);
  assert.equal(await live.query(scores.ofGame, { game: "go" }), 15);
  assert.equal(await live.query(scores.ofGame, { game: "go", player: "p0" }), 5);
  await live.mutation(scores.remove, { id: ids[29] });
  await until(() => seen.value.best === 290);
  assert.deepEqual(seen.value, { count: 29, sum: 4350, best: 290 });
  seen.stop();
});

finish();
