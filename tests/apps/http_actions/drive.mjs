// HTTP actions as clients meet them: through fetch, as browsers and other servers use it.

import { createServer } from "node:http";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { adminKey, assert, check, finish, rejection, sleep, until, url } from "./harness.mjs";

const site = process.argv[4];
const CLI = { Authorization: `Convex ${adminKey}`, "Convex-Client": "npm-cli-1.48.0" };
const get = (path, init) => fetch(site + path, init);
const answers = (kind, init) => get(`/answers?kind=${kind}`, { redirect: "manual", ...init });

let cursor = 0;
/** From here on. (Asking would wait for something to tell.) */
const fromNow = () => (cursor = Date.now());

async function logged() {
  const page = await (await fetch(`${url}/api/stream_function_logs?cursor=${cursor}`, { headers: CLI })).json();
  cursor = page.newCursor;
  return page.entries;
}

await check("functions are called, status and headers are the action's own", async () => {
  const made = await get("/notes", { method: "POST", body: JSON.stringify({ text: "first" }) });
  assert.equal(made.status, 201);
  assert.equal(made.headers.get("content-type"), "application/json");
  assert.match((await made.json()).id, /^[0-9a-z]{32}$/);
  assert.equal((await get("/notes", { method: "POST", body: "{}" })).status, 400);
  const listed = await get("/notes");
  assert.deepEqual(await listed.json(), ["first"]);
  for (const name of ["access-control-allow-origin", "access-control-allow-credentials", "server"]) assert.equal(listed.headers.get(name), null, name);
});

await check("a path, the longest prefix, nothing else", async () => {
  const text = async (path, init) => {
    const answer = await get(path, init);
    return `${answer.status} ${await answer.text()}`;
  };
  assert.equal(await text("/files/a/b%20c?x=1"), "200 files: /files/a/b%20c");
  assert.equal(await text("/files/"), "200 files: /files/");
  assert.equal(await text("/files/public/x"), "200 public: /files/public/x");
  assert.equal(await text("/files/exact"), "200 exact");
  assert.equal(await text("/files/exact/"), "200 files: /files/exact/");
  assert.equal(await text("/any-case/HELLO"), "200 hello");
  for (const path of ["/", "/files", "/notes/", "/Notes", "/nowhere", "//notes"]) assert.equal(await text(path), "404 No matching routes found", path);
  assert.equal(await text("/notes", { method: "DELETE" }), "404 No matching routes found");
  for (const method of ["PUT", "DELETE", "PATCH"]) assert.equal(await text("/methods", { method, body: "x" }), `200 ${method} x`);
  const other = await get("/notes", { method: "PROPFIND" });
  assert.equal(other.status, 405);
  assert.match(other.headers.get("allow"), /GET, POST/);
});

await check("the same under /http/ of the deployment's own address", async () => {
  const exact = await fetch(`${url}/http/files/a?x=1`);
  assert.equal(await exact.text(), "files: /files/a");
  const seen = await (await fetch(`${url}/http/seen?x=%2F`, { method: "POST", body: "b" })).json();
  assert.equal(seen.url, `${url}/seen?x=%2F`);
  const preflight = await fetch(`${url}/http/notes`, { method: "OPTIONS", headers: { Origin: "https://a.example", "Access-Control-Request-Method": "POST" } });
  assert.equal(preflight.status, 404);
  assert.equal(preflight.headers.get("access-control-allow-origin"), null);
});

await check("HEAD is GET without its body", async () => {
  const head = await get("/files/exact", { method: "HEAD" });
  assert.equal(head.status, 200);
  assert.equal(await head.text(), "");
  const seen = await get("/answers?kind=length", { method: "HEAD" });
  assert.equal(seen.headers.get("content-length"), "5");
});

await check("CORS is what user code says", async () => {
  const preflight = await get("/shared", { method: "OPTIONS", headers: { Origin: "https://a.example", "Access-Control-Request-Method": "PUT" } });
  assert.equal(preflight.status, 204);
  assert.equal(preflight.headers.get("access-control-allow-origin"), "https://a.example");
  assert.equal(preflight.headers.get("access-control-allow-methods"), "PUT");
  assert.equal(preflight.headers.get("access-control-max-age"), "60");
  const put = await get("/shared", { method: "PUT", body: "it", headers: { Origin: "https://a.example", "X-Token": "t" } });
  assert.equal(await put.text(), "got it with t");
  assert.equal(put.headers.get("access-control-allow-origin"), "https://a.example");
});

