// The page of an app that uses Convex Auth: three ways to sign in, one way out.

import { createRoot } from "react-dom/client";
import { ConvexAuthProvider, useAuthActions } from "@convex-dev/auth/react";
import { Authenticated, ConvexReactClient, Unauthenticated, useMutation, useQuery } from "convex/react";
import { anyApi as api } from "convex/server";

function SignIn() {
  const { signIn } = useAuthActions();
  const submit = (provider) => (event) => {
    event.preventDefault();
    void signIn(provider, new FormData(event.target)).catch((error) => (window.failure = error.message));
  };
  return (
    <>
      <form id="password" onSubmit={submit("password")}>
        <input name="email" /> <input name="password" type="password" />
        <input name="flow" type="hidden" value="signUp" />
        <button>sign up</button>
      </form>
      <form id="link" onSubmit={submit("magic-link")}>
        <input name="email" /> <button>send me a link</button>
      </form>
      <button id="work" onClick={() => signIn("work")}>sign in with work</button>
    </>
  );
}

function Messages() {
  const { signOut } = useAuthActions();
  const me = useQuery(api.messages.me);
  const messages = useQuery(api.messages.list);
  const send = useMutation(api.messages.send);
  return (
    <>
      <p>Hello {me?.name ?? me?.email}</p>
      <ul>{messages?.map((body, n) => <li key={n}>{body}</li>)}</ul>
      <button id="send" disabled={!messages} onClick={() => send({ body: `message ${messages.length + 1}` })}>send</button>
      <button id="out" onClick={() => signOut()}>sign out</button>
    </>
  );
}

createRoot(document.getElementById("root")).render(
  <ConvexAuthProvider client={new ConvexReactClient(window.CONVEX_URL)}>
    <Unauthenticated><SignIn /></Unauthenticated>
    <Authenticated><Messages /></Authenticated>
  </ConvexAuthProvider>,
);
