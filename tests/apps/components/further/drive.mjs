// Further packages of the registry: each does its main thing, as far as it can without the service behind it.

import { createHmac } from "node:crypto";
import { ConvexClient } from "convex/browser";
import { anyApi } from "convex/server";
import { assert, check, finish, until, url, watch } from "./harness.mjs";

const site = process.argv[4];
const { notes, places, retrying, services, texts, thinking } = anyApi;
const live = new ConvexClient(url, { logger: false });
const noted = (what) => live.query(notes.read, { what });

await check("action-retrier: again until it succeeds, or until it was enough; who asked is told", async () => {
  const good = await live.mutation(retrying.begin, { failures: 2 });
  const seen = watch(live, retrying.status, { id: good });
  await until(() => seen.value?.type === "completed", "the run", 30_000);
  assert.deepEqual(seen.value.result, { type: "success", returnValue: "done at last" });
  await live.mutation(retrying.begin, { failures: 99 });
  const told = await until(async () => ((await noted("completed")).length === 2 ? noted("completed") : null), "both", 30_000);
  assert.deepEqual(told.map(({ type }) => type), ["success", "failed"]);
  assert.equal((await noted("flaky 2")).length, 3);
  assert.equal((await noted("flaky 99")).length, 4);
  seen.stop();
});

await check("persistent-text-streaming: one streams, others see it in the database", async () => {
  const id = await live.mutation(texts.create);
  const seen = watch(live, texts.body, { id });
  await until(() => seen.value?.status === "pending");
  const response = await fetch(`${site}/stream`, { method: "POST", body: JSON.stringify({ id }) });
  assert.equal(await response.text(), "Once upon a time. There was a stream. The end.");
  await until(() => seen.value.status === "done", "the end of the stream", 30_000);
  assert.equal(seen.value.text, "Once upon a time. There was a stream. The end.");
  seen.stop();
});

await check("prosemirror-sync: a document, its steps, and a writer who comes too late", async () => {
  const step = (text) => JSON.stringify({ stepType: "replace", from: 1, to: 1, slice: { content: [{ type: "text", text }] } });
  const doc = JSON.stringify({ type: "doc", content: [{ type: "paragraph" }] });
  await live.mutation(texts.submitSnapshot, { id: "d", version: 1, content: doc });
  assert.deepEqual(await live.query(texts.getSnapshot, { id: "d" }), { content: doc, version: 1 });
  const seen = watch(live, texts.latestVersion, { id: "d" });
  const first = await live.mutation(texts.submitSteps, { id: "d", version: 1, clientId: "a", steps: [step("a"), step("b")] });
  assert.deepEqual(first, { status: "synced" });
  const late = await live.mutation(texts.submitSteps, { id: "d", version: 1, clientId: "b", steps: [step("c")] });
  assert.equal(late.status, "needs-rebase");
  assert.equal(late.steps.length, 2);
  await until(() => seen.value === 3, "the version", 30_000);
  seen.stop();
});

await check("geospatial: in a rectangle, of a kind, the nearest, gone", async () => {
  for (const [name, latitude, longitude, kind] of [
    ["Louvre", 48.8606, 2.3376, "museum"],
    ["Orsay", 48.86, 2.3266, "museum"],
    ["Eiffel", 48.8584, 2.2945, "tower"],
    ["Tate", 51.5076, -0.0994, "museum"],
  ]) {
    await live.mutation(places.add, { name, at: { latitude, longitude }, kind });
  }
  const paris = { west: 2.2, south: 48.8, east: 2.45, north: 48.9 };
  assert.deepEqual(await live.query(places.inside, paris), ["Eiffel", "Louvre", "Orsay"]);
  assert.deepEqual(await live.query(places.inside, { ...paris, kind: "tower" }), ["Eiffel"]);
  const near = { at: { latitude: 48.8606, longitude: 2.3377 }, limit: 2 };
  assert.deepEqual(await live.query(places.nearest, near), ["Louvre", "Orsay"]);
  assert.equal(await live.mutation(places.remove, { name: "Louvre" }), true);
  assert.deepEqual(await live.query(places.nearest, near), ["Orsay", "Eiffel"]);
});

