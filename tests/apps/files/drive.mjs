// Files through the official clients: uploads as a page makes them, ctx.storage in queries and mutations, what is refused.

import { createHash } from "node:crypto";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { assert, check, finish, rejection, until, url, watch } from "./harness.mjs";

const client = new ConvexClient(url, { logger: false });
const http = new ConvexHttpClient(url, { logger: false });
const sha256 = (data, encoding) => createHash("sha256").update(data).digest(encoding);

async function upload(data, type, headers = {}) {
  const target = await client.mutation(api.photos.generateUploadUrl, {});
  assert.ok(target.startsWith(`${url}/api/storage/upload?token=`), target);
  const response = await fetch(target, { method: "POST", body: data, headers: { ...(type ? { "Content-Type": type } : {}), ...headers } });
  assert.equal(response.status, 200, await response.clone().text());
  const { storageId, ...rest } = await response.json();
  assert.deepEqual(rest, {});
  return storageId;
}
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

const photo = new Uint8Array(50_000).map((_, n) => n * 7);
let file;

await check("an upload shows in the album at once, with a URL that serves it", async () => {
  const album = watch(client, api.photos.list);
  await until(() => album.value?.length === 0);
  file = await upload(photo, "image/png");
  const added = await client.mutation(api.photos.add, { file, caption: "sea", author: "ada" });
  assert.ok(added.id);
  await until(() => album.value?.length === 1);
  const [{ caption, url: at }] = album.value;
  assert.equal(caption, "sea");
  assert.match(at.replace(`${url}/api/storage/`, ""), UUID);
  const shown = await fetch(at);
  assert.equal(shown.headers.get("content-type"), "image/png");
  assert.equal(shown.headers.get("digest"), `sha-256=${sha256(photo, "base64")}`);
  assert.deepEqual(new Uint8Array(await shown.arrayBuffer()), photo);
  const part = await fetch(at, { headers: { Range: "bytes=100-199" } });
  assert.equal(part.status, 206);
  assert.equal(part.headers.get("content-range"), "bytes 100-199/50000");
  assert.deepEqual(new Uint8Array(await part.arrayBuffer()), photo.slice(100, 200));
  album.stop();
});

await check("what is known of a file, in both forms", async () => {
  const document = await http.query(api.probes.document, { file });
  assert.deepEqual(document, { _id: file, _creationTime: document._creationTime, sha256: sha256(photo, "base64"), size: 50_000, contentType: "image/png" });
  assert.ok(Math.abs(document._creationTime - Date.now()) < 60_000);
  const metadata = await http.query(api.probes.metadata, { file });
  assert.deepEqual(metadata, { storageId: metadata.storageId, sha256: sha256(photo, "hex"), size: 50_000, contentType: "image/png" });
  assert.match(metadata.storageId, UUID);
  // The old form of an id is taken wherever the new one is.
  assert.deepEqual(await http.query(api.probes.metadata, { file: metadata.storageId }), metadata);
  assert.equal(await http.query(api.probes.url, { file: metadata.storageId }), `${url}/api/storage/${metadata.storageId}`);
  assert.equal(await http.query(api.probes.url, { file }), `${url}/api/storage/${metadata.storageId}`);
  assert.equal(await http.query(api.probes.expected, { file }), file);
});

await check("_storage is a table to read, in order and in pages, and not to write", async () => {
  const second = await upload("plain", undefined);
  const documents = await http.query(api.probes.documents, {});
  assert.deepEqual(documents.map(({ _id, contentType }) => [_id, contentType]), [[second, "text/plain;charset=UTF-8"], [file, "image/png"]]);
  const third = await upload(new Uint8Array(3), undefined);
  assert.equal((await http.query(api.probes.document, { file: third })).contentType, null);
  const page = await http.query(api.probes.page, { cursor: null });
  assert.deepEqual(page.page.map(({ _id }) => _id), [file, second]);
  const rest = await http.query(api.probes.page, { cursor: page.continueCursor });
  assert.deepEqual(rest.page.map(({ _id }) => _id), [third]);
  for (const [fn, args, expected] of [
    [api.probes.insertFile, {}, /read-only|underscore/],
    [api.probes.patchFile, { file }, /read-only/],
    [api.probes.deleteDocument, { file }, /read-only/],
  ]) assert.match((await rejection(http.mutation(fn, args))).message, expected);
  assert.match((await rejection(http.query(api.probes.throughDb, { file }))).message, /Cannot read the system table/);
  for (const id of [second, third]) await http.mutation(api.probes.remove, { file: id });
});

