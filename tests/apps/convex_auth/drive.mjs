// @convex-dev/auth, unmodified: passwords, an OpenID Connect provider, links by mail; sessions, refreshing, signing out.

import { createServer } from "node:http";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { assert, check, finish, rejection, sleep, until, url, watch } from "./harness.mjs";
import { signInAt, startProvider } from "./provider.mjs";

const site = process.env.CONVEX_SITE;
const SITE_URL = "http://127.0.0.1:9/app";
const provider = await startProvider({
  port: Number(process.env.OIDC_PORT),
  redirectUris: [`${site}/api/auth/callback/work`],
  clientSecret: process.env.OIDC_SECRET,
});
const mails = [];
const post = createServer((request, response) => {
  let body = "";
  request.on("data", (chunk) => (body += chunk)).on("end", () => (mails.push(JSON.parse(body)), response.end()));
}).listen(Number(process.env.MAIL_PORT), "127.0.0.1");

const http = (token) => new ConvexHttpClient(url, { auth: token, logger: false });
const signIn = (args, token) => http(token).action(api.auth.signIn, args);
const claims = (token) => JSON.parse(Buffer.from(token.split(".")[1], "base64url"));
const me = (token) => http(token).query(api.messages.me);

await check("the app publishes its keys", async () => {
  const discovery = await (await fetch(`${site}/.well-known/openid-configuration`)).json();
  assert.deepEqual([discovery.issuer, discovery.jwks_uri], [site, `${site}/.well-known/jwks.json`]);
  assert.equal((await (await fetch(discovery.jwks_uri)).json()).keys.length, 1);
});

const password = { provider: "password", params: { email: "ann@example.com", password: "correct horse", flow: "signUp" } };
let ann;

await check("signing up and in with a password", async () => {
  ann = (await signIn(password)).tokens;
  assert.equal(claims(ann.token).iss, site);
  const user = await me(ann.token);
  assert.equal(user.email, "ann@example.com");
  assert.equal(claims(ann.token).sub, `${user.id}|${user.session}`);
  const again = (await signIn({ ...password, params: { ...password.params, flow: "signIn" } })).tokens;
  const other = await me(again.token);
  assert.equal(other.id, user.id, "the same person");
  assert.notEqual(other.session, user.session, "in another session");
  for (const params of [{ ...password.params, flow: "signIn", password: "wrong horse" }, { email: "nobody@example.com", password: "correct horse", flow: "signIn" }, { email: "b@example.com", password: "short", flow: "signUp" }]) {
    await rejection(signIn({ provider: "password", params }));
  }
  assert.equal(await http(undefined).query(api.auth.isAuthenticated), false);
  assert.equal(await http(ann.token).query(api.auth.isAuthenticated), true);
});

await check("a refresh gives new tokens, and an old refresh token does not for long", async () => {
  const next = (await signIn({ refreshToken: ann.refreshToken })).tokens;
  assert.notEqual(next.refreshToken, ann.refreshToken);
  assert.equal((await me(next.token)).email, "ann@example.com");
  assert.equal((await signIn({ refreshToken: "nonsense" }).catch(() => ({ tokens: null }))).tokens, null);
  ann = next;
});

const dora = { email: "dora@example.com", password: "correct horse" };
const mailed = () => mails.splice(0).at(-1);
let reused;

await check("an address is checked by a code before anybody is signed in", async () => {
  const checked = (params, provider = "checked") => signIn({ provider, params });
  assert.equal((await checked({ ...dora, flow: "signUp" })).tokens ?? null, null, "not yet");
  const sent = mailed();
  assert.deepEqual([sent.to, sent.id], [dora.email, "verify"]);
  await rejection(checked({ email: dora.email, code: "0000000000", flow: "email-verification" }));
  assert.equal((await checked({ ...dora, flow: "signIn" })).tokens ?? null, null, "still not; there is a new code");
  const { tokens } = await checked({ email: dora.email, code: mailed().code, flow: "email-verification" });
  assert.equal((await me(tokens.token)).email, dora.email);
  assert.ok((await checked({ ...dora, flow: "signIn" })).tokens, "from now on the password will do");
});

