// A real OpenID Connect provider (npm oidc-provider) on loopback, and how a person signs in there without a browser.

import { createHash, randomBytes, randomUUID } from "node:crypto";
import Provider from "oidc-provider";

const PEOPLE = {
  ann: { name: "Ann Lee", email: "ann@example.com", email_verified: true, given_name: "Ann", updated_at: 1_700_000_000, plan: "pro" },
  bob: { name: "Bob Ray", email: "bob@example.com", email_verified: false },
};

/** Start it. `idTokenSeconds` is how long a token holds. */
export async function startProvider({ idTokenSeconds = 3600, redirectUris = ["http://127.0.0.1/callback"], clientSecret, port = 0 } = {}) {
  const { createServer } = await import("node:http");
  const server = createServer();
  await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const lifetime = { seconds: idTokenSeconds };
  const client = clientSecret
    ? { client_secret: clientSecret, token_endpoint_auth_method: "client_secret_basic" }
    : { token_endpoint_auth_method: "none", application_type: "native" };
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: "app",
        redirect_uris: redirectUris,
        post_logout_redirect_uris: redirectUris,
        grant_types: ["authorization_code", "refresh_token"],
        response_types: ["code"],
        ...client,
      },
    ],
    clientBasedCORS: () => true,
    conformIdTokenClaims: false,
    claims: { openid: ["sub", "jti"], profile: ["name", "given_name", "updated_at", "plan"], email: ["email", "email_verified"] },
    cookies: { keys: ["for this test only"] },
    findAccount: (_, id) => (id in PEOPLE ? { accountId: id, claims: async () => ({ sub: id, jti: randomUUID(), ...PEOPLE[id] }) } : undefined),
    issueRefreshToken: async () => true,
    pkce: { required: () => false },
    scopes: ["openid", "offline_access"],
    ttl: { IdToken: () => lifetime.seconds, AccessToken: 3600, AuthorizationCode: 60, Grant: 3600, Interaction: 600, RefreshToken: 3600, Session: 3600 },
  });
  server.on("request", provider.callback());
  return { issuer, lifetime, provider, close: () => new Promise((resolve) => (server.closeAllConnections(), server.close(resolve))) };
}

/** Follow a sign-in from its first address to the redirect that carries the result; the final address. */
export async function signInAt(start, person, isEnd) {
  const jars = new Map();
  const visit = async (address, form) => {
    const url = new URL(address);
    const jar = jars.get(url.host) ?? jars.set(url.host, new Map()).get(url.host);
    const response = await fetch(url, {
      method: form ? "POST" : "GET",
      redirect: "manual",
      headers: { cookie: [...jar].map(([name, value]) => `${name}=${value}`).join("; ") },
      body: form && new URLSearchParams(form),
    });
    for (const line of response.headers.getSetCookie()) {
      const [name, value] = line.split(";")[0].split(/=(.*)/s);
      if (value) jar.set(name, value);
      else jar.delete(name);
    }
    return response;
  };
  let address = String(start);
  for (let step = 0; step < 20; step += 1) {
    if (isEnd(address)) return address;
    let response = await visit(address);
    if (response.status === 200) {
      const page = await response.text();
      const action = /action="([^"]+)"/.exec(page)?.[1];
      const prompt = /name="prompt" value="(\w+)"/.exec(page)?.[1];
      if (!action || !prompt) throw new Error(`no form at ${address}: ${page.slice(0, 500)}`);
      response = await visit(new URL(action, address), prompt === "login" ? { prompt, login: person, password: "x" } : { prompt });
    }
    const location = response.headers.get("location");
    if (location === null) throw new Error(`${address} led nowhere: ${response.status} ${(await response.text()).slice(0, 500)}`);
    address = String(new URL(location, address));
  }
  throw new Error("the sign-in went in circles");
}

/** Sign in with the authorization code flow and PKCE: `{ idToken, refresh() }`, as a page's OpenID library does it. */
export async function signIn(issuer, person, redirectUri = "http://127.0.0.1/callback") {
  const verifier = randomBytes(32).toString("base64url");
  const challenge = createHash("sha256").update(verifier).digest("base64url");
  const parameters = { client_id: "app", response_type: "code", scope: "openid profile email offline_access", prompt: "consent", redirect_uri: redirectUri, code_challenge: challenge, code_challenge_method: "S256", state: "s" };
  const end = await signInAt(`${issuer}/auth?${new URLSearchParams(parameters)}`, person, (address) => address.startsWith(redirectUri));
  const code = new URL(end).searchParams.get("code");
  const tokens = await grant(issuer, { grant_type: "authorization_code", code, redirect_uri: redirectUri, code_verifier: verifier });
  let refreshToken = tokens.refresh_token;
  return {
    idToken: tokens.id_token,
    refresh: async () => {
      const next = await grant(issuer, { grant_type: "refresh_token", refresh_token: refreshToken });
      refreshToken = next.refresh_token ?? refreshToken;
      return next.id_token;
    },
  };
}

async function grant(issuer, form) {
  const response = await fetch(`${issuer}/token`, { method: "POST", body: new URLSearchParams({ client_id: "app", ...form }) });
  const answer = await response.json();
  if (!answer.id_token) throw new Error(`no token: ${JSON.stringify(answer)}`);
  return answer;
}