await check("agent: a thread, a tool that is called, the messages in pages; the same as a stream", async () => {
  const pageOf = async (threadId) =>
    (await live.query(thinking.messages, { threadId, paginationOpts: { numItems: 10, cursor: null } })).page;
  const { threadId, text } = await live.action(thinking.ask, { prompt: "Where is Emma?" });
  assert.equal(text, "Emma is on the third shelf.");
  assert.deepEqual((await pageOf(threadId)).map(({ role }) => role), ["assistant", "tool", "assistant", "user"]);
  const streamed = await live.action(thinking.tell, { prompt: "Tell me a story." });
  assert.equal(streamed.text, "Once upon a time.");
  assert.deepEqual((await pageOf(streamed.threadId)).map(({ text }) => text), ["Once upon a time.", "Tell me a story."]);
  assert.deepEqual(await noted("tool"), ["Emma"]);
});

await check("rag: found by vectors, by words and by both", async () => {
  const [a, i] = ["a banana and a cat", "this is his big fish"];
  await live.action(thinking.learn, { key: "a", text: a });
  await live.action(thinking.learn, { key: "i", text: i });
  assert.deepEqual(await live.action(thinking.recall, { words: "aaa", by: "vector" }), [a]);
  assert.deepEqual(await live.action(thinking.recall, { words: "iii", by: "vector" }), [i]);
  assert.deepEqual(await live.action(thinking.recall, { words: "fish", by: "text" }), [i]);
  assert.deepEqual(await live.action(thinking.recall, { words: "big fish", by: "hybrid" }), [i]);
});

await check("resend: queued, cancelled, sent, and what the webhook says about it", async () => {
  assert.deepEqual(await live.mutation(services.queueAndCancel), ["waiting", "cancelled"]);
  const id = await live.mutation(services.send, { to: "delivered@resend.dev", resendId: "mail-1" });
  const body = JSON.stringify({
    type: "email.delivered",
    created_at: new Date().toISOString(),
    data: { created_at: new Date().toISOString(), email_id: "mail-1", from: "a@example.org", to: ["delivered@resend.dev"], subject: "Hello" },
  });
  const time = String(Math.floor(Date.now() / 1000));
  const key = Buffer.from("c2VjcmV0IG9mIHRoZSB0ZXN0", "base64");
  const signature = createHmac("sha256", key).update(`msg_1.${time}.${body}`).digest("base64");
  const post = (signed) =>
    fetch(`${site}/resend`, {
      method: "POST",
      body,
      headers: { "svix-id": "msg_1", "svix-timestamp": time, "svix-signature": `v1,${signed}` },
    });
  assert.notEqual((await post(Buffer.from("wrong").toString("base64"))).status, 201);
  assert.equal((await post(signature)).status, 201);
  await until(async () => (await live.query(services.emailStatus, { id })) === "delivered", "the delivery", 30_000);
  await until(async () => (await noted("email")).includes("email.delivered"), "the callback", 30_000);
});

await check("r2, twilio, polar, expo-push-notifications: what they do before anybody is asked", async () => {
  const { key, url: signed } = await live.mutation(services.uploadUrl);
  assert.equal(key, "emma");
  assert.match(signed, /^https:\/\/(covers\.)?r2\.example\.test\/.*X-Amz-Signature=[0-9a-f]{64}/);
  assert.deepEqual((await live.query(services.listMetadata, { paginationOpts: { numItems: 5, cursor: null } })).page, []);
  assert.deepEqual(await live.query(services.texts), []);
  assert.equal((await fetch(`${site}/twilio/message-status`, { method: "POST", body: "MessageSid=SM0" })).status, 200);
  assert.deepEqual(await live.query(services.products), []);
  assert.notEqual((await fetch(`${site}/polar/events`, { method: "POST", body: "{}" })).status, 200);
  const { status, kept } = await live.mutation(services.notify, { userId: "ada" });
  assert.deepEqual(status, { hasToken: true, paused: false });
  assert.equal(kept.title, "Hello");
});

await live.close();
finish();
