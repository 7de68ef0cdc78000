// The function log as command lines read it: every field of an entry, and who gets which entries.

import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { adminKey, assert, check, finish, rejection, url } from "./harness.mjs";

const http = new ConvexHttpClient(url, { logger: false });
const admin = { Authorization: `Convex ${adminKey}` };
const CLI = { ...admin, "Convex-Client": "npm-cli-1.48.0" };

let cursor = 0;
async function entries(headers = CLI, parameters = {}, path = "/api/stream_function_logs") {
  const query = new URLSearchParams({ cursor: String(cursor), ...parameters });
  const answer = await fetch(`${url}${path}?${query}`, { headers });
  assert.equal(answer.status, 200);
  return await answer.json();
}

/** Entries of what `body` did. */
async function during(body, headers) {
  await body();
  const page = await entries(headers);
  cursor = page.newCursor;
  return page.entries;
}

const texts = (entry) => entry.logLines.map((line) => `${line.level} ${line.messages.join(" ")}`);

await during(() => http.query(api.orders.list));

await check("a mutation: its lines in their order, with those of what it ran", async () => {
  const begin = Date.now();
  const [entry, ...more] = await during(() => http.mutation(api.orders.place, { item: "pen", count: 500 }));
  assert.equal(more.length, 0);
  assert.deepEqual(
    texts(entry).map((text) => text.replace(/'[a-z0-9]{32}'/, "<id>")),
    [
      "LOG 'placing' {\n  item: 'pen',\n  count: 500\n}",
      "WARN 'an unusually large order'",
      "DEBUG 'reserving' 500 'of' 'pen'",
      "INFO 'placed' <id>",
    ],
  );
  assert.deepEqual(entry.logLines.map((line) => line.udfPath), [undefined, undefined, "orders:reserve", undefined]);
  for (const line of entry.logLines) {
    assert.equal(line.isTruncated, false);
    assert.ok(line.timestamp >= begin - 1 && line.timestamp <= Date.now() + 1);
  }
  const { logLines, timestamp, executionTimestamp, executionTime, userExecutionTime, requestId, executionId, usageStats, returnBytes, ...rest } = entry;
  assert.deepEqual(rest, {
    kind: "Completion",
    udfType: "Mutation",
    componentPath: null,
    identifier: "orders:place",
    cachedResult: false,
    caller: "HttpApi",
    parentExecutionId: null,
    success: null,
    error: null,
    occInfo: null,
    willRetry: false,
    identityType: "unknown",
    environment: "isolate",
  });
  assert.ok(Math.abs(timestamp * 1000 - Date.now()) < 5000 && executionTimestamp <= timestamp);
  assert.ok(executionTime > 0 && executionTime < 5 && userExecutionTime > 0 && userExecutionTime <= executionTime);
  assert.match(requestId, /^[0-9a-f]{16}$/);
  assert.match(executionId, /^[0-9a-f]+$/);
  assert.ok(returnBytes >= 34);
  assert.equal(usageStats.databaseWriteDocuments, 2);
  assert.ok(usageStats.databaseWriteBytes > 50);
  assert.deepEqual(Object.keys(usageStats).sort(), [
    "databaseIoReadBytes",
    "databaseIoWriteBytes",
    "databaseReadBytes",
    "databaseReadDocuments",
    "databaseWriteBytes",
    "databaseWriteDocuments",
    "memoryUsedMb",
    "networkEgressBytes",
    "storageReadBytes",
    "storageWriteBytes",
    "textIndexQueryBytes",
    "textIndexWriteQueryBytes",
    "vectorIndexReadBytes",
    "vectorIndexReadQueryBytes",
    "vectorIndexWriteBytes",
    "vectorIndexWriteQueryBytes",
  ]);
});

await check("a query: what it read, and whether it came from the cache", async () => {
  const [first, second] = await during(async () => {
    await http.query(api.orders.list);
    await http.query(api.orders.list);
  });
  assert.equal(first.udfType, "Query");
  assert.equal(first.cachedResult, false);
  assert.equal(first.usageStats.databaseReadDocuments, 1);
  assert.ok(first.usageStats.databaseReadBytes > 30);
  assert.equal(second.cachedResult, true);
  assert.equal(second.usageStats.databaseReadDocuments, 0);
});

await check("an error: its whole text with frames that name the source", async () => {
  const [entry] = await during(() => rejection(http.mutation(api.orders.fail, { why: "out of pens" })));
  assert.match(entry.error, /^Uncaught Error: out of pens\n    at /);
  assert.match(entry.error, /convex\/orders\.ts:\d+/);
  assert.deepEqual(texts(entry), ["ERROR 'about to fail'"]);
  assert.equal(entry.returnBytes, null);
});

