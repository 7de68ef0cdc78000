// People sign in at a real OpenID Connect provider, and with tokens of the app's own; the official clients carry them.

import { createServer } from "node:http";
import { createRemoteJWKSet, exportJWK, generateKeyPair, importJWK, jwtVerify, SignJWT } from "jose";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { adminKey, assert, check, finish, rejection, sleep, until, url, watch } from "./harness.mjs";
import { signIn, startProvider } from "./provider.mjs";

const ownKey = await importJWK(JSON.parse(process.env.OWN_PRIVATE_KEY), "ES256");
const now = () => Math.floor(Date.now() / 1000);

const own = (claims = {}, seconds = 3600) => {
  const token = new SignJWT({ sub: "zoe", aud: "app", iss: process.env.OWN_ISSUER, iat: now(), exp: now() + seconds, ...claims });
  return token.setProtectedHeader({ alg: "ES256", kid: "own", typ: "JWT" }).sign(ownKey);
};
const as = (token) => new ConvexHttpClient(url, { auth: token, logger: false });
const live = () => new ConvexClient(url, { logger: false });

await check("a provider that is away for a moment signs nobody out", async () => {
  const { publicKey, privateKey } = await generateKeyPair("RS256", { extractable: true });
  const issuer = `http://127.0.0.1:${process.env.OIDC_PORT}`;
  let asked = 0;
  const failing = createServer((request, response) => {
    asked += 1;
    response.statusCode = asked > 2 ? 200 : 503;
    response.setHeader("cache-control", "max-age=1");
    const isDiscovery = request.url.endsWith("configuration");
    exportJWK(publicKey).then((key) => response.end(JSON.stringify(isDiscovery ? { issuer, jwks_uri: `${issuer}/away` } : { keys: [key] })));
  }).listen(Number(process.env.OIDC_PORT), "127.0.0.1");
  const unsigned = new SignJWT({ sub: "patient", aud: "app", iss: issuer, iat: now(), exp: now() + 3600 });
  const token = await unsigned.setProtectedHeader({ alg: "RS256" }).sign(privateKey);
  const client = live();
  const states = [];
  client.setAuth(async () => token, (signedIn) => states.push(signedIn));
  const seen = watch(client, api.users.identity);
  await until(() => seen.value?.subject === "patient", "signed in at last");
  assert.deepEqual(states, [true]);
  assert.ok(asked >= 4);
  await client.close();
  failing.closeAllConnections();
  await new Promise((resolve) => failing.close(resolve));
  await sleep(1_100); // So long what it said is kept.
});

const provider = await startProvider({ port: Number(process.env.OIDC_PORT) });
const ann = await signIn(provider.issuer, "ann");
const bob = await signIn(provider.issuer, "bob");

await check("an OpenID Connect token over HTTP", async () => {
  const identity = await as(ann.idToken).query(api.users.identity);
  assert.deepEqual(identity, {
    tokenIdentifier: `${provider.issuer}|ann`,
    issuer: provider.issuer,
    subject: "ann",
    name: "Ann Lee",
    givenName: "Ann",
    email: "ann@example.com",
    emailVerified: true,
    updatedAt: "2023-11-14T22:13:20+00:00",
    plan: "pro",
  });
  assert.equal(await as(undefined).query(api.users.identity), null);
});

await check("a token of one's own", async () => {
  const identity = await as(await own({ role: "editor", team: { id: 7, tags: ["a"] } })).query(api.users.identity);
  assert.deepEqual(identity, {
    tokenIdentifier: `${process.env.OWN_ISSUER}|zoe`,
    issuer: process.env.OWN_ISSUER,
    subject: "zoe",
    role: "editor",
    "team.id": 7,
    "team.tags": ["a"],
  });
});

await check("each user has rows of their own", async () => {
  assert.equal((await rejection(as(ann.idToken).mutation(api.notes.add, { text: "?" }))).data, "Sign in first.");
  const clients = { ann: as(ann.idToken), bob: as(bob.idToken) };
  for (const client of Object.values(clients)) await client.mutation(api.users.store);
  const id = await clients.ann.mutation(api.notes.add, { text: "ann's" });
  await clients.bob.mutation(api.notes.add, { text: "bob's" });
  const mine = await Promise.all(["ann", "bob", "ann", "bob"].map((who) => clients[who].query(api.notes.mine)));
  assert.deepEqual(mine, [["ann's"], ["bob's"], ["ann's"], ["bob's"]]);
  assert.equal((await rejection(clients.bob.mutation(api.notes.edit, { id, text: "?" }))).data, "That is not your note.");
  assert.equal((await rejection(as(undefined).query(api.notes.mine))).data, "Sign in first.");
});

