import type { OptimisticLocalStore } from "convex/browser";
import { insertAtTop, usePaginatedQuery } from "convex/react";
import { useState, type FormEvent } from "react";
import { api } from "../convex/_generated/api";
import type { Id } from "../convex/_generated/dataModel";
import { useSyncedQuery } from "./useSyncedQuery";

const CHANNELS = ["general", "random"];
const PAGE = 20;

export function App() {
  const [channel, setChannel] = useState(CHANNELS[0]);
  const [author, setAuthor] = useState(() => localStorage.getItem("author") ?? "Anonymous");

  const { data: topic, status, pending, write } = useSyncedQuery(
    api.messages.topic,
    { channel },
    api.messages.send,
    showAtOnce,
  );

  const rename = (name: string) => {
    setAuthor(name);
    localStorage.setItem("author", name);
  };

  return (
    <main>
      <header>
        <h1>{{name}}</h1>
        <nav>
          {CHANNELS.map((name) => (
            <button key={name} className={name === channel ? "active" : ""} onClick={() => setChannel(name)}>
              # {name}
            </button>
          ))}
        </nav>
        <label>
          You are{" "}
          <input value={author} onChange={(event) => rename(event.target.value)} aria-label="Your name" />
        </label>
        <span className={`status ${status}`}>{status}</span>
      </header>
      <p className="topic">{topic ?? "…"}</p>
      <Messages key={channel} channel={channel} />
      {status === "offline" && pending.length > 0 && (
        <p className="hint">{pending.length} not sent yet: they go out when the connection is back.</p>
      )}
      <Composer channel={channel} send={(body) => write({ channel, author, body })} />
    </main>
  );
}

/** The message shows at once; when the server answers, its own result takes the place of this guess. */
function showAtOnce(localStore: OptimisticLocalStore, message: typeof api.messages.send._args) {
  insertAtTop({
    paginatedQuery: api.messages.list,
    argsToMatch: { channel: message.channel },
    localQueryStore: localStore,
    item: {
      ...message,
      _id: crypto.randomUUID() as Id<"messages">,
      _creationTime: Date.now(),
    },
  });
}

function Messages({ channel }: { channel: string }) {
  const { results, status, loadMore } = usePaginatedQuery(
    api.messages.list,
    { channel },
    { initialNumItems: PAGE },
  );
  return (
    <section className="messages" aria-live="polite">
      {results.map((message) => (
        <article key={message._id}>
          <strong>{message.author}</strong>
          <span className="body">{message.body}</span>
          <time>{new Date(message._creationTime).toLocaleTimeString()}</time>
        </article>
      ))}
      {status === "LoadingFirstPage" && <p className="hint">Loading…</p>}
      {status !== "LoadingFirstPage" && results.length === 0 && <p className="hint">Nothing here yet. Say hello!</p>}
      {status === "CanLoadMore" && <button onClick={() => loadMore(PAGE)}>Load more</button>}
      {status === "LoadingMore" && <button disabled>Loading…</button>}
    </section>
  );
}

function Composer({ channel, send }: { channel: string; send: (body: string) => Promise<unknown> }) {
  const [body, setBody] = useState("");
  const [error, setError] = useState<string | null>(null);

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    const text = body.trim();
    if (!text) return;
    setBody("");
    setError(null);
    try {
      await send(text);
    } catch (reason) {
      setBody(text);
      setError(reason instanceof Error ? reason.message : String(reason));
    }
  };

  return (
    <form onSubmit={submit}>
      <input
        value={body}
        onChange={(event) => setBody(event.target.value)}
        placeholder={`Message #${channel}`}
        aria-label="Message"
        autoFocus
      />
      <button type="submit">Send</button>
      {error && <p className="error">{error}</p>}
    </form>
  );
}