await check("a refused call is in the log as well", async () => {
  const [entry] = await during(() => rejection(http.mutation(api.orders.fail, { why: 5 })));
  assert.match(entry.error, /ArgumentValidationError/);
  const [missing] = await during(() => rejection(http.mutation(api.orders.absent)));
  assert.match(missing.error, /Could not find public function for 'orders:absent'/);
});

await check("long lines are cut, and so are many", async () => {
  const [long] = await during(() => http.mutation(api.orders.chatter, { lines: 1, size: 40_000 }));
  assert.equal(long.logLines[0].isTruncated, true);
  assert.equal(Buffer.byteLength(long.logLines[0].messages.join("")), 32_768);
  const [many] = await during(() => http.mutation(api.orders.chatter, { lines: 300, size: 1 }));
  assert.equal(many.logLines.length, 256);
  assert.equal(many.logLines[255].level, "ERROR");
  assert.match(many.logLines[255].messages[0], /maximum 256/);
});

await check("clients that are no command line get texts, with a mark where a line was cut", async () => {
  const [entry] = await during(() => http.mutation(api.orders.chatter, { lines: 1, size: 40_000 }), admin);
  assert.match(entry.logLines[0], /^\[LOG\] 'x+ \(truncated due to length\)$/);
});

await check("an admin, and an admin who acts as somebody, are told apart from nobody", async () => {
  const acting = Buffer.from(JSON.stringify({ issuer: "https://i", subject: "ada" })).toString("base64");
  const call = (authorization) =>
    fetch(`${url}/api/query`, {
      method: "POST",
      headers: { Authorization: authorization, "Content-Type": "application/json" },
      body: JSON.stringify({ path: "orders:list", args: {}, format: "json" }),
    });
  const [one, two] = await during(async () => {
    await call(admin.Authorization);
    await call(`${admin.Authorization}:${acting}`);
  });
  assert.deepEqual([one.identityType, two.identityType], ["instance_admin", "member_acting_user"]);
});

await check("mutations that conflict say with what, and that they run again", async () => {
  const clients = Array.from({ length: 6 }, () => new ConvexClient(url, { logger: false }));
  await during(() => clients[0].mutation(api.orders.count, {})); // The table exists from here on.
  const seen = await during(async () => {
    for (let round = 0; round < 5; round++) {
      await Promise.all(clients.map((client) => client.mutation(api.orders.count, {})));
    }
  });
  for (const client of clients) await client.close();
  const done = seen.filter((entry) => entry.identifier === "orders:count" && entry.error === null);
  assert.equal(done.length, 30);
  assert.ok(done.every((entry) => entry.caller === "SyncWorker" && !entry.willRetry && entry.occInfo === null));
  for (const entry of seen.filter((entry) => entry.willRetry)) {
    assert.equal(entry.occInfo.tableName, "counter");
    assert.ok(["orders:count", null].includes(entry.occInfo.writeSource), entry.occInfo.writeSource);
    assert.ok(entry.occInfo.retryCount >= 1);
    assert.ok(done.some((other) => other.requestId === entry.requestId));
  }
});

await check("one request of one session alone", async () => {
  const client = new ConvexClient(url, { logger: false });
  const { sessionId } = client.client; // As the dashboard finds it, inside the client.
  await client.mutation(api.orders.chatter, { lines: 1, size: 1 });
  await client.mutation(api.orders.chatter, { lines: 2, size: 1 });
  const second = await entries(CLI, { sessionId, clientRequestCounter: "1" });
  assert.deepEqual(second.entries.map((entry) => entry.logLines.length), [2]);
  await client.close();
  const bad = await fetch(`${url}/api/stream_function_logs?cursor=0&sessionId=x&clientRequestCounter=y`, { headers: CLI });
  assert.equal(bad.status, 400);
  cursor = (await entries()).newCursor;
});

const ends = (page) => page.filter((entry) => entry.kind === "Completion");
const progress = (page) => page.filter((entry) => entry.kind === "Progress");

/** Everything until this function has ended. */
async function until_(identifier, body) {
  const running = body();
  const found = [];
  while (!found.some((entry) => entry.kind === "Completion" && entry.identifier === identifier)) {
    const page = await entries();
    cursor = page.newCursor;
    found.push(...page.entries.map((entry) => ({ ...entry, seen: Date.now() })));
  }
  await running;
  return found;
}

await check("an action's lines are there while it runs, and once", async () => {
  const found = await until_("reports:slow", () => http.action(api.reports.slow, { steps: 3 }));
  const lines = progress(found);
  assert.deepEqual(lines.flatMap(texts), ["LOG 'step' 1", "LOG 'step' 2", "LOG 'step' 3", "WARN 'done'"]);
  assert.ok(lines[1].seen - lines[0].seen > 60 && found.at(-1).seen - lines[0].seen > 300, "they came one by one");
  const [end] = ends(found);
  assert.deepEqual([end.udfType, end.identifier, end.logLines, end.cachedResult], ["Action", "reports:slow", [], false]);
  assert.ok(end.executionTime >= 0.45 && end.environment === "isolate");
  assert.ok(end.usageStats.memoryUsedMb > 0);
  for (const line of lines) {
    const { kind, udfType, componentPath, identifier, timestamp, logLines, requestId, executionId, seen, ...more } = line;
    assert.deepEqual([kind, udfType, componentPath, identifier, more], ["Progress", "Action", null, "reports:slow", {}]);
    assert.deepEqual([requestId, executionId], [end.requestId, end.executionId]);
    assert.ok(timestamp * 1000 <= seen + 1 && logLines.length === 1);
  }
});

await check("what an action runs says who ran it, and has its request id", async () => {
  const found = ends(await until_("reports:nested", () => http.action(api.reports.nested)));
  const [reserved, again, inner, outer] = found;
  assert.deepEqual(found.map((entry) => entry.identifier), ["orders:reserve", "orders:reserve", "reports:inner", "reports:nested"]);
  assert.deepEqual(found.map((entry) => entry.caller), ["Action", "Action", "Action", "HttpApi"]);
  assert.equal(new Set(found.map((entry) => entry.requestId)).size, 1);
  assert.equal(new Set(found.map((entry) => entry.executionId)).size, 4);
  assert.equal(outer.parentExecutionId, null);
  assert.equal(reserved.parentExecutionId, outer.executionId);
  assert.equal(inner.parentExecutionId, outer.executionId);
  assert.equal(again.parentExecutionId, inner.executionId);
  assert.deepEqual(texts(reserved), ["DEBUG 'reserving' 1 'of' 'nib'"]);
});

await check("operations that nobody awaited are named", async () => {
  const found = await until_("reports:forgetful", () => http.action(api.reports.forgetful));
  const [line] = progress(found).flatMap((entry) => entry.logLines);
  assert.equal(line.level, "WARN");
  assert.deepEqual(line.systemMetadata, { code: "UnawaitedOperations" });
  assert.match(line.messages[0], /1 unawaited operation: \[runMutation\]/);
});

await check("an action that fails, and one that says too much", async () => {
  const failed = await until_("reports:failing", () => rejection(http.action(api.reports.failing)));
  assert.match(ends(failed)[0].error, /^Uncaught Error: the report failed\n    at .*reports\.ts:\d+/);
  assert.deepEqual(progress(failed).flatMap(texts), ["LOG 'before it fails'"]);
  const many = progress(await until_("reports:chatter", () => http.action(api.reports.chatter, { lines: 300 })));
  const lines = many.flatMap((entry) => entry.logLines);
  assert.equal(lines.length, 256);
  assert.match(lines[255].messages[0], /maximum 256/);
  assert.ok(many.length < 64, `lines that come together are told together: ${many.length} entries`);
});

await check("of one action of a session: its lines, what it ran, its end", async () => {
  const client = new ConvexClient(url, { logger: false });
  await client.mutation(api.orders.chatter, { lines: 1, size: 1 });
  await client.action(api.reports.nested, {});
  await http.query(api.orders.list);
  const page = await entries(CLI, { sessionId: client.client.sessionId, clientRequestCounter: "1" });
  assert.deepEqual(
    page.entries.map((entry) => `${entry.kind} ${entry.identifier}`),
    [
      "Progress reports:nested",
      "Completion orders:reserve",
      "Progress reports:inner",
      "Completion orders:reserve",
      "Completion reports:inner",
      "Progress reports:nested",
      "Completion reports:nested",
    ],
  );
  await client.close();
  cursor = (await entries()).newCursor;
});

await check("the older endpoint gives finished calls, with texts", async () => {
  const before = cursor;
  await http.mutation(api.orders.place, { item: "ink", count: 1 });
  const page = await entries(CLI, {}, "/api/stream_udf_execution");
  cursor = page.newCursor;
  assert.ok(cursor > before);
  assert.equal(page.entries[0].kind, "Completion");
  assert.equal(page.entries[0].logLines[1], "[DEBUG] 'reserving' 1 'of' 'ink'");
  await http.action(api.reports.slow, { steps: 1 });
  const action = await entries(CLI, {}, "/api/stream_udf_execution");
  cursor = action.newCursor;
  assert.deepEqual(action.entries.map((entry) => [entry.kind, entry.logLines]), [["Completion", ["[LOG] 'step' 1", "[WARN] 'done'"]]]);
});

await check("it waits for something to tell, and then tells at once", async () => {
  const waiting = entries();
  const quick = await Promise.race([waiting.then(() => "answered"), new Promise((resolve) => setTimeout(resolve, 300, "waits"))]);
  assert.equal(quick, "waits");
  const begin = Date.now();
  await http.query(api.orders.list);
  cursor = (await waiting).newCursor;
  assert.ok(Date.now() - begin < 15_000);
});

finish();