await check("what user code sees of a request", async () => {
  const answer = await get("/seen?a=1&a=2&b=%C3%BC", {
    method: "POST",
    body: "ünï",
    headers: [["X-Many", "1"], ["X-Many", "2"], ["X-Latin", "caf\u00e9"], ["User-Agent", "driver"], ["Content-Type", "text/plain"]],
  });
  const seen = await answer.json();
  assert.equal(seen.method, "POST");
  assert.equal(seen.url, `${site}/seen?a=1&a=2&b=%C3%BC`);
  assert.equal(seen.body, "ünï");
  const headers = new Map(seen.headers);
  assert.equal(headers.get("x-many"), "1, 2");
  assert.equal(headers.get("x-latin"), "café");
  assert.equal(headers.get("host"), new URL(site).host);
  assert.equal(seen.identity, null);
  assert.equal(seen.meta.ip, "127.0.0.1");
  assert.equal(seen.meta.userAgent, "driver");
  assert.match(seen.meta.requestId, /^[0-9a-f]{16}$/);
});

await check("the address is the one that proxies tell of", async () => {
  const url_ = async (headers) => (await (await get("/seen?q", { method: "POST", headers })).json()).url;
  assert.equal(await url_({ "X-Forwarded-Proto": "https", "X-Forwarded-Host": "app.example.com" }), "https://app.example.com/seen?q");
  assert.equal(await url_({ "X-Forwarded-Proto": "https,http" }), `https://${new URL(site).host}/seen?q`);
  assert.equal(await url_({ Forwarded: 'for=1.2.3.4;proto=https;host="b.example:8443", for=5.6.7.8' }), "https://b.example:8443/seen?q");
  assert.equal(await url_({ "X-Forwarded-Host": "evil.example/x?y=", "X-Forwarded-Proto": "javascript" }), `${site}/seen?q`);
});

await check("who calls: nobody, an admin as somebody, a header that does not check out", async () => {
  const identity = async (authorization) => (await (await get("/seen", { method: "POST", headers: authorization === undefined ? {} : { Authorization: authorization } })).json()).identity;
  assert.equal(await identity(), null);
  const acting = Buffer.from(JSON.stringify({ issuer: "https://i", subject: "ada", name: "Ada" })).toString("base64");
  assert.equal((await identity(`Convex ${adminKey}:${acting}`)).name, "Ada");
  for (const bad of ["Bearer nonsense", "Basic YTpi", "Convex nope|1234", "x"]) assert.match(await identity(bad), /^refused: .{10}/, bad);
});

await check("forms, files, storage, actions, the scheduler", async () => {
  const form = new FormData();
  form.append("name", "ada");
  form.append("file", new Blob(["file's text"], { type: "text/csv" }), "a.csv");
  const answer = await (await get("/everything", { method: "POST", body: form })).json();
  assert.deepEqual({ ...answer, url: null }, { shouted: "ADA!", size: 11, type: "text/csv", text: "file's text", url: null });
  assert.equal(await (await fetch(answer.url)).text(), "file's text");
  await until(async () => (await (await get("/notes")).json()).includes("scheduled by ada"));
});

await check("answers of every kind", async () => {
  const empty = await answers("empty");
  assert.equal(empty.status, 204);
  assert.equal(await empty.text(), "");
  const teapot = await answers("teapot");
  assert.equal(teapot.status, 418);
  assert.equal(await teapot.text(), "short and stout");
  const redirect = await answers("redirect");
  assert.equal(redirect.status, 307);
  assert.equal(redirect.headers.get("location"), `${site}/answers?kind=teapot`);
  const cookies = await answers("cookies");
  assert.deepEqual(cookies.headers.getSetCookie(), ["a=1; Path=/", "b=2; HttpOnly"]);
  assert.equal(cookies.headers.get("x-latin"), "café");
  assert.equal(await cookies.text(), "cookies");
  const length = await answers("length");
  assert.equal(length.headers.get("content-length"), "5");
  assert.equal(await length.text(), "12345");
  assert.deepEqual([...new Uint8Array(await (await answers("binary")).arrayBuffer())], [0, 255, 10, 13, 0]);
  const blob = await answers("blob");
  assert.equal(blob.headers.get("content-type"), "text/html");
  assert.equal(await blob.text(), "<p>hi</p>");
});

