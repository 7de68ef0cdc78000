// An issue tracker: a board that several people move cards on, numbers without gaps, a long list in pages.

import { ConvexClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { ConvexError } from "convex/values";
import { assert, check, finish, rejection, until, url, watch } from "./harness.mjs";

const client = new ConvexClient(url, { logger: false });
const viewer = new ConvexClient(url, { logger: false });
const project = await client.mutation(api.issues.createProject, { key: "ENG", name: "Engine", members: ["Mia", "Noah"] });
const board = watch(viewer, api.issues.board, { project });

await check("errors with data for people", async () => {
  for (const [key, code] of [["ENG", "KEY_TAKEN"], ["e", "BAD_KEY"]]) {
    const error = await rejection(client.mutation(api.issues.createProject, { key, name: "x", members: [] }));
    assert.ok(error instanceof ConvexError);
    assert.deepEqual(error.data, { code, key });
  }
});

await check("issues created by many at once are numbered without gaps", async () => {
  const clients = Array.from({ length: 5 }, () => new ConvexClient(url, { logger: false }));
  const names = await Promise.all(
    Array.from({ length: 30 }, (_, n) => clients[n % 5].mutation(api.issues.create, { project, title: `Issue ${n}`, priority: n % 4, labels: n % 2 ? ["odd"] : ["even", "x"] })),
  );
  assert.deepEqual(names.map((name) => Number(name.split("-")[1])).sort((a, b) => a - b), Array.from({ length: 30 }, (_, n) => n + 1));
  await until(() => board.value?.backlog.length === 30, "all thirty on the viewer's board");
  await Promise.all(clients.map((each) => each.close()));
});

await check("cards move along allowed paths only, to where they are dropped", async () => {
  const error = await rejection(client.mutation(api.issues.move, { name: "ENG-1", to: "done" }));
  assert.deepEqual(error.data, { code: "BAD_MOVE", from: "backlog", to: "done", allowed: ["todo"] });
  assert.deepEqual((await rejection(client.mutation(api.issues.move, { name: "ENG-99", to: "todo" }))).data, { code: "NO_SUCH_ISSUE", name: "ENG-99" });
  for (const name of ["ENG-1", "ENG-2", "ENG-3"]) await client.mutation(api.issues.move, { name, to: "todo" });
  await until(() => board.value.todo.length === 3);
  const order = [...board.value.todo];
  await client.mutation(api.issues.move, { name: "ENG-3", to: "doing" });
  await until(() => board.value.doing.length === 1 && board.value.todo.length === 2);
  assert.deepEqual(board.value.doing, [order[0]]);
  assert.deepEqual(board.value.todo, order.slice(1));
  await client.mutation(api.issues.move, { name: "ENG-3", to: "done" });
  await until(() => board.value.done.length === 1);
  const moved = board.values.length;
  await client.mutation(api.issues.assign, { name: "ENG-5", to: "Mia" });
  await new Promise((resolve) => setTimeout(resolve, 200));
  // An assignment re-runs the board, whose result stays the same: nothing is sent.
  assert.equal(board.values.length, moved);
});

await check("assignments, also to nobody", async () => {
  const [mia] = await client.query(api.issues.members, { project });
  const hers = watch(viewer, api.issues.assignedTo, { project, member: mia._id });
  const free = watch(viewer, api.issues.unassigned, { project });
  await until(() => hers.value?.length === 1 && free.value?.length === 29);
  assert.deepEqual(hers.value, [5]);
  await client.mutation(api.issues.assign, { name: "ENG-7", to: "Mia" });
  await client.mutation(api.issues.assign, { name: "ENG-5", to: null });
  await until(() => hers.value.length === 1 && hers.value[0] === 7 && free.value.length === 29);
  assert.deepEqual((await rejection(client.mutation(api.issues.assign, { name: "ENG-5", to: "Zoe" }))).data, { code: "NO_SUCH_MEMBER", to: "Zoe" });
  hers.stop();
  free.stop();
});

await check("comments: the refused ones are rolled back alone", async () => {
  assert.deepEqual(await client.mutation(api.issues.comment, { name: "ENG-3", author: "Mia", bodies: ["first", "buy spam", "second"] }), { added: 2, refused: 1 });
  assert.deepEqual(await client.query(api.issues.history, { name: "ENG-3" }), [
    "created", "moved from backlog to todo", "moved from todo to doing", "moved from doing to done", "commented: first", "commented: second",
  ]);
  assert.deepEqual((await client.query(api.issues.history, { name: "ENG-5" })).slice(1), ["assigned to Mia", "assigned to nobody"]);
});

await check("the list in pages, by priority", async () => {
  const seen = [];
  let cursor = null;
  for (let pages = 1; ; pages++) {
    const page = await client.query(api.issues.list, { project, minPriority: 1, paginationOpts: { numItems: 5, cursor } });
    seen.push(...page.page);
    cursor = page.continueCursor;
    if (page.isDone) {
      assert.equal(pages, 5);
      break;
    }
  }
  assert.equal(seen.length, 22);
  assert.equal(new Set(seen.map((issue) => issue.number)).size, 22);
  assert.deepEqual(seen.map((issue) => issue.priority), [...seen.map((issue) => issue.priority)].sort((a, b) => b - a));
  assert.equal(seen.filter((issue) => issue.comments === 2).length + Number(!seen.some((issue) => issue.number === 3)), 1);
});

await client.close();
await viewer.close();
finish();