await check("a forgotten password is set anew by a code, and signs out who was there", async () => {
  const reset = (params) => signIn({ provider: "checked", params: { email: dora.email, ...params } });
  const before = (await reset({ password: dora.password, flow: "signIn" })).tokens;
  await reset({ flow: "reset" });
  const sent = mailed();
  assert.equal(sent.id, "reset");
  await rejection(reset({ code: "0000000000", newPassword: "battery staple", flow: "reset-verification" }));
  await rejection(reset({ code: sent.code, newPassword: "short", flow: "reset-verification" }));
  await reset({ flow: "reset" });
  const { tokens } = await reset({ code: mailed().code, newPassword: "battery staple", flow: "reset-verification" });
  assert.equal((await me(tokens.token)).email, dora.email);
  await rejection(reset({ password: dora.password, flow: "signIn" }));
  assert.ok((await reset({ password: "battery staple", flow: "signIn" })).tokens);
  assert.equal((await signIn({ refreshToken: before.refreshToken })).tokens, null, "the older sessions are over");
  const first = (await reset({ password: "battery staple", flow: "signIn" })).tokens;
  const second = (await signIn({ refreshToken: first.refreshToken })).tokens;
  reused = { old: first.refreshToken, newest: (await signIn({ refreshToken: second.refreshToken })).tokens.refreshToken, at: Date.now() };
});

await check("two sessions are apart: signing out of one leaves the other", async () => {
  const second = (await signIn({ ...password, params: { ...password.params, flow: "signIn" } })).tokens;
  const open = { first: new ConvexClient(url, { logger: false }), second: new ConvexClient(url, { logger: false }) };
  open.first.setAuth(async () => ann.token);
  open.second.setAuth(async () => second.token);
  const seen = { first: watch(open.first, api.messages.me), second: watch(open.second, api.messages.me) };
  await until(() => seen.first.value?.session && seen.second.value?.session, "both are signed in");
  assert.notEqual(seen.first.value.session, seen.second.value.session);
  const list = watch(open.second, api.messages.list);
  await open.first.mutation(api.messages.send, { body: "hello" });
  await until(() => list.value?.includes("hello"), "one sees what the other writes");
  await open.first.action(api.auth.signOut, {});
  assert.equal((await signIn({ refreshToken: ann.refreshToken })).tokens, null, "its session is over");
  assert.ok((await signIn({ refreshToken: second.refreshToken })).tokens, "and the other goes on");
  await open.first.close();
  await open.second.close();
});

await check("signing in with a link by mail", async () => {
  const started = await signIn({ provider: "magic-link", params: { email: "bea@example.com" } });
  assert.equal(started.started, true);
  const [mail] = mails.splice(0);
  assert.equal(mail.to, "bea@example.com");
  assert.ok(mail.link.startsWith(SITE_URL), mail.link);
  const code = new URL(mail.link).searchParams.get("code");
  const { tokens } = await signIn({ params: { code } });
  assert.equal((await me(tokens.token)).email, "bea@example.com");
  const used = await signIn({ params: { code } }).catch(() => ({ tokens: null }));
  assert.equal(used.tokens, null, "a link works once");
});

await check("signing in at an OpenID Connect provider", async () => {
  const { redirect, verifier } = await signIn({ provider: "work", params: {} });
  assert.ok(redirect.startsWith(`${site}/api/auth/signin/work`), redirect);
  const end = await signInAt(redirect, "ann", (address) => address.startsWith(SITE_URL));
  const code = new URL(end).searchParams.get("code");
  assert.ok(code, `no code in ${end}`);
  const { tokens } = await signIn({ params: { code }, verifier });
  const user = await me(tokens.token);
  assert.equal(user.name, "Ann Lee");
  const stolen = await signInAt((await signIn({ provider: "work", params: {} })).redirect, "bob", (address) => address.startsWith(SITE_URL));
  const without = await signIn({ params: { code: new URL(stolen).searchParams.get("code") } }).catch(() => ({ tokens: null }));
  assert.equal(without.tokens, null, "a code is worth nothing without its verifier");
});

await check("a token that runs out is renewed without anybody noticing", async () => {
  let tokens = (await signIn({ ...password, params: { ...password.params, flow: "signIn" } })).tokens;
  await sleep(1_100); // Two tokens of one second are the same text, which the client takes for "no newer one".
  const client = new ConvexClient(url, { logger: false });
  const states = [];
  let refreshes = 0;
  client.setAuth(
    async ({ forceRefreshToken }) => {
      if (forceRefreshToken) {
        refreshes += 1;
        tokens = (await signIn({ refreshToken: tokens.refreshToken })).tokens;
      }
      return tokens.token;
    },
    (signedIn) => states.push(signedIn),
  );
  const seen = watch(client, api.messages.me);
  await until(() => seen.value?.email === "ann@example.com", "signed in");
  await until(() => refreshes >= 2, "refreshed");
  await client.mutation(api.messages.send, { body: "still here" });
  assert.deepEqual([...new Set(states)], [true]);
  await client.close();
});

await check("a refresh token that is used again later ends what came of it", async () => {
  await sleep(Math.max(0, reused.at + 10_500 - Date.now())); // For ten seconds it may be a request that was repeated.
  assert.equal((await signIn({ refreshToken: reused.old })).tokens, null);
  assert.equal((await signIn({ refreshToken: reused.newest })).tokens, null);
});

post.close();
await provider.close();
finish();