await check("tokens that are refused over HTTP, with code and status", async () => {
  const refused = async (token) => {
    const response = await fetch(`${url}/api/query`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
      body: JSON.stringify({ path: "users:identity", args: {} }),
    });
    return [response.status, (await response.json()).code];
  };
  assert.deepEqual(await refused(await own({}, -60)), [401, "Unauthenticated"]);
  assert.deepEqual(await refused(await own({ aud: "other" })), [401, "NoAuthProvider"]);
  assert.deepEqual(await refused(await own({ iss: "https://else.test" })), [401, "NoAuthProvider"]);
  assert.deepEqual(await refused(`${ann.idToken.slice(0, -6)}AAAAAA`), [401, "Unauthenticated"]);
  assert.deepEqual(await refused("nonsense"), [401, "InvalidAuthHeader"]);
});

await check("actions, and what they run, have their caller's identity", async () => {
  const ann3 = { own: "ann", query: "ann", mutation: "ann" };
  assert.deepEqual(await as(ann.idToken).action(api.everywhere.fromAction), ann3);
  assert.deepEqual(await as(ann.idToken).action(api.everywhere.fromNestedAction), ann3);
  assert.deepEqual(Object.values(await as(undefined).action(api.everywhere.fromAction)).filter(Boolean), []);
  for (const run of [(client) => client.mutation(api.everywhere.token), (client) => client.action(api.everywhere.tokenInAction)]) {
    assert.deepEqual([await run(as(ann.idToken)), await run(as(undefined))], [ann.idToken, null]);
  }
  const client = live();
  client.setAuth(async () => bob.idToken);
  assert.equal((await client.action(api.everywhere.fromAction, {})).mutation, "bob");
  await client.close();
});

await check("what is scheduled runs in nobody's name", async () => {
  await as(ann.idToken).mutation(api.everywhere.later);
  const count = (tokenIdentifier) => as(undefined).query(api.everywhere.recorded, { tokenIdentifier });
  await until(async () => (await count("nobody")) === 1, "it has run");
  assert.equal(await count("somebody"), 0);
});

await check("HTTP actions: nobody, somebody, and a header that is no good", async () => {
  const asked = async (authorization) => {
    const response = await fetch(`${process.env.SITE}/whoami`, { headers: authorization ? { authorization } : {} });
    return [response.status, await response.text()];
  };
  assert.deepEqual(await asked(), [200, '{"subject":null,"seenByQuery":null}']);
  assert.deepEqual(await asked(`Bearer ${ann.idToken}`), [200, '{"subject":"ann","seenByQuery":"ann"}']);
  for (const [header, says] of [
    [`Bearer ${await own({}, -60)}`, /expired/],
    [`Bearer ${await own({ aud: "other" })}`, /No auth provider/],
    ["Bearer nonsense", /not a JWT/],
    ["Basic YTpi", /neither the scheme/],
    ["x", /too short/],
    ["Convex nonsense|00", /admin key is not valid/],
  ]) {
    const [status, text] = await asked(header);
    assert.equal(status, 401, header);
    assert.match(text, says);
  }
});

await check("signing in, refreshing and signing out on one socket", async () => {
  const client = live();
  const states = [];
  const forced = [];
  const seen = watch(client, api.users.identity);
  await until(() => seen.value === null, "nobody");
  client.setAuth(
    async ({ forceRefreshToken }) => {
      forced.push(forceRefreshToken);
      return forceRefreshToken ? await ann.refresh() : ann.idToken;
    },
    (signedIn) => states.push(signedIn),
  );
  await until(() => states.at(-1) === true && seen.value?.subject === "ann", "ann is signed in");
  await until(() => forced.length === 2, "a fresh token is asked for at once");
  assert.deepEqual(forced, [false, true]);
  client.setAuth(async () => bob.idToken, (signedIn) => states.push(signedIn));
  await until(() => seen.value?.subject === "bob", "now it is bob");
  client.client.clearAuth(); // What React's providers do when somebody signs out.
  await until(() => seen.value === null, "nobody again");
  assert.equal(seen.errors.length, 0);
  await client.close();
});

await check("a token that expires while a subscription is open", async () => {
  const client = live();
  const states = [];
  let issued = 0;
  let current = await own({ sub: "brief", name: "1" }, 2);
  client.setAuth(
    async ({ forceRefreshToken }) => {
      // What the client asks for at once is the same token: so it expires while it is in use.
      if (forceRefreshToken && issued++ > 0) current = await own({ sub: "brief", name: "2" });
      return current;
    },
    (signedIn) => states.push(signedIn),
  );
  const seen = watch(client, api.users.identity);
  await until(() => seen.value?.name === "1", "signed in");
  await client.mutation(api.users.store, {});
  await sleep(7_300); // Its two seconds, and the five seconds of leeway that custom tokens have.
  assert.equal(seen.value.name, "1", "who does nothing is not signed out");
  await client.mutation(api.notes.add, { text: "after the refresh" });
  await until(() => seen.value?.name === "2", "the new token is in force");
  assert.deepEqual([...new Set(states)], [true], "nobody was ever signed out");
  assert.equal(issued, 2);
  await client.close();
});

