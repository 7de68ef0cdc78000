// Two people, each with a live client, share a to-do list.

import { ConvexClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { assert, check, finish, rejection, until, url, watch } from "./harness.mjs";

const ada = new ConvexClient(url, { logger: false });
const bob = new ConvexClient(url, { logger: false });
const adaId = await ada.mutation(api.users.enter, { name: "Ada" });
const bobId = await bob.mutation(api.users.enter, { name: " Bob " });
let list;

await check("entering twice is one user, in order of names", async () => {
  assert.equal(await bob.mutation(api.users.enter, { name: "Ada" }), adaId);
  assert.deepEqual((await ada.query(api.users.all, {})).map((user) => user.name), ["Ada", "Bob"]);
  assert.match((await rejection(ada.mutation(api.users.enter, { name: "  " }))).message, /A name is needed/);
});

await check("a list is private until it is shared; the other sees it appear", async () => {
  const mine = watch(bob, api.lists.mine, { user: bobId });
  await until(() => mine.value, "Bob's lists");
  assert.deepEqual(mine.value, []);
  list = await ada.mutation(api.lists.create, { title: "Groceries", owner: adaId });
  const closed = watch(bob, api.lists.todos, { list, user: bobId });
  await until(() => closed.error, "the refusal");
  assert.match(closed.error.message, /No such list/);
  await ada.mutation(api.lists.share, { list, from: adaId, to: bobId });
  // The same subscription recovers: an error is watched like a value.
  await until(() => closed.value, "the shared list");
  await until(() => mine.value.length === 1);
  assert.deepEqual(mine.value, [{ id: list, title: "Groceries", shared: true, open: 0 }]);
  mine.stop();
  closed.stop();
});

await check("both follow each other's changes, filters included", async () => {
  const all = watch(bob, api.lists.todos, { list, user: bobId });
  const open = watch(ada, api.lists.todos, { list, user: adaId, only: "open" });
  const done = watch(ada, api.lists.todos, { list, user: adaId, only: "done" });
  const texts = (seen) => seen.value?.map((todo) => todo.text);
  const milk = await ada.mutation(api.lists.add, { list, user: adaId, text: "milk" });
  await bob.mutation(api.lists.add, { list, user: bobId, text: "bread", due: 5 });
  await until(() => texts(all)?.length === 2 && texts(open)?.length === 2);
  assert.deepEqual(all.value.map(({ text, by }) => [text, by]), [["bread", "Bob"], ["milk", "Ada"]]);
  await bob.mutation(api.lists.toggle, { todo: milk });
  await until(() => texts(done)?.length === 1 && texts(open)?.length === 1);
  assert.deepEqual([texts(open), texts(done)], [["bread"], ["milk"]]);
  assert.equal(await ada.mutation(api.lists.clearDone, { list }), 1);
  assert.equal(await ada.mutation(api.lists.clearDone, { list }), 0);
  await until(() => texts(all).length === 1 && texts(done).length === 0);
  assert.match((await rejection(ada.mutation(api.lists.toggle, { todo: milk }))).message, /That to-do is gone/);
  assert.deepEqual((await ada.query(api.lists.mine, { user: adaId }))[0].open, 1);
  for (const seen of [all, open, done]) {
    assert.deepEqual(seen.errors, []);
    seen.stop();
  }
});

await check("an optimistic update shows at once, a failing one is taken back", async () => {
  const all = watch(ada, api.lists.todos, { list, user: adaId });
  await until(() => all.value?.length === 1);
  const optimisticUpdate = (store, { text }) => {
    const now = store.getQuery(api.lists.todos, { list, user: adaId }) ?? [];
    store.setQuery(api.lists.todos, { list, user: adaId }, [{ id: "temporary", text, done: false, by: "me" }, ...now]);
  };
  const sent = ada.mutation(api.lists.add, { list, user: adaId, text: "eggs" }, { optimisticUpdate });
  await until(() => all.value[0].id === "temporary");
  await sent;
  await until(() => all.value[0].by === "Ada");
  assert.deepEqual(all.value.map((todo) => todo.text), ["eggs", "bread"]);
  const refused = ada.mutation(api.lists.add, { list, user: list, text: "wine" }, { optimisticUpdate });
  await until(() => all.values.some((value) => value[0].text === "wine"));
  assert.match((await rejection(refused)).message, /ArgumentValidationError/);
  await until(() => all.value[0].text === "eggs");
  assert.ok(!all.value.some((todo) => todo.id === "temporary"));
});

await ada.close();
await bob.close();
finish();