await check("the list of files is live", async () => {
  const seen = watch(client, api.probes.documents);
  await until(() => seen.value);
  const before = seen.value.length;
  const id = await upload("listed");
  await until(() => seen.value.length === before + 1 && seen.value[0]._id === id);
  await client.mutation(api.probes.remove, { file: id });
  await until(() => seen.value.length === before);
  seen.stop();
});

await check("a deletion counts with its mutation, and every subscriber sees it", async () => {
  const id = await upload("short-lived", "text/plain");
  const seen = [watch(client, api.probes.url, { file: id }), watch(client, api.probes.document, { file: id }), watch(client, api.probes.metadata, { file: id })];
  await until(() => seen.every(({ value }) => value));
  const at = seen[0].value;
  assert.match((await rejection(client.mutation(api.probes.removeAndThrow, { file: id }))).message, /changed my mind/);
  assert.equal(await http.query(api.probes.url, { file: id }), at);
  await client.mutation(api.probes.remove, { file: id });
  await until(() => seen.every(({ value }) => value === null));
  for (const { values, errors } of seen) assert.deepEqual([values.length, errors], [2, []]);
  assert.deepEqual([(await fetch(at)).status, (await (await fetch(at)).json()).code], [404, "FileNotFound"]);
  const again = await client.mutation(api.probes.removeCaught, { file: id });
  assert.match(again, /storage id .* not found/);
  seen.forEach(({ stop }) => stop());
});

await check("two that delete one file at once: one does, one hears that it is gone", async () => {
  const id = await upload("contended");
  const answers = await Promise.all([1, 2, 3].map(() => new ConvexHttpClient(url).mutation(api.probes.removeCaught, { file: id })));
  assert.deepEqual(answers.map((answer) => answer === "deleted").sort(), [false, false, true]);
});

await check("ids that are none", async () => {
  const photoId = (await http.query(api.photos.list, {}))[0].id;
  for (const [fn, call] of [[api.probes.url, "getUrl"], [api.probes.metadata, "getMetadata"]]) {
    assert.match((await rejection(http.query(fn, { file: "nonsense" }))).message, new RegExp(`storage\\.${call}.*Invalid storage ID: "nonsense"`));
    assert.match((await rejection(http.query(fn, { file: photoId }))).message, /Invalid storage ID.*expected an Id<"_storage">, got an Id<"photos">/);
    assert.match((await rejection(http.query(fn, { file: 5 }))).message, /Invalid argument/);
    assert.equal(await http.query(fn, { file: "00000000-0000-4000-8000-000000000000" }), null);
    assert.equal(await http.query(fn, { file: "kg2000820c20a1g7104gm2rc1m70y674" }), null);
  }
  assert.match(await http.mutation(api.probes.removeCaught, { file: "nonsense" }), /Invalid storage ID/);
  assert.match(await http.mutation(api.probes.removeCaught, { file: "00000000-0000-4000-8000-000000000000" }), /not found/);
});

await check("queries cannot change files", async () => {
  assert.equal(await http.query(api.probes.writeInQuery, { file }), "no such function");
  for (const [op, args] of [["storageDelete", { storageId: file }], ["storageGenerateUploadUrl", {}], ["storageStore", { blob: "", contentType: "" }], ["storageGet", { storageId: file }]])
    assert.match((await rejection(http.query(api.probes.rawInQuery, { op: `1.0/${op}`, args }))).message, /is for mutations and actions/);
});

await check("a photo that is none is refused and leaves no file", async () => {
  const id = await upload("<html>", "text/html");
  const added = await client.mutation(api.photos.add, { file: id, caption: "x", author: "eve" });
  assert.deepEqual(added, { refused: "A photo is an image of at most 5 MB." });
  assert.equal(await http.query(api.probes.document, { file: id }), null);
});

