// Many writers move money between a few accounts while watchers look at several queries: whatever a client shows at
// one moment is of one moment, and of ever later ones.

import { BaseConvexClient, ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { assert, check, finish, until, url } from "./harness.mjs";
import { WebSocket } from "ws";

const ACCOUNTS = 6;
const EACH = 100n;
const TOTAL = EACH * BigInt(ACCOUNTS);
const http = new ConvexHttpClient(url, { logger: false });
await http.mutation(api.bank.open, { count: ACCOUNTS, balance: EACH });

/** Every query result of every transition of a client, checked against each other as it comes in. */
class Watcher {
  constructor(late) {
    this.transitions = 0;
    this.faults = [];
    this.client = new BaseConvexClient(url, () => this.look(), { webSocketConstructor: WebSocket, unsavedChangesWarning: false, logger: false });
    const ask = (path, args) => this.client.subscribe(path, args).queryToken;
    this.total = ask("bank:total", {});
    this.accounts = Array.from({ length: ACCOUNTS }, (_, number) => ask("bank:account", { number }));
    this.ranking = late ? undefined : ask("bank:ranking", {});
    this.moved = late ? undefined : ask("bank:moved", {});
  }
  askForMore() {
    this.ranking = this.client.subscribe("bank:ranking", {}).queryToken;
    this.moved = this.client.subscribe("bank:moved", {}).queryToken;
  }
  look() {
    const value = (token) => (token === undefined ? undefined : this.client.localQueryResultByToken(token));
    const [total, ranking, moved, ...accounts] = [this.total, this.ranking, this.moved, ...this.accounts].map(value);
    if (total === undefined || accounts.includes(undefined)) return;
    this.transitions += 1;
    const sum = accounts.reduce((a, b) => a + b, 0n);
    if (total !== TOTAL || sum !== TOTAL) this.faults.push(`total ${total}, accounts ${accounts}`);
    if (ranking !== undefined) {
      for (const { number, balance } of ranking) if (accounts[number] !== balance) this.faults.push(`account ${number}: ${accounts[number]}, in the ranking ${balance}`);
    }
    if (moved !== undefined && this.merges === undefined) {
      accounts.forEach((balance, number) => {
        if (balance !== EACH + (moved[number] ?? 0n)) this.faults.push(`account ${number}: ${balance}, moved ${moved[number]}`);
      });
    }
  }
  async close() {
    await this.client.close();
  }
}

let seed = 7;
const chance = (n) => ((seed = (seed * 1103515245 + 12345) % 2147483648) >> 8) % n;

async function storm(writers, each) {
  const clients = Array.from({ length: writers }, () => new ConvexClient(url, { logger: false }));
  const outcomes = await Promise.allSettled(
    clients.flatMap((client) => Array.from({ length: each }, () => client.mutation(api.bank.transfer, { from: chance(ACCOUNTS), to: chance(ACCOUNTS), amount: BigInt(1 + chance(60)) }))),
  );
  await Promise.all(clients.map((client) => client.close()));
  for (const { reason } of outcomes.filter(({ status }) => status === "rejected")) assert.equal(reason.data?.code, "TOO_LITTLE", String(reason));
  return outcomes.filter(({ status }) => status === "fulfilled").length;
}

const watchers = [new Watcher(false), new Watcher(false), new Watcher(true)];
await until(() => watchers.every((watcher) => watcher.transitions > 0));

await check("whatever a client shows is of one moment", async () => {
  const running = storm(5, 60);
  await new Promise((resolve) => setTimeout(resolve, 150));
  watchers[2].askForMore();
  const done = await running;
  assert.ok(done > 100, `${done} transfers`);
  const ranking = await http.query(api.bank.ranking);
  await until(() => watchers.every((watcher) => watcher.ranking && JSON.stringify(watcher.client.localQueryResultByToken(watcher.ranking), big) === JSON.stringify(ranking, big)), "all watchers arrive at the end");
  for (const watcher of watchers) {
    assert.deepEqual(watcher.faults, []);
    assert.ok(watcher.transitions > 3, `${watcher.transitions} transitions`);
  }
  const moved = await http.query(api.bank.moved);
  for (const { number, balance } of ranking) assert.equal(balance, EACH + (moved[number] ?? 0n));
});

function big(_key, value) {
  return typeof value === "bigint" ? `${value}n` : value;
}

await check("mutations that read the ends of an index, against those that move them", async () => {
  for (const watcher of watchers) watcher.merges = true;
  const merges = Promise.all(Array.from({ length: 40 }, () => new ConvexHttpClient(url, { logger: false }).mutation(api.bank.merge)));
  await storm(3, 30);
  await merges;
  assert.equal(await http.query(api.bank.total), TOTAL);
  for (const watcher of watchers) assert.deepEqual(watcher.faults, []);
});

await Promise.all(watchers.map((watcher) => watcher.close()));
finish();
