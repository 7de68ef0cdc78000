// Better Auth in a component: signing up, in and out, and functions that know who calls.

import { createAuthClient } from "better-auth/client";
import { convexClient } from "@convex-dev/better-auth/client/plugins";
import { ConvexClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { assert, check, finish, rejection, until, url, watch } from "./harness.mjs";

const site = process.argv[4];
const { auth } = api;

/** A browser, as far as Better Auth's client is concerned: it keeps cookies and says where it comes from. */
function browser() {
  const jar = new Map();
  const customFetchImpl = async (input, init = {}) => {
    const headers = new Headers(init.headers);
    headers.set("Origin", "http://localhost:5173");
    if (jar.size > 0) headers.set("Cookie", [...jar].map(([name, value]) => `${name}=${value}`).join("; "));
    const response = await fetch(input, { ...init, headers });
    for (const cookie of response.headers.getSetCookie()) {
      const [pair, ...rest] = cookie.split(";");
      const at = pair.indexOf("=");
      if (rest.some((part) => /max-age=0/i.test(part))) jar.delete(pair.slice(0, at));
      else jar.set(pair.slice(0, at), pair.slice(at + 1));
    }
    return response;
  };
  return createAuthClient({ baseURL: site, plugins: [convexClient()], fetchOptions: { customFetchImpl } });
}

async function signedIn(client) {
  const live = new ConvexClient(url, { logger: false });
  live.setAuth(async () => (await client.convex.token()).data?.token ?? null);
  return live;
}

const ada = browser();

await check("signing up makes a user in the component and a profile in the app", async () => {
  const { data, error } = await ada.signUp.email({ email: "ada@example.com", password: "correct horse", name: "Ada" });
  assert.equal(error, null);
  assert.equal(data.user.email, "ada@example.com");
  const live = await signedIn(ada);
  const me = watch(live, auth.me);
  await until(() => me.value, "functions knowing who calls");
  assert.deepEqual(me.value, { email: "ada@example.com", name: "Ada", profile: "Ada" });
  await live.mutation(auth.write, { text: "first" });
  assert.deepEqual(await live.query(auth.mine), ["first"]);
  await live.close();
});

await check("the same address does not sign up twice, and a wrong password does not sign in", async () => {
  const again = await browser().signUp.email({ email: "ada@example.com", password: "another one", name: "Eve" });
  assert.equal(again.error.status, 422);
  const wrong = await browser().signIn.email({ email: "ada@example.com", password: "battery staple" });
  assert.equal(wrong.error.status, 401);
});

await check("signing in from elsewhere shows one's own notes; others see theirs", async () => {
  const other = browser();
  assert.equal((await other.signIn.email({ email: "ada@example.com", password: "correct horse" })).error, null);
  const live = await signedIn(other);
  assert.deepEqual(await until(() => live.query(auth.mine).catch(() => null), "the notes"), ["first"]);
  const bob = browser();
  assert.equal((await bob.signUp.email({ email: "bob@example.com", password: "staple battery", name: "Bob" })).error, null);
  const bobs = await signedIn(bob);
  assert.deepEqual(await until(() => bobs.query(auth.mine).catch(() => null), "Bob's notes"), []);
  await live.close();
  await bobs.close();
});

await check("whoever signed out is nobody", async () => {
  const session = await ada.getSession();
  assert.equal(session.data.user.name, "Ada");
  assert.equal((await ada.signOut()).error, null);
  assert.equal((await ada.getSession()).data, null);
  const live = await signedIn(ada);
  assert.equal(await live.query(auth.me), null);
  assert.match((await rejection(live.mutation(auth.write, { text: "no" }))).message, /Unauthenticated/);
  await live.close();
});

finish();