await check("mutations store and read files themselves", async () => {
  const done = await client.mutation(api.probes.storeAndRead, { text: "grüße", type: "text/plain;charset=utf-8" });
  assert.deepEqual([done.text, done.type], ["grüße", "text/plain;charset=utf-8"]);
  assert.deepEqual([done.metadata.size, done.metadata.sha256], [7, sha256("grüße", "hex")]);
  assert.equal(done.document.sha256, sha256("grüße", "base64"));
  assert.equal(await (await fetch(await http.query(api.probes.url, { file: done.id }))).text(), "grüße");
  assert.deepEqual(await client.mutation(api.probes.read, { file: done.id }), { size: 7, type: "text/plain;charset=utf-8", text: "grüße" });
  assert.equal(await client.mutation(api.probes.read, { file: "00000000-0000-4000-8000-000000000000" }), null);
  const report = await client.mutation(api.reports.write, { lines: ["a", "b"] });
  const longer = await client.mutation(api.reports.append, { file: report, line: "c" });
  assert.equal((await client.mutation(api.probes.read, { file: longer })).text, "a\nb\nc");
  assert.equal(await client.mutation(api.probes.read, { file: report }), null);
  for (const id of [done.id, longer]) await client.mutation(api.probes.remove, { file: id });
});

await check("a digest that is given is checked", async () => {
  for (const encoding of ["hex", "base64"]) {
    const id = await client.mutation(api.probes.store, { text: "sealed", sha256: sha256("sealed", encoding) });
    await client.mutation(api.probes.remove, { file: id });
    assert.match((await rejection(client.mutation(api.probes.store, { text: "opened", sha256: sha256("sealed", encoding) }))).message, /SHA-256/);
  }
  assert.match((await rejection(client.mutation(api.probes.store, { text: "x", sha256: "abc" }))).message, /not a SHA-256 digest/);
});

await check("what a mutation stored goes with it", async () => {
  const before = (await http.query(api.probes.documents, {})).length;
  assert.match((await rejection(client.mutation(api.probes.storeAndThrow, { text: "never" }))).message, /after all not/);
  const kept = await client.mutation(api.probes.storeNested, { text: "kept" });
  assert.equal((await client.mutation(api.probes.read, { file: kept })).text, "kept");
  assert.equal((await http.query(api.probes.documents, {})).length, before + 1);
  await client.mutation(api.probes.remove, { file: kept });
});

await check("how much a mutation may do with files", async () => {
  const metrics = await client.mutation(api.probes.storeMany, { count: 3, bytes: 999 });
  assert.deepEqual([metrics.filesWritten, metrics.fileWriteBytes], [{ used: 3, remaining: 997 }, { used: 2997, remaining: 16 * 2 ** 20 - 2997 }]);
  assert.match((await rejection(client.mutation(api.probes.storeMany, { count: 3, bytes: 6 * 2 ** 20 }))).message, /Too many bytes of files stored/);
  const big = await upload(new Uint8Array(17 * 2 ** 20), "application/zip");
  assert.match((await rejection(client.mutation(api.probes.read, { file: big }))).message, /Too many bytes of files read/);
  await client.mutation(api.probes.remove, { file: big });
});

await check("an upload URL is good for one deployment and one hour", async () => {
  const target = new URL(await client.mutation(api.photos.generateUploadUrl, {}));
  target.searchParams.set("token", `${target.searchParams.get("token").slice(0, -2)}AA`);
  const refused = await fetch(target, { method: "POST", body: "x" });
  assert.deepEqual([refused.status, (await refused.json()).code], [401, "StorageTokenInvalid"]);
});

