import { ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { assert, check, rejection, url } from "../harness.mjs";

const client = new ConvexHttpClient(url, { logger: false });

export async function run() {
  await check("the clock stands still inside a function", async () => {
    const { first, frozen, zone, text } = await client.mutation(api.determinism.clock);
    assert.ok(Math.abs(first - Date.now()) < 10_000);
    assert.deepEqual([frozen, zone, text], [true, 0, "string"]);
    assert.deepEqual(await client.query(api.determinism.dates), {
      iso: "2024-02-29T12:30:00.000Z",
      parsed: 1709209800000,
      local: "2024-01-01T00:00:00.000Z",
      isDate: true,
      intl: "12,345.68",
      localeDate: "1/1/1970",
    });
  });

  await check("random numbers are seeded anew for every execution", async () => {
    const runs = await Promise.all([1, 2, 3].map((call) => client.query(api.determinism.random, { call: call + Date.now() })));
    for (const { numbers, uuid, bytes } of runs) {
      assert.ok(numbers.every((n) => n >= 0 && n < 1));
      assert.equal(new Set(numbers).size, 3);
      assert.match(uuid, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
      assert.ok(new Uint8Array(bytes).some((byte) => byte !== 0));
    }
    assert.equal(new Set(runs.map((run) => run.uuid)).size, 3);
  });

  await check("hashes", async () => {
    assert.deepEqual(await client.query(api.determinism.hashes, { text: "abc" }), {
      sha1: "a9993e364706816aba3e25717850c26c9cd0d89d",
      sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
      hmac: "9c196e32dc0175f86f4b1cb89289d6619de6bee699e4c378e68309ed97a1a6ab",
    });
  });

  await check("environment variables", async () => {
    assert.deepEqual(await client.query(api.determinism.environment, { name: "GREETING" }), { value: "hello", cloud: "string", site: "string", mode: "production" });
    assert.equal((await client.query(api.determinism.environment, { name: "NOT_SET" })).value, null);
    assert.equal((await client.query(api.determinism.environment, { name: "PATH" })).value, null);
  });

  await check("what queries and mutations may not do", async () => {
    const said = (which) => client.query(api.determinism.forbidden, { which });
    for (const which of ["fetch", "setTimeout", "setInterval"]) assert.match(await said(which), /in queries and mutations/, which);
    for (const which of ["eval", "newFunction"]) assert.match(await said(which), /EvalError/, which);
    assert.notEqual(await said("generateKey"), "no error");
  });

  await check("globals", async () => {
    const there = ["URL", "URLSearchParams", "crypto", "structuredClone", "AbortController", "TextEncoder", "TextDecoder", "atob", "btoa", "Blob", "File", "Headers", "Request", "Response", "FormData",
      "ReadableStream", "WritableStream", "TransformStream", "WebAssembly", "performance", "Event", "EventTarget", "DOMException", "console", "process", "self", "AsyncLocalStorage"];
    assert.deepEqual(await client.query(api.determinism.globals, { names: there }), there);
    const absent = ["window", "document", "require", "Deno", "Buffer", "WebSocket", "XMLHttpRequest", "Worker"];
    assert.deepEqual(await client.query(api.determinism.globals, { names: absent }), []);
    assert.deepEqual(await client.query(api.determinism.platform), {
      url: "https://example.com/a?b=1#c",
      params: "a=1&b=%C3%BC",
      base64: "aGVsbG8=",
      clone: 2,
      encoded: "ünïcode 😀",
      headers: "1",
      aborted: true,
      event: 1,
      wasm: true,
      sorted: "123",
      grouped: ["even", "odd"],
    });
  });

  await check("nothing survives from one execution to the next", async () => {
    for (let n = 0; n < 6; n++) {
      const text = `${n} ${Date.now()}`;
      assert.deepEqual(await client.query(api.determinism.moduleState, { text }), { calls: 1, kept: [text], global: 1, polluted: "no" });
    }
  });

  await check("an endless loop fails alone", async () => {
    const others = [];
    const endless = rejection(client.mutation(api.determinism.endless));
    for (let n = 0; n < 5; n++) others.push(await new ConvexHttpClient(url).query(api.kinds.echo, { value: n }));
    assert.deepEqual(others, [0, 1, 2, 3, 4]);
    assert.match((await endless).message, /timed out \(maximum duration: 3s\)/);
    assert.equal(typeof (await client.query(api.determinism.busy, { rounds: 10_000_000 })), "number");
    assert.deepEqual(await client.query(api.writing.count, { group: "endless" }), []);
  });
}
