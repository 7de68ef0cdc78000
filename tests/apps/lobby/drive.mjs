// A game lobby: everybody sits down at once, plays by turns, and clicks one hot row.

import { ConvexClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { assert, check, finish, rejection, until, url, watch } from "./harness.mjs";

const clients = Array.from({ length: 9 }, () => new ConvexClient(url, { logger: false }));
const rooms = watch(clients[0], api.lobby.rooms);
let seats;

await check("nine sit down at tables of two at once: four full, one waiting", async () => {
  seats = await Promise.all(clients.map((client, n) => client.mutation(api.lobby.sitDown, { name: `p${n}`, seats: 2 })));
  await until(() => rooms.value?.length === 5 && rooms.value.filter((room) => room.state === "playing").length === 4);
  assert.deepEqual(rooms.value.map((room) => room.taken).sort(), [1, 2, 2, 2, 2]);
  for (const snapshot of rooms.values) {
    for (const room of snapshot) assert.ok(room.taken <= room.seats && (room.state === "playing") === (room.taken === room.seats), JSON.stringify(room));
  }
  const bySeat = Map.groupBy ? Map.groupBy(seats, (seat) => seat.room) : seats.reduce((map, seat) => map.set(seat.room, [...(map.get(seat.room) ?? []), seat]), new Map());
  assert.deepEqual([...bySeat.values()].map((group) => group.length).sort(), [1, 2, 2, 2, 2]);
  const again = await rejection(clients[3].mutation(api.lobby.sitDown, { name: "p3", seats: 2 }));
  assert.equal(again.data.code, "SEATED");
});

await check("a game by turns; both see every move", async () => {
  const full = seats.find((seat) => seats.filter((other) => other.room === seat.room).length === 2).room;
  const pair = seats.map((seat, n) => ({ ...seat, client: clients[n], name: `p${n}` })).filter((seat) => seat.room === full);
  const views = pair.map(({ client }) => watch(client, api.lobby.game, { room: full }));
  await until(() => views.every((view) => view.value));
  const first = pair.find(({ player }) => player === views[0].value.next);
  const second = pair.find((seat) => seat !== first);
  const play = (who, cell) => who.client.mutation(api.lobby.play, { room: full, player: who.player, cell });
  assert.equal((await rejection(play(second, 0))).data.code, "NOT_YOUR_TURN");
  await play(first, 0);
  assert.deepEqual((await rejection(play(second, 0))).data, { code: "TAKEN", cell: 0 });
  await play(second, 3);
  await play(first, 1);
  await play(second, 4);
  assert.equal(await play(first, 2), true);
  await until(() => views.every((view) => view.value.winner !== null));
  for (const view of views) {
    assert.deepEqual(view.value, { board: "XXXOO....", next: null, winner: first.name });
    const boards = view.values.map((value) => value.board);
    assert.ok(boards.every((board, n) => n === 0 || [...board].filter((c) => c !== ".").length >= [...boards[n - 1]].filter((c) => c !== ".").length));
    view.stop();
  }
  assert.equal((await rejection(play(second, 8))).data.code, "NOT_PLAYING");
  assert.deepEqual(await clients[5].query(api.lobby.leaders, {}), [{ name: first.name, wins: 1 }]);
});

await check("a hot row: 180 clicks from nine clients at once, none lost, all seen in order", async () => {
  const seen = watch(clients[8], api.lobby.clicks);
  const results = await Promise.all(clients.flatMap((client) => Array.from({ length: 20 }, () => client.mutation(api.lobby.click, {}))));
  assert.deepEqual([...results].sort((a, b) => a - b), Array.from({ length: 180 }, (_, n) => n + 1));
  for (let n = 0; n < 9; n++) {
    const own = results.slice(n * 20, n * 20 + 20);
    assert.deepEqual(own, [...own].sort((a, b) => a - b), "one client's mutations run in the order it sent them");
  }
  await until(() => seen.value === 180);
  assert.deepEqual(seen.values, [...seen.values].sort((a, b) => a - b));
});

await Promise.all(clients.map((client) => client.close()));
finish();