await check("actions store and read files", async () => {
  const id = await client.action(api.actionProbes.store, { text: "from an action", type: "text/plain" });
  assert.deepEqual(await client.action(api.actionProbes.read, { file: id }), { size: 14, type: "text/plain", sha256: sha256("from an action", "hex") });
  const at = await client.action(api.actionProbes.url, { file: id });
  assert.equal(await (await fetch(at)).text(), "from an action");
  const metadata = await client.action(api.actionProbes.metadata, { file: id });
  assert.deepEqual(metadata, { storageId: at.split("/").at(-1), sha256: sha256("from an action", "hex"), size: 14, contentType: "text/plain" });
  const seen = watch(client, api.probes.url, { file: id });
  await until(() => seen.value === at);
  assert.equal(await client.action(api.actionProbes.remove, { file: id }), null);
  await until(() => seen.value === null);
  seen.stop();
  assert.equal(await client.action(api.actionProbes.read, { file: id }), null);
  const untyped = await client.action(api.actionProbes.store, { text: "" });
  assert.deepEqual(await client.action(api.actionProbes.read, { file: untyped }), { size: 0, type: "", sha256: sha256("", "hex") });
  assert.equal((await http.query(api.probes.document, { file: untyped })).contentType, null);
  await client.action(api.actionProbes.remove, { file: untyped });
});

await check("an action's digest is checked, and its mistakes are told", async () => {
  for (const encoding of ["hex", "base64"]) {
    const id = await client.action(api.actionProbes.store, { text: "sealed", sha256: sha256("sealed", encoding) });
    await client.action(api.actionProbes.remove, { file: id });
    assert.match((await rejection(client.action(api.actionProbes.store, { text: "opened", sha256: sha256("sealed", encoding) }))).message, /SHA-256/);
  }
  const failed = await client.action(api.actionProbes.caught, { file: "nonsense" });
  for (const name of ["getUrl", "getMetadata", "get", "delete"]) assert.match(failed[name], /Invalid storage ID: "nonsense"/, name);
  assert.match(failed.store, /Blob/);
  const gone = await client.action(api.actionProbes.caught, { file: "00000000-0000-4000-8000-000000000000" });
  assert.deepEqual(Object.keys(gone).sort(), ["delete", "store"]);
  assert.match(gone.delete, /not found/);
});

await check("what an action stored stays when it fails", async () => {
  const message = (await rejection(client.action(api.actionProbes.storeAndThrow, {}))).message;
  const id = /Uncaught Error: (\w+)/.exec(message)[1];
  assert.equal((await client.action(api.actionProbes.read, { file: id })).size, 5);
  await client.action(api.actionProbes.remove, { file: id });
});

await check("a large file goes through an action in one piece", async () => {
  const bytes = 20 * 2 ** 20;
  const id = await client.action(api.actionProbes.storeLarge, { bytes });
  const expected = { size: bytes, type: "application/x-sevens", sha256: sha256(Buffer.alloc(bytes, 7), "hex") };
  assert.deepEqual(await client.action(api.actionProbes.read, { file: id }), expected);
  await client.action(api.actionProbes.remove, { file: id });
});

await check("an action's upload URL, and a file fetched from elsewhere", async () => {
  const target = await client.action(api.actionProbes.uploadUrl, {});
  const { storageId } = await (await fetch(target, { method: "POST", body: photo, headers: { "Content-Type": "image/webp" } })).json();
  const at = await client.action(api.actionProbes.url, { file: storageId });
  const copy = await client.action(api.downloads.addFromUrl, { url: at, caption: "a copy" });
  assert.notEqual(copy, storageId);
  const document = await http.query(api.probes.document, { file: copy });
  assert.deepEqual([document.sha256, document.contentType], [sha256(photo, "base64"), "image/webp"]);
  assert.equal((await http.query(api.photos.list, {}))[0].caption, "a copy");
});

await check("HTTP actions take files and give them", async () => {
  const refused = await fetch(`${url}/http/photos`, { method: "POST", body: photo });
  assert.equal(refused.status, 403);
  const headers = { "Content-Type": "image/png", "X-Upload-Key": "letmein" };
  const posted = await fetch(`${url}/http/photos`, { method: "POST", body: photo, headers });
  assert.equal(posted.status, 201);
  const { file: id } = await posted.json();
  const shown = await fetch(`${url}/http/photos/${id}`);
  assert.equal(shown.headers.get("content-type"), "image/png");
  assert.deepEqual(new Uint8Array(await shown.arrayBuffer()), photo);
  assert.equal((await fetch(`${url}/http/photos/00000000-0000-4000-8000-000000000000`)).status, 404);
});

finish();
