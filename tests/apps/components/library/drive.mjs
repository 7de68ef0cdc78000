// A component of our own, mounted twice, with another one in it: through official clients only.

import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { adminKey, assert, check, finish, rejection, until, url, watch } from "./harness.mjs";

const site = process.argv[4];
const live = new ConvexClient(url, { logger: false });
const http = new ConvexHttpClient(url, { logger: false });
const { loans } = api;
const ask = (name, args) => live.query(loans.ask, { name, args });
const tell = (name, args) => live.mutation(loans.tell, { name, args });

/** As the command line does with --component. */
async function inside(componentPath, path, args = {}, key = adminKey) {
  const headers = { "Content-Type": "application/json", ...(key ? { Authorization: `Convex ${key}` } : {}) };
  const body = JSON.stringify({ componentPath, path, args, format: "json" });
  return await fetch(`${url}/api/function`, { method: "POST", headers, body });
}

await check("the app calls its components; each instance has its own rows, and whoever watches sees them change", async () => {
  const main = watch(live, loans.books);
  const annex = watch(live, loans.books, { annex: true });
  const id = await live.mutation(loans.addBook, { title: "Emma", copies: 1 });
  assert.equal(typeof id, "string");
  await live.mutation(loans.addBook, { title: "Ulysses", copies: 3, annex: true });
  await until(() => main.value?.length === 1 && annex.value?.length === 1);
  assert.deepEqual([main.value[0].title, annex.value[0].title], ["Emma", "Ulysses"]);
  assert.deepEqual(await ask("history"), ["added Emma"]);
  main.stop();
  annex.stop();
});

await check("a component that throws takes back what it wrote, and nothing else", async () => {
  const book = await live.mutation(loans.addBook, { title: "Persuasion", copies: 1 });
  assert.equal(await live.mutation(loans.lend, { book, reader: "Ada" }), "0 left");
  const before = await live.query(loans.loans);
  const said = await live.mutation(loans.lend, { book, reader: "Bob", ifNone: "none for Bob" });
  assert.match(said, /no copy of Persuasion left/);
  assert.deepEqual(await live.query(loans.notes), ["none for Bob"]);
  assert.equal(await live.query(loans.loans), before + 1);
  const found = (await live.query(loans.books)).find(({ title }) => title === "Persuasion");
  assert.equal(found.copies, 0);
  assert.equal((await ask("history")).filter((line) => line === "took Persuasion").length, 1);
  assert.match((await rejection(live.mutation(loans.lend, { book, reader: "Cy" }))).message, /no copy of Persuasion/);
  assert.equal(await live.query(loans.loans), before + 1);
});

await check("arguments and results are checked at the boundary", async () => {
  assert.match((await rejection(tell("add", { title: 3, copies: 1 }))).message, /ArgumentValidationError/);
  assert.match((await rejection(ask("wrongReturn"))).message, /ReturnsValidationError/);
  const loan = await live.mutation(loans.lend, { book: (await live.query(loans.books))[0]._id, reader: "Eve" });
  assert.match(loan, /left/);
  assert.match((await rejection(tell("take", { id: "nonsense" }))).message, /ArgumentValidationError/);
});

await check("a component does not know who calls, nor the deployment's variables; only what it declares", async () => {
  assert.deepEqual(await ask("surroundings"), {
    identity: null, name: "Main", town: null, secret: null, site: "string",
  });
  const seen = watch(live, loans.ask, { name: "surroundings" });
  await until(() => seen.value?.town === null);
  const changes = [{ name: "TOWN", value: "Ely" }, { name: "SECRET", value: "x" }];
  await fetch(`${url}/api/update_environment_variables`, {
    method: "POST", headers: { "Content-Type": "application/json", Authorization: `Convex ${adminKey}` },
    body: JSON.stringify({ changes }),
  });
  await until(() => seen.value?.town === "Ely");
  assert.equal(seen.value.secret, null);
  seen.stop();
});

await check("who is signed in is known to the app, also when a component calls it back, and to no component", async () => {
  const ada = new ConvexHttpClient(url, { logger: false });
  ada.setAdminAuth(adminKey, { subject: "ada", issuer: "https://test.example" });
  assert.equal((await ada.query(loans.ask, { name: "surroundings" })).identity, null);
  await ada.mutation(loans.noteThroughLibrary, { text: "called back" });
  assert.ok((await live.query(loans.notes)).includes("called back (ada)"));
  assert.equal(typeof (await ada.action(loans.order, { title: "Silas Marner" })).id, "string");
});

await check("what is not offered cannot be called", async () => {
  assert.match((await rejection(ask("secret"))).message, /Could not find public function/);
  assert.match((await rejection(ask("nothing"))).message, /Could not find public function/);
  assert.match((await rejection(live.query(loans.askUnknown))).message, /no component 'nowhere'/);
  assert.match((await rejection(live.query(loans.handleOfInternal))).message, /Could not find public function/);
  assert.match((await rejection(live.query(api.library.books.list))).message, /Could not find public function/);
  assert.match((await rejection(ask("pages"))).message, /paginate/);
});