await check("a refresh that fails signs out, and the conversation goes on", async () => {
  const client = live();
  const states = [];
  let fresh = 0;
  client.setAuth(
    async ({ forceRefreshToken }) => (forceRefreshToken ? await own({ aud: "other", n: fresh++ }) : await own()),
    (signedIn) => states.push(signedIn),
  );
  const seen = watch(client, api.users.identity);
  await until(() => states.includes(true), "signed in");
  await until(() => states.at(-1) === false && seen.value === null, "signed out by the token that is nobody's");
  assert.ok(fresh >= 1 && fresh < 10, "it does not go on trying for ever");
  await client.close();
});

await check("a change of providers counts for the next token, not for who is there already", async () => {
  const configure = async (issuer) => {
    const response = await fetch(`${url}/api/update_environment_variables`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Convex ${adminKey}` },
      body: JSON.stringify({ changes: [{ name: "OWN_ISSUER", value: issuer }] }),
    });
    assert.equal(response.status, 200);
  };
  const token = await own({ sub: "stays" });
  const client = live();
  client.setAuth(async () => token);
  const seen = watch(client, api.users.identity);
  await until(() => seen.value?.subject === "stays", "signed in");
  await configure("https://moved.example.com");
  assert.match((await rejection(as(token).query(api.users.identity))).message, /NoAuthProvider/);
  const moved = await as(await own({ iss: "https://moved.example.com" })).query(api.users.identity);
  assert.equal(moved.issuer, "https://moved.example.com");
  await client.mutation(api.users.store, {});
  assert.equal(seen.value.subject, "stays");
  const late = live();
  const states = [];
  late.setAuth(async () => token, (signedIn) => states.push(signedIn));
  await until(() => states.at(-1) === false, "who comes now is refused");
  await configure(process.env.OWN_ISSUER);
  assert.equal((await as(token).query(api.users.identity)).subject, "stays");
  await client.close();
  await late.close();
});

await check("admins act as a user", async () => {
  const attributes = (value) => Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64");
  const acting = async (suffix, path = "users:identity") => {
    const response = await fetch(`${url}/api/query`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Convex ${adminKey}${suffix}` },
      body: JSON.stringify({ path, args: {} }),
    });
    return [response.status, await response.json()];
  };
  const [, ada] = await acting(`:${attributes({ issuer: "https://i.test", subject: "ada", name: "Ada", plan: "pro", email: null })}`);
  assert.deepEqual(ada.value, { tokenIdentifier: "https://i.test|ada", issuer: "https://i.test", subject: "ada", name: "Ada", plan: "pro" });
  const [, named] = await acting(`:${attributes({ tokenIdentifier: "https://i.test|ada" })}`);
  assert.deepEqual([named.value.issuer, named.value.subject], ["https://i.test", "ada"]);
  assert.deepEqual((await acting(""))[1].value, null);
  for (const bad of [{ subject: "ada" }, [], "not json"]) assert.equal((await acting(`:${attributes(bad)}`))[0], 400);
  assert.equal((await acting(":%%%"))[1].code, "HeaderParseFailure");
});

await check("tokens that the deployment signs itself", async () => {
  const client = as(ann.idToken);
  const me = await client.mutation(api.users.store);
  const token = await client.mutation(api.passes.issue, { room: "green" });
  const keys = createRemoteJWKSet(new URL(`${url}/.well-known/jwks.json`));
  const { payload, protectedHeader } = await jwtVerify(token, keys, { issuer: url, algorithms: ["ES256"] });
  assert.deepEqual([payload.sub, payload.room, payload.exp - payload.iat, protectedHeader.typ], [me, "green", 60, "JWT"]);
  const discovery = await (await fetch(`${url}/.well-known/openid-configuration`)).json();
  assert.deepEqual([discovery.issuer, discovery.jwks_uri], [url, `${url}/.well-known/jwks.json`]);
  const attempt = (claims, seconds) => client.mutation(api.passes.attempt, { claims, seconds });
  for (const name of ["iss", "iat", "exp", "nbf", "convexRole", "CVX_x", "Convex"]) assert.match(await attempt({ [name]: 1 }, 60), /is reserved/);
  for (const seconds of [0, 0.5, 3601, -1, "60", null]) assert.match(await attempt({}, seconds), /expiresInSeconds/);
  assert.match(await attempt({ big: "x".repeat(20_000) }, 60), /at most 16384/);
  assert.match(await attempt([1], 60), /must be an object/);
  assert.equal((await attempt({}, 3600)).split(".").length, 3);
});

await provider.close();
finish();
