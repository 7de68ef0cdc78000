// A page whose people sign in at an OpenID Connect provider (here with oidc-client-ts; any library will do).

import { useCallback, useEffect, useMemo, useState } from "react";
import { createRoot } from "react-dom/client";
import { UserManager, WebStorageStateStore } from "oidc-client-ts";
import { Authenticated, AuthLoading, ConvexProviderWithAuth, ConvexReactClient, Unauthenticated, useMutation, useQuery } from "convex/react";
import { anyApi as api } from "convex/server";

const manager = new UserManager({
  authority: window.OIDC_ISSUER,
  client_id: "app",
  redirect_uri: `${location.origin}/`,
  scope: "openid profile email offline_access",
  automaticSilentRenew: false, // The Convex client asks when it needs a new token.
  userStore: new WebStorageStateStore({ store: localStorage }),
});
window.refreshes = 0;
window.states = [];

/** What ConvexProviderWithAuth asks of an auth library. */
function useAuthFromOidc() {
  const [user, setUser] = useState(undefined);
  useEffect(() => {
    const finish = async () => {
      if (!new URLSearchParams(location.search).has("code")) return await manager.getUser();
      const user = await manager.signinRedirectCallback();
      history.replaceState(null, "", "/");
      return user;
    };
    // In development React runs an effect twice; a code may be used once.
    window.finished ??= finish();
    window.finished.then(setUser, () => setUser(null));
    manager.events.addUserUnloaded(() => setUser(null));
  }, []);
  const fetchAccessToken = useCallback(async ({ forceRefreshToken }) => {
    if (forceRefreshToken) {
      window.refreshes += 1;
      await manager.signinSilent();
    }
    return (await manager.getUser())?.id_token ?? null;
  }, []);
  return useMemo(
    () => ({ isLoading: user === undefined, isAuthenticated: !!user, fetchAccessToken }),
    [user === undefined, !!user, fetchAccessToken],
  );
}

function Notes() {
  const identity = useQuery(api.users.identity);
  const store = useMutation(api.users.store);
  const add = useMutation(api.notes.add);
  const [user, setUser] = useState(null);
  useEffect(() => void store().then(setUser), [identity?.tokenIdentifier]);
  const notes = useQuery(api.notes.mine, user ? {} : "skip");
  return (
    <>
      <p>Hello {identity?.name}</p>
      <ul>{notes?.map((note, n) => <li key={n}>{note}</li>)}</ul>
      <button id="add" disabled={!notes} onClick={() => add({ text: `note ${notes.length + 1}` })}>add</button>
      <button id="out" onClick={() => manager.removeUser()}>sign out</button>
    </>
  );
}

function Seen({ state, children }) {
  useEffect(() => void window.states.push(state), []);
  return children;
}

createRoot(document.getElementById("root")).render(
  <ConvexProviderWithAuth client={new ConvexReactClient(window.CONVEX_URL)} useAuth={useAuthFromOidc}>
    <AuthLoading><Seen state="loading">one moment</Seen></AuthLoading>
    <Unauthenticated>
      <Seen state="out"><button id="in" onClick={() => manager.signinRedirect({ prompt: "consent" })}>sign in</button></Seen>
    </Unauthenticated>
    <Authenticated><Seen state="in"><Notes /></Seen></Authenticated>
  </ConvexProviderWithAuth>,
);
