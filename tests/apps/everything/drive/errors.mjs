import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { ConvexError } from "convex/values";
import { assert, check, rejection, url } from "../harness.mjs";

const client = new ConvexHttpClient(url, { logger: false });

export async function run() {
  await check("ConvexError carries any value", async () => {
    for (const data of ["text", 5, null, 7n, [1, [2n]], { code: "SOLD_OUT", details: { left: 0n, when: [1.5, null, true] } }, new Uint8Array([1, 2]).buffer]) {
      for (const call of [() => client.query(api.errors.throwsData, { data }), () => client.mutation(api.errors.mutationThrowsData, { data })]) {
        const error = await rejection(call());
        assert.ok(error instanceof ConvexError, String(error));
        assert.deepEqual(error.data, data);
      }
    }
    const subclass = await rejection(client.query(api.errors.throwsSubclass));
    assert.ok(subclass instanceof ConvexError);
    assert.deepEqual(subclass.data, { code: "OUT_OF_PAPER", sheets: 0 });
  });

  await check("thrown things and where they were thrown", async () => {
    const error = await rejection(client.query(api.errors.throwsError, { message: "out of range" }));
    assert.ok(!(error instanceof ConvexError));
    assert.match(error.message, /^\[Request ID: [0-9a-f]{16}\] Server Error\nUncaught RangeError: out of range\n/);
    assert.match(error.message, /    at helper \(\.\.\/convex\/errors\.ts:\d+:\d+\)\n/);
    assert.match((await rejection(client.query(api.errors.throwsString))).message, /Uncaught just text/);
    assert.match((await rejection(client.query(api.errors.throwsNull))).message, /Uncaught null/);
    assert.match((await rejection(client.query(api.errors.throwsFromPromise))).message, /Uncaught Error: from a promise/);
    assert.match((await rejection(client.query(api.errors.neverEnds))).message, /never resolve/);
    assert.match((await rejection(client.mutation(api.errors.unhandledRejection))).message, /nobody looks at this/);
    assert.deepEqual(await client.query(api.writing.count, { group: "unhandled" }), []);
  });

  const post = async (kind, path, args = {}) =>
    await (await fetch(`${url}/api/${kind}`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ path, args, format: "json" }) })).json();

  await check("console lines of all levels", async () => {
    const { value, logLines } = await post("query", "errors:logs");
    assert.equal(value, "logged");
    assert.deepEqual(logLines.map((line) => line.split(" ")[0]), ["[DEBUG]", "[INFO]", "[LOG]", "[WARN]", "[ERROR]"]);
    assert.match(logLines[0], /debug/);
    assert.match(logLines[2], /log[\s\S]*a: 1[\s\S]*two/);
    assert.match(logLines[3], /null undefined true/);
    const failed = await post("mutation", "errors:logsThenThrows");
    assert.equal(failed.status, "error");
    assert.match(failed.logLines[0], /^\[LOG\] .*before/);
    assert.ok(!("errorData" in failed));
    const many = await post("query", "errors:manyLogs");
    assert.ok(many.logLines.length <= 257 && many.logLines.length >= 256, `${many.logLines.length} lines`);
    assert.match(many.logLines.at(-1), /^\[ERROR\] .*256/);
  });

  await check("the same errors over a WebSocket", async () => {
    const live = new ConvexClient(url, { logger: false });
    try {
      const error = await rejection(live.query(api.errors.throwsData, { data: { code: 1n } }));
      assert.ok(error instanceof ConvexError);
      assert.deepEqual(error.data, { code: 1n });
      const plain = await rejection(live.mutation(api.errors.logsThenThrows, {}));
      assert.match(plain.message, /^\[CONVEX M\(errors:logsThenThrows\)\] \[Request ID: [0-9a-f]{16}\] Server Error\nUncaught Error: after the log\n/);
      assert.match(plain.message, /Called by client$/);
      const missing = await rejection(live.query(api.nesting.secret, { n: 1 }));
      assert.match(missing.message, /Could not find public function for 'nesting:secret'/);
    } finally {
      await live.close();
    }
  });
}
