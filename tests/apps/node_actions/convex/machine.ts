"use node";
import { v } from "convex/values";
import { AsyncLocalStorage } from "async_hooks";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { EventEmitter, once } from "node:events";
import fs from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { promisify } from "util";
import zlib from "zlib";
import { action } from "./_generated/server";

function codeOf(step: () => unknown): string | undefined {
  try {
    step();
  } catch (error) {
    return (error as NodeJS.ErrnoException).code;
  }
}

export const hash = action({
  args: { text: v.string() },
  returns: v.string(),
  handler: async (_ctx, { text }) => createHash("sha256").update(text).digest("hex"),
});

/** Temporary files: in the folder that `os.tmpdir()` names. */
export const scratch = action({
  args: { text: v.string() },
  returns: v.string(),
  handler: async (_ctx, { text }) => {
    const folder = await mkdtemp(path.join(os.tmpdir(), "scratch-"));
    const file = path.join(folder, "note.txt");
    await writeFile(file, text);
    const gzipped = await promisify(zlib.gzip)(await readFile(file));
    await rm(folder, { recursive: true });
    return `${zlib.gunzipSync(gzipped).toString("utf8")} ${fs.existsSync(file)}`;
  },
});

export const everyday = action({
  args: {},
  handler: async () => {
    const shout = new Transform({ transform: (chunk, _, done) => done(null, String(chunk).toUpperCase()) });
    const parts: string[] = [];
    await pipeline(Readable.from(["a", "b"]), shout, async (source) => {
      for await (const part of source) parts.push(String(part));
    });
    const emitter = new EventEmitter();
    setImmediate(() => emitter.emit("ready", 7));
    const [ready] = await once(emitter, "ready");
    const store = new AsyncLocalStorage<string>();
    const seen = await store.run("inside", async () => {
      await new Promise((resolve) => setTimeout(resolve, 5));
      return store.getStore();
    });
    const missing = "not-there,".slice(0, -1);
    const timer = setTimeout(() => {}, 60_000);
    timer.unref();
    clearTimeout(timer);
    const server = http.createServer((request, response) => response.end(`you asked for ${request.url}`));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as { port: number };
    const body = await new Promise<string>((resolve, reject) => {
      http
        .get({ port, path: "/x", agent: false }, (response) => {
          let text = "";
          response.on("data", (chunk) => (text += chunk));
          response.on("end", () => resolve(text));
        })
        .on("error", reject);
    });
    const fetched = await (await fetch(`http://127.0.0.1:${port}/y`)).text();
    server.close();
    return {
      parts: parts.join(""),
      ready,
      seen,
      body,
      fetched,
      base64: Buffer.from("héllo").toString("base64"),
      global: globalThis === global,
      version: /^v\d+\./.test(process.version),
      require: typeof require("node:path").join,
      deno: typeof (globalThis as any).Deno,
      evaluated: new Function("return 6 * 7")(),
      agent: navigator.userAgent.split("/")[0],
      absent: [fs.existsSync("/etc/passwd"), codeOf(() => require(missing)), codeOf(() => fs.statSync("/etc"))],
      variables: Object.keys(process.env).filter((name) => /^(CONVEX|STRIPE|DENO|CVX)/.test(name)).sort(),
    };
  },
});

/** What an action may not do: an error's name for each. */
export const forbidden = action({
  args: {},
  handler: async () => {
    const attempts = {
      passwords: () => fs.readFileSync("/etc/passwd"),
      environment: () => fs.readFileSync("/proc/self/environ"),
      home: () => fs.readdirSync("/"),
      write: () => fs.writeFileSync("/tmp/cvx-was-here", ""),
      ownCode: () => fs.writeFileSync(new URL(import.meta.url), ""),
      run: () => execFileSync("/bin/true"),
      native: () => process.dlopen({ exports: {} }, "/lib/x.so"),
    };
    const said: Record<string, string> = {};
    for (const [name, attempt] of Object.entries(attempts)) {
      try {
        attempt();
        said[name] = "allowed";
      } catch (error) {
        said[name] = (error as Error).name;
      }
    }
    return said;
  },
});