await check("bodies that are read twice, and answers of others passed on", async () => {
  assert.deepEqual(await (await answers("clones")).json(), ["twice", "twice", "both", "both"]);
  for (const kind of ["read-before", "read-by-others"]) {
    const read = await answers(kind);
    assert.equal(read.status, 500);
    assert.match((await read.json()).code, /whose body nobody else reads or has read/);
  }
  const packed = createServer((request, response) => {
    const pack = { "/gzip": gzipSync, "/br": brotliCompressSync }[request.url];
    const body = pack("packed ".repeat(1000));
    response.writeHead(203, { "Content-Encoding": request.url.slice(1), "Content-Length": body.length, "X-From": "upstream" }).end(body);
  });
  await new Promise((resolve) => packed.listen(0, "127.0.0.1", resolve));
  for (const how of ["fetched", "fetched-again"]) {
    for (const encoding of ["gzip", "br"]) {
      const from = encodeURIComponent(`http://127.0.0.1:${packed.address().port}/${encoding}`);
      const passed = await get(`/answers?kind=${how}&from=${from}`);
      assert.deepEqual([passed.status, passed.headers.get("x-from"), passed.headers.get("content-encoding")], [203, "upstream", null]);
      assert.equal(await passed.text(), "packed ".repeat(1000));
    }
  }
  packed.closeAllConnections();
  packed.close();
});

await check("what fails before the answer is a 500 that says why", async () => {
  fromNow();
  const thrown = await answers("throws");
  assert.equal(thrown.status, 500);
  assert.equal(thrown.headers.get("content-type"), "application/json");
  const body = await thrown.json();
  assert.match(body.code, /^\[Request ID: [0-9a-f]{16}\] Server Error: Uncaught Error: it broke$/);
  assert.match(body.trace, /^Uncaught Error: it broke\n +at .*convex\/http\.ts:\d+/);
  assert.ok(!("data" in body));
  const data = await (await answers("throws-data")).json();
  assert.deepEqual(data.data, { code: "NOPE", amount: { $integer: "AwAAAAAAAAA=" } });
  for (const kind of ["nothing", "text"]) {
    const bad = await answers(kind);
    assert.equal(bad.status, 500);
    assert.match((await bad.json()).code, /HTTP actions must return a Response/);
  }
  const entries = await logged();
  const ends = entries.filter((entry) => entry.kind === "Completion" && entry.error); // The one before may end late.
  assert.equal(ends.length, 4);
  assert.deepEqual([ends[0].udfType, ends[0].identifier, ends[0].caller, ends[0].success], ["HttpAction", "GET /answers", "HttpEndpoint", null]);
  assert.match(ends[0].error, /it broke/);
  const lines = entries.filter((entry) => entry.kind === "Progress");
  assert.deepEqual(lines.map((entry) => entry.logLines[0].messages), [["'about to throw'"]]);
  assert.equal(lines[0].executionId, ends[0].executionId);
});

await check("what fails after it cuts the connection", async () => {
  fromNow();
  const late = await answers("throws-late");
  assert.equal(late.status, 200);
  assert.ok(await rejection(late.text()));
  const short = await answers("too-short");
  assert.ok(await rejection(short.text()));
  assert.equal(await (await get("/files/exact")).text(), "exact"); // Others are not disturbed.
  const ends = (await logged()).filter((entry) => entry.kind === "Completion");
  assert.match(ends[0].error, /no more/);
});

await check("the log tells method, route and status", async () => {
  fromNow();
  await (await get("/files/deep/er")).text();
  await (await answers("teapot")).text();
  await (await get("/files/x", { method: "HEAD" })).text();
  await (await get("/nowhere")).text();
  const ends = (await logged()).filter((entry) => entry.kind === "Completion");
  assert.deepEqual(
    ends.map((entry) => [entry.identifier, entry.success?.status]),
    [["GET /files/*", "200"], ["GET /answers", "418"], ["GET /files/*", "200"], ["GET /nowhere", "404"]],
  );
  assert.ok(ends[0].usageStats.networkEgressBytes >= 20);
});

