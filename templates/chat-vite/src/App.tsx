import { insertAtTop, useMutation, usePaginatedQuery, useQuery } from "convex/react";
import { useState, type FormEvent } from "react";
import { api } from "../convex/_generated/api";
import type { Id } from "../convex/_generated/dataModel";

const CHANNELS = ["general", "random"];
const PAGE = 20;

export function App() {
  const [channel, setChannel] = useState(CHANNELS[0]);
  const [author, setAuthor] = useState(() => localStorage.getItem("author") ?? "Anonymous");

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
      </header>
      <Topic channel={channel} />
      <Messages key={channel} channel={channel} />
      <Composer channel={channel} author={author} />
    </main>
  );
}

function Topic({ channel }: { channel: string }) {
  const topic = useQuery(api.messages.topic, { channel });
  return <p className="topic">{topic ?? "…"}</p>;
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

function Composer({ channel, author }: { channel: string; author: string }) {
  const [body, setBody] = useState("");
  const [error, setError] = useState<string | null>(null);
  // The message shows at once; when the server answers, its own result takes the place of this guess.
  const send = useMutation(api.messages.send).withOptimisticUpdate((localStore, message) => {
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
  });

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    const text = body.trim();
    if (!text) return;
    setBody("");
    setError(null);
    try {
      await send({ channel, author, body: text });
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
