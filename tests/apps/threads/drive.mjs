// A chat with threads, reactions, unread counts and typing: three people, one subscription each of every kind.

import { ConvexClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { assert, check, finish, rejection, sleep, until, url, watch } from "./harness.mjs";

const people = Object.fromEntries(["ann", "ben", "cleo"].map((name) => [name, new ConvexClient(url, { logger: false })]));
const { ann, ben, cleo } = people;
const channel = await ann.mutation(api.messages.openChannel, { name: "general" });
const latest = { channel, paginationOpts: { numItems: 5, cursor: null } };
const bodies = (seen) => seen.value?.page.map((message) => message.body);
let root;

await check("the same channel for all who open it at once", async () => {
  const ids = await Promise.all(Object.values(people).map((client) => client.mutation(api.messages.openChannel, { name: "general" })));
  assert.deepEqual(ids, [channel, channel, channel]);
  const fresh = await Promise.all(Object.values(people).map((client) => client.mutation(api.messages.openChannel, { name: "new" })));
  assert.equal(new Set(fresh).size, 1);
});

await check("messages reach everyone, newest first, in one order", async () => {
  const seen = Object.values(people).map((client) => watch(client, api.messages.channel, latest));
  for (let n = 0; n < 4; n++) await people[["ann", "ben", "cleo"][n % 3]].mutation(api.messages.send, { channel, author: "x", body: `m${n}` });
  for (const each of seen) {
    await until(() => bodies(each)?.length === 4);
    assert.deepEqual(bodies(each), ["m3", "m2", "m1", "m0"]);
    assert.deepEqual(each.value.page.map((message) => message.seq), [4n, 3n, 2n, 1n]);
    each.stop();
  }
});

await check("a subscribed page keeps its rows: it grows at its open end only", async () => {
  const page = watch(ann, api.messages.channel, { channel, paginationOpts: { numItems: 2, cursor: null } });
  await until(() => page.value);
  assert.deepEqual(bodies(page), ["m3", "m2"]);
  await ben.mutation(api.messages.send, { channel, author: "ben", body: "m4" });
  await until(() => bodies(page).length === 3);
  assert.deepEqual(bodies(page), ["m4", "m3", "m2"]);
  page.stop();
});

await check("threads and their counts; refusals with data", async () => {
  root = await ann.mutation(api.messages.send, { channel, author: "ann", body: "lunch?" });
  const thread = watch(cleo, api.messages.thread, { root });
  await Promise.all(["ann", "ben", "cleo"].map((author) => people[author].mutation(api.messages.send, { channel, author, body: `${author} agrees`, parent: root })));
  await until(() => thread.value?.replies.length === 3);
  assert.equal(thread.value.root.replies, 3);
  assert.deepEqual([...thread.value.replies].sort(), ["ann: ann agrees", "ben: ben agrees", "cleo: cleo agrees"]);
  const reply = (await ann.query(api.messages.thread, { root })).root;
  assert.equal(reply.seq, 6n);
  const tooLong = await rejection(ann.mutation(api.messages.send, { channel, author: "ann", body: "x".repeat(501) }));
  assert.deepEqual(tooLong.data, { kind: "TooLong", length: 501, max: 500 });
  const elsewhere = await ann.mutation(api.messages.openChannel, { name: "elsewhere" });
  assert.deepEqual((await rejection(ann.mutation(api.messages.send, { channel: elsewhere, author: "ann", body: "x", parent: root }))).data, { kind: "NoThread" });
  thread.stop();
});

await check("reactions toggle; attachments are bytes", async () => {
  const seen = watch(ben, api.messages.channel, latest);
  const reactions = () => seen.value?.page.find((message) => message._id === root)?.reactions;
  await ann.mutation(api.messages.react, { message: root, user: "ann", emoji: "thumbs up" });
  await ben.mutation(api.messages.react, { message: root, user: "ben", emoji: "thumbs up" });
  await until(() => reactions()?.["thumbs up"]?.length === 2);
  await ann.mutation(api.messages.react, { message: root, user: "ann", emoji: "thumbs up" });
  await ben.mutation(api.messages.react, { message: root, user: "ben", emoji: "thumbs up" });
  await until(() => Object.keys(reactions()).length === 0);
  seen.stop();
  const file = new Uint8Array(70_000).map((_, n) => n % 251).buffer;
  const withFile = await cleo.mutation(api.messages.send, { channel, author: "cleo", body: "file", attachment: file });
  assert.deepEqual((await ann.query(api.messages.thread, { root: withFile })).root.attachment, file);
});

await check("unread counts follow reads and writes", async () => {
  const other = await ann.mutation(api.messages.openChannel, { name: "news" });
  const unread = watch(ben, api.messages.unread, { channel: other, user: "ben" });
  await until(() => unread.value === 0);
  for (let n = 0; n < 3; n++) await ann.mutation(api.messages.send, { channel: other, author: "ann", body: `${n}` });
  await ben.mutation(api.messages.send, { channel: other, author: "ben", body: "mine" });
  await until(() => unread.value === 3);
  await ben.mutation(api.messages.markRead, { channel: other, user: "ben", seq: 2n });
  await until(() => unread.value === 1);
  await ben.mutation(api.messages.markRead, { channel: other, user: "ben", seq: 1n });
  await ann.mutation(api.messages.send, { channel: other, author: "ann", body: "one more" });
  await until(() => unread.value === 2);
  unread.stop();
});

await check("typing, and what does not concern a subscription does not wake it", async () => {
  const typing = watch(cleo, api.messages.typing, { channel });
  await until(() => typing.value);
  await ann.mutation(api.messages.setTyping, { channel, user: "ann", typing: true });
  await until(() => typing.value.length === 1);
  await ann.mutation(api.messages.setTyping, { channel, user: "ann", typing: false });
  await until(() => typing.value.length === 0);
  const deliveries = typing.values.length;
  for (let n = 0; n < 5; n++) await ann.mutation(api.messages.send, { channel, author: "ann", body: `unrelated ${n}` });
  await sleep(100);
  assert.equal(typing.values.length, deliveries);
  typing.stop();
});

await check("deleting a thread takes its replies along", async () => {
  const thread = watch(ben, api.messages.thread, { root });
  await until(() => thread.value);
  assert.equal(await ann.mutation(api.messages.remove, { message: root }), 4);
  await until(() => thread.value === null);
  assert.equal(await ann.mutation(api.messages.remove, { message: root }), 0);
});

await Promise.all(Object.values(people).map((client) => client.close()));
finish();