await check("clients do not reach a component; an admin does, by its path", async () => {
  const refused = await inside("library", "books:list", {}, null);
  assert.equal(refused.status, 403);
  const listed = await (await inside("annex", "books:list")).json();
  assert.deepEqual(listed.value.map(({ title }) => title), ["Ulysses"]);
  assert.deepEqual((await (await inside("library/audit", "log:lines")).json()).value.slice(0, 1), ["added Emma"]);
  assert.equal((await (await inside("library", "books:secret")).json()).value, "secret of Main");
  assert.match(await (await inside("attic", "books:list")).text(), /There is no component 'attic'/);
  const where = (await (await inside("library/audit", "log:where")).json()).value;
  assert.deepEqual(where, { name: "log:where", componentPath: "library/audit", type: "query", visibility: "public" });
  assert.equal((await live.query(loans.where)).componentPath, "");
});

await check("handles: into a component and back, now and later, of internal functions, from outside none", async () => {
  assert.equal(await live.mutation(loans.noteThroughLibrary, { text: "back" }), "noted");
  await live.mutation(loans.noteThroughLibrary, { text: "back later", later: true });
  await until(async () => (await live.query(loans.notes)).includes("back later"));
  assert.ok((await live.query(loans.notes)).includes("back"));
  const secret = await tell("handleOfSecret");
  assert.match(secret, /^function:\/\/[0-9a-f]+#books:secret$/);
  assert.equal(await live.query(loans.runHandle, { fn: secret }), "secret of Main");
  const list = await live.query(loans.handleInside);
  assert.equal((await live.query(loans.runHandle, { fn: list })).length, (await live.query(loans.books)).length);
  assert.match((await rejection(live.query(loans.runHandle, { fn: `function://${"0".repeat(32)}` }))).message, /not deployed/);
  assert.match((await rejection(live.query(loans.runHandle, { fn: "function://x" }))).message, /not a function handle/);
});

await check("jobs and crons of a component are its own", async () => {
  const id = await tell("addLater", { title: "Later", ms: 50 });
  const seen = watch(live, loans.ask, { name: "job", args: { id } });
  await until(() => seen.value === "success");
  seen.stop();
  assert.ok((await live.query(loans.books)).some(({ title }) => title === "Later"));
  await until(async () => (await ask("beats")) >= 2);
});

await check("an action of a component stores files where only it sees them, and gives out their URL", async () => {
  const { id, url: cover } = await live.action(loans.order, { title: "Middlemarch" });
  assert.equal(typeof id, "string");
  assert.equal(await (await fetch(cover)).text(), "cover of Middlemarch");
  assert.match(cover, /component=library$/);
  assert.equal((await fetch(cover.replace("component=library", "component=annex"))).status, 404);
  const target = await tell("uploadUrl");
  const posted = await fetch(target, { method: "POST", body: "more", headers: { "Content-Type": "text/plain" } });
  assert.equal(posted.status, 200);
  assert.equal(await ask("files"), 3);
  assert.equal((await (await inside("annex", "books:files")).json()).value, 0);
});

await check("text search inside a component", async () => {
  const found = await ask("find", { words: "middlemarch" });
  assert.deepEqual(found.map(({ title }) => title), ["Middlemarch"]);
});

await check("HTTP routes of components are under their prefixes, the app's own come first", async () => {
  assert.equal(await (await fetch(`${site}/hello`)).text(), "hello");
  const listed = await (await fetch(`${site}/annex/books`)).json();
  assert.deepEqual(listed, { library: "Annex", titles: ["Ulysses"], path: "/annex/books", identity: null });
  const made = await fetch(`${site}/annex/shelf/new`, { method: "POST", body: "Dune" });
  assert.deepEqual([made.status, await made.text()], [201, "Annex has Dune"]);
  assert.equal(await (await fetch(`${site}/library/books/mine`)).text(), "the app's own");
  assert.equal((await (await fetch(`${site}/library/books`)).json()).library, "Main");
  assert.deepEqual(await (await fetch(`${site}/annex/audit/lines`)).json(), ["added Ulysses", "added Dune"]);
  assert.equal((await fetch(`${site}/annex/nothing`)).status, 404);
  assert.equal((await fetch(`${site}/annexe`)).status, 404);
});

await check("logs say which component wrote a line", async () => {
  const cursor = Date.now() - 60_000;
  await tell("chatty", { word: "hush" });
  const response = await fetch(`${url}/api/stream_function_logs?cursor=${cursor}`, {
    headers: { Authorization: `Convex ${adminKey}`, "Convex-Client": "npm-cli-1.48.0" },
  });
  const { entries } = await response.json();
  const entry = entries.findLast((each) => each.identifier === "loans:tell");
  assert.deepEqual(
    entry.logLines.map((line) => [line.componentPath, line.udfPath, line.messages.join(" ")]),
    [["library", "books:chatty", "'the library says' 'hush'"], ["library/audit", "log:write", "'audited' 'hush'"]],
  );
});

await http.query(loans.notes);
finish();
