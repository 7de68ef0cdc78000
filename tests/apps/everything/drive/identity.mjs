import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { adminKey, assert, check, rejection, until, url, watch } from "../harness.mjs";

const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const now = Math.floor(Date.now() / 1000);
const forged = `${part({ alg: "RS256", typ: "JWT" })}.${part({ iss: "https://nobody.example.com", aud: "convex", sub: "me", iat: now, exp: now + 3600 })}.c2lnbmF0dXJl`;

export async function run() {
  await check("nobody is signed in", async () => {
    assert.equal(await new ConvexHttpClient(url).query(api.identity.whoami), null);
  });

  await check("a token that no provider issued: refused over HTTP, signed out over WebSocket", async () => {
    for (const token of [forged, "not a token"]) {
      const error = await rejection(new ConvexHttpClient(url, { auth: token }).query(api.identity.whoami));
      assert.match(error.message, /"code":"[A-Za-z]+"/);
    }
    const live = new ConvexClient(url, { logger: false });
    const states = [];
    live.setAuth(async () => forged, (signedIn) => states.push(signedIn));
    const seen = watch(live, api.identity.whoami);
    await until(() => states.length > 0 && seen.values.length > 0, "the client gives up signing in, and goes on");
    assert.deepEqual([states.at(-1), seen.value], [false, null]);
    assert.equal(await live.mutation(api.kinds.echoFromMutation, { value: "still works" }), "still works");
    await live.close();
  });

  await check("admins may call what is internal, also in someone's name", async () => {
    const http = new ConvexHttpClient(url, { logger: false });
    http.setAdminAuth(adminKey);
    assert.equal(await http.query(api.nesting.secret, { n: 21 }), 42);
    assert.equal(await http.function("nesting:secret", undefined, { n: 4 }), 8);
    http.setAdminAuth(adminKey, { issuer: "https://issuer.example.com", subject: "ada", name: "Ada", email: "ada@example.com", team: "blue" });
    const ada = await http.query(api.identity.whoami);
    assert.equal(ada.tokenIdentifier, "https://issuer.example.com|ada");
    assert.deepEqual([ada.name, ada.email, ada.subject, ada.team], ["Ada", "ada@example.com", "ada", "blue"]);
    const wrong = new ConvexHttpClient(url, { logger: false });
    wrong.setAdminAuth("wrong|key");
    assert.match((await rejection(wrong.query(api.nesting.secret, { n: 1 }))).message, /BadAdminKey/);
  });

  await check("results are kept apart by who asks", async () => {
    const as = (subject) => {
      const http = new ConvexHttpClient(url, { logger: false });
      http.setAdminAuth(adminKey, { issuer: "https://issuer.example.com", subject });
      return http.query(api.identity.whoami);
    };
    const subjects = await Promise.all(["a", "b", "a", "c", "b"].map(async (subject) => (await as(subject)).subject));
    assert.deepEqual(subjects, ["a", "b", "a", "c", "b"]);
    assert.equal(await new ConvexHttpClient(url).query(api.identity.whoami), null);
  });

  await check("queries at one moment", async () => {
    const http = new ConvexHttpClient(url, { logger: false });
    const before = await http.consistentQuery(api.writing.count, { group: "moment" });
    await http.mutation(api.writing.insert, { text: "later", group: "moment" });
    assert.deepEqual(before, []);
    assert.deepEqual(await http.consistentQuery(api.writing.count, { group: "moment" }), []);
    assert.deepEqual(await http.query(api.writing.count, { group: "moment" }), ["later"]);
  });
}
