// A Hono app as the router of HTTP actions, as public apps mount one.

import { adminKey, assert, check, finish, url } from "./harness.mjs";

const site = process.argv[4];
const get = (path, init) => fetch(site + path, { redirect: "manual", ...init });
const post = (path, body, headers = { "Content-Type": "application/json" }) => get(path, { method: "POST", body: JSON.stringify(body), headers });

await check("routes, parameters, JSON, functions", async () => {
  assert.equal(await (await get("/")).text(), "Hono on Convex");
  assert.deepEqual(await (await get("/api/books")).json(), []);
  const made = await post("/api/books", { title: "emma", pages: 474 });
  assert.equal(made.status, 201);
  const found = await (await get("/api/books/emma")).json();
  assert.deepEqual([found.title, found.pages, found._id], ["emma", 474, (await made.json()).id]);
});

await check("what no route takes goes to the app's own handlers", async () => {
  for (const path of ["/nowhere", "/api/books/UPPER", "/api/books/missing"]) {
    const answer = await get(path);
    assert.equal(answer.status, 404);
    assert.ok([JSON.stringify({ missing: path }), "No matching routes found"].includes(await answer.text()), path);
  }
  const refused = await post("/api/books", {});
  assert.deepEqual([refused.status, await refused.text()], [422, "a book has a title"]);
  const broken = await get("/broken");
  assert.deepEqual([broken.status, await broken.text()], [500, "caught: broken"]);
});

await check("middleware: CORS, tokens, headers", async () => {
  const headers = { Origin: "https://shop.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type" };
  const preflight = await get("/api/books", { method: "OPTIONS", headers });
  assert.equal(preflight.status, 204);
  assert.equal(preflight.headers.get("access-control-allow-origin"), "https://shop.example");
  assert.equal(preflight.headers.get("access-control-max-age"), "600");
  const other = await get("/api/books", { headers: { Origin: "https://evil.example" } });
  assert.equal(other.headers.get("access-control-allow-origin"), null);
  assert.equal((await get("/admin/secret")).status, 401);
  assert.equal(await (await get("/admin/secret", { headers: { Authorization: "Bearer let-me-in" } })).text(), "the secret");
  assert.equal((await get("/")).headers.get("x-content-type-options"), "nosniff");
});

await check("redirects, cookies, forms, every method", async () => {
  const old = await get("/old");
  assert.deepEqual([old.status, old.headers.get("location")], [301, "/"]);
  const cookie = await get("/cookie", { headers: { Cookie: "c=3" } });
  assert.deepEqual(cookie.headers.getSetCookie(), ["a=1", "b=2"]);
  assert.equal(await cookie.text(), "<p>c=3</p>");
  const form = new FormData();
  form.append("name", "ada");
  form.append("file", new Blob(["text"]), "a.txt");
  assert.deepEqual(await (await get("/form", { method: "POST", body: form })).json(), { name: "ada", file: "text" });
  for (const method of ["GET", "POST", "PUT", "PATCH", "DELETE"]) assert.equal(await (await get("/any", { method })).text(), method);
});

await check("streams", async () => {
  assert.equal(await (await get("/count")).text(), "1\n2\n3\n");
  const events = await get("/events");
  assert.match(events.headers.get("content-type"), /text\/event-stream/);
  assert.equal(await events.text(), [1, 2, 3].map((n) => `event: tick\ndata: ${n}\nid: ${n}\n\n`).join(""));
});

await check("ordinary routes beside it", async () => {
  assert.equal(await (await get("/plain")).text(), "plain");
});

await check("the routes are listed", async () => {
  const answer = await fetch(`${url}/api/query`, {
    method: "POST",
    headers: { Authorization: `Convex ${adminKey}`, "Content-Type": "application/json" },
    body: JSON.stringify({ path: "_system/cli/modules:apiSpec", args: {}, format: "json" }),
  });
  const spec = (await answer.json()).value.filter((item) => item.functionType === "HttpAction");
  assert.ok(spec.some((item) => item.path === "/api/books/:title{[a-z-]+}" && item.method === "GET"), JSON.stringify(spec));
});

finish();