await check("what it runs belongs to the same request in the log", async () => {
  fromNow();
  await (await get("/notes", { method: "POST", body: JSON.stringify({ text: "second" }) })).text();
  const [inner, outer] = (await logged()).filter((entry) => entry.kind === "Completion");
  assert.deepEqual([inner.identifier, inner.caller, outer.identifier], ["notes:add", "Action", "POST /notes"]);
  assert.equal(inner.requestId, outer.requestId);
  assert.equal(inner.parentExecutionId, outer.executionId);
});

await check("events arrive one by one", async () => {
  const answer = await get("/events?count=20");
  assert.equal(answer.headers.get("content-type"), "text/event-stream");
  const times = [];
  let text = "";
  for await (const chunk of answer.body.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    times.push(performance.now());
  }
  assert.equal(text, Array.from({ length: 20 }, (_, n) => `data: ${n + 1}\n\n`).join(""));
  assert.ok(times.length >= 3 && times.at(-1) - times[0] > 50, `${times}`);
});

await check("what arrives goes back while more of it arrives", async () => {
  let send;
  const body = new ReadableStream({ start: (controller) => (send = controller) });
  const encode = (text) => new TextEncoder().encode(text);
  send.enqueue(encode("one"));
  const answer = await get("/echo", { method: "POST", body, duplex: "half" });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  assert.equal((await reader.read()).value, "one");
  send.enqueue(encode("two"));
  assert.equal((await reader.read()).value, "two");
  send.close();
  assert.equal((await reader.read()).done, true);
});

await check("ten million bytes up and down", async () => {
  const size = 10_000_000;
  const bytes = new Uint8Array(size).map((_, n) => n % 251);
  let sum = 0;
  const counted = await (await get("/count", { method: "POST", body: bytes })).json();
  assert.equal(counted.bytes, size);
  const back = new Uint8Array(await (await get("/echo", { method: "POST", body: bytes })).arrayBuffer());
  assert.equal(Buffer.compare(back, bytes), 0);
  let received = 0;
  for await (const chunk of (await get(`/large?size=${size}`)).body) {
    received += chunk.length;
    sum += chunk[0];
  }
  assert.equal(received, size);
  assert.ok(sum > 0);
});

await check("bodies have a limit in both directions", async () => {
  fromNow();
  const limit = 20 * 1024 * 1024;
  const fits = await get("/count", { method: "POST", body: new Uint8Array(limit) });
  assert.equal((await fits.json()).bytes, limit);
  const declared = await get("/count", { method: "POST", body: new Uint8Array(limit + 1) }).catch((error) => error);
  if (!(declared instanceof Error)) assert.equal(declared.status, 413); // It may be closed while we still send.
  const streamed = new ReadableStream({
    sent: 0,
    pull(controller) {
      controller.enqueue(new Uint8Array(1 << 20));
      this.sent = (this.sent ?? 0) + 1;
      if (this.sent > 24) controller.close();
    },
  });
  const refused = await get("/count", { method: "POST", body: streamed, duplex: "half" }).catch((error) => error);
  if (!(refused instanceof Error)) {
    assert.equal(refused.status, 413);
    assert.equal((await refused.json()).code, "RequestTooLarge");
  }
  assert.equal((await (await get(`/large?size=${limit}`)).arrayBuffer()).byteLength, limit);
  const cut = await get(`/large?size=${limit + 1}`);
  assert.equal(cut.status, 200);
  assert.ok(await rejection(cut.arrayBuffer()));
  const last = (await logged()).filter((entry) => entry.kind === "Completion").at(-1);
  assert.match(last.error, /HttpResponseTooLarge/);
});

await check("a client that goes away ends the action", async () => {
  fromNow();
  const ends = [];
  const left = async (path, come) => {
    const leaving = new AbortController();
    const asked = get(path, { signal: leaving.signal });
    await come(asked);
    leaving.abort();
    await asked.catch(() => {});
  };
  const ended = (count) =>
    until(async () => {
      ends.push(...(await logged()).filter((entry) => entry.kind === "Completion"));
      return ends.length >= count;
    });
  await left("/events?count=1000", async (asked) => (await asked).body.getReader().read());
  await ended(1);
  // This one says nothing that could be waited for.
  await left("/answers?kind=never", () => sleep(1000));
  await ended(2);
  for (const entry of ends) assert.match(entry.error, /cancelled/);
});

finish();
