// Ownership and presence through official clients, as two people and a stranger.

import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { ConvexError } from "convex/values";
import { adminKey, assert, check, finish, rejection, until, url, watch } from "./harness.mjs";

const as = (name) => {
  const client = new ConvexHttpClient(url, { logger: false });
  client.setAdminAuth(adminKey, { issuer: "https://people.example", subject: name, tokenIdentifier: `https://people.example|${name}` });
  return client;
};
const ada = as("ada");
const ben = as("ben");
const eve = as("eve");
const stranger = new ConvexHttpClient(url, { logger: false });
const refusal = async (promise) => {
  const error = await rejection(promise);
  assert.ok(error instanceof ConvexError, String(error));
  return error.data.code;
};

await check("only whom it belongs to changes a card", async () => {
  const id = await ada.mutation(api.cards.create, { title: "plan" });
  assert.equal(await refusal(stranger.mutation(api.cards.rename, { id, title: "x" })), "SIGN_IN");
  assert.equal(await refusal(ben.mutation(api.cards.rename, { id, title: "x" })), "NOT_YOURS");
  await ada.mutation(api.cards.share, { id, with: "https://people.example|ben" });
  await ben.mutation(api.cards.rename, { id, title: "our plan" });
  assert.equal(await refusal(ben.mutation(api.cards.share, { id, with: "https://people.example|eve" })), "OWNER_ONLY");
  assert.equal(await refusal(eve.mutation(api.cards.rename, { id, title: "x" })), "NOT_YOURS");
  assert.deepEqual((await ada.query(api.cards.mine)).map((card) => card.title), ["our plan"]);
  assert.deepEqual(await ben.query(api.cards.mine), []);
});

await check("people come, move and go, and everybody sees it", async () => {
  const one = new ConvexClient(url, { logger: false });
  const two = new ConvexClient(url, { logger: false });
  const room = watch(two, api.presence.list, { room: "lobby" });
  const beat = (user, x) => one.mutation(api.presence.beat, { room: "lobby", user, cursor: { x, y: 0 } });
  await beat("ada", 1);
  await beat("ben", 2);
  await until(() => room.value?.length === 2, "both are there");
  await beat("ada", 5);
  await until(() => room.value?.find((each) => each.user === "ada")?.cursor.x === 5, "the cursor moved");
  const silent = Date.now();
  const beating = setInterval(() => void beat("ben", 3), 500);
  await until(() => room.value?.length === 1, "who is silent has left");
  clearInterval(beating);
  assert.equal(room.value[0].user, "ben");
  assert.ok(Date.now() - silent > 2_000, "not before its time");
  await Promise.all([one.close(), two.close()]);
});

finish();
