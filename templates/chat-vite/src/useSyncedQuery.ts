import { useConvexConnectionState, useMutation, useQuery } from "convex/react";
import type { OptimisticUpdate } from "convex/browser";
import { getFunctionName, type FunctionArgs, type FunctionReference, type FunctionReturnType } from "convex/server";
import { convexToJson, jsonToConvex, type Value } from "convex/values";
import { useCallback, useEffect, useMemo, useSyncExternalStore } from "react";

/** "synced": the page shows what the server has. "syncing": on its way. "offline": no connection; writes wait. */
export type SyncStatus = "synced" | "syncing" | "offline";

type Args = Record<string, Value>;
type Waiting = { key: string; args: Args; at: number };

/**
 * A query that says how fresh it is, and a write that survives a lost connection and a closed page.
 *
 * `write` sends the mutation with a `key` made for it, and keeps both in the browser until the server has answered.
 * What is left over is sent again when the page is opened the next time, so a write can reach the server twice: the
 * mutation must take the argument `key` and do nothing for one it has seen (see `send` in convex/messages.ts).
 * What the query showed last is kept too, so that there is something to look at before there is a connection.
 */
export function useSyncedQuery<
  Query extends FunctionReference<"query">,
  Mutation extends FunctionReference<"mutation">,
>(
  query: Query,
  args: FunctionArgs<Query>,
  mutation: Mutation,
  optimisticUpdate?: OptimisticUpdate<FunctionArgs<Mutation>>,
): {
  data: FunctionReturnType<Query> | undefined;
  status: SyncStatus;
  pending: Omit<FunctionArgs<Mutation>, "key">[];
  write: (args: Omit<FunctionArgs<Mutation>, "key">) => Promise<FunctionReturnType<Mutation>>;
} {
  const live = useQuery(query, args) as FunctionReturnType<Query> | undefined;
  const shelf = `synced:result:${getFunctionName(query)}:${JSON.stringify(convexToJson(args as Args))}`;
  useEffect(() => {
    if (live !== undefined) store(shelf, live as Value);
  }, [shelf, live]);
  const remembered = useMemo(() => load(shelf), [shelf]);

  const queue = queueOf(getFunctionName(mutation));
  const waiting = useSyncExternalStore(queue.subscribe, queue.entries);
  const plain = useMutation(mutation);
  const call = useMemo(
    () => (optimisticUpdate ? plain.withOptimisticUpdate(optimisticUpdate) : plain),
    [plain, optimisticUpdate],
  ) as unknown as (args: Args) => Promise<FunctionReturnType<Mutation>>;

  const send = useCallback(
    async ({ key, args }: Waiting) => {
      queue.sending.add(key);
      try {
        return await call({ ...args, key });
      } finally {
        // The server has answered, if only to refuse it. (Without a connection the client waits and sends it later.)
        queue.sending.delete(key);
        queue.remove(key);
      }
    },
    [call, queue],
  );

  useEffect(() => {
    // Left over from an earlier visit. A refusal has nobody to be told to any more than the console.
    for (const entry of queue.entries()) {
      if (!queue.sending.has(entry.key)) send(entry).catch(console.error);
    }
  }, [queue, send]);

  const write = useCallback(
    (args: Omit<FunctionArgs<Mutation>, "key">) => {
      return send(queue.add(args as Args));
    },
    [queue, send],
  );

  const connection = useConvexConnectionState();
  const lost = connection.hasEverConnected || connection.connectionRetries > 0;
  const status: SyncStatus =
    !connection.isWebSocketConnected && lost
      ? "offline"
      : !connection.isWebSocketConnected || live === undefined || waiting.length > 0
        ? "syncing"
        : "synced";
  return {
    data: live ?? (remembered as FunctionReturnType<Query> | undefined),
    status,
    pending: waiting.map((entry) => entry.args) as Omit<FunctionArgs<Mutation>, "key">[],
    write,
  };
}

/**
 * The writes of one mutation that the server has not answered, oldest first, kept in the browser: each under a name of
 * its own, so that two open pages do not overwrite each other's.
 */
class Queue {
  readonly sending = new Set<string>();
  private waiting: Waiting[];
  private readonly listeners = new Set<() => void>();

  constructor(private readonly shelf: string) {
    this.waiting = shelves(shelf)
      .map((each) => load(each) as Waiting | undefined)
      .filter((entry) => entry !== undefined)
      .sort((one, other) => one.at - other.at);
  }

  readonly entries = () => this.waiting;

  readonly subscribe = (listener: () => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  add(args: Args): Waiting {
    const at = Math.max(Date.now(), (this.waiting.at(-1)?.at ?? 0) + 1);
    const entry = { key: crypto.randomUUID(), args, at };
    store(this.shelf + entry.key, entry);
    this.replace([...this.waiting, entry]);
    return entry;
  }

  remove(key: string) {
    forget(this.shelf + key);
    this.replace(this.waiting.filter((entry) => entry.key !== key));
  }

  private replace(waiting: Waiting[]) {
    this.waiting = waiting;
    this.listeners.forEach((listener) => listener());
  }
}

const queues = new Map<string, Queue>();

function queueOf(name: string): Queue {
  const known = queues.get(name) ?? new Queue(`synced:write:${name}:`);
  queues.set(name, known);
  return known;
}

function store(shelf: string, value: Value) {
  try {
    localStorage.setItem(shelf, JSON.stringify(convexToJson(value)));
  } catch {
    // A full or forbidden storage: the page works as one that keeps nothing.
  }
}

function load(shelf: string): Value | undefined {
  try {
    const text = localStorage.getItem(shelf);
    return text === null ? undefined : jsonToConvex(JSON.parse(text));
  } catch {
    return undefined;
  }
}

function forget(shelf: string) {
  try {
    localStorage.removeItem(shelf);
  } catch {
    // As above.
  }
}

function shelves(prefix: string): string[] {
  try {
    return Object.keys(localStorage).filter((name) => name.startsWith(prefix));
  } catch {
    return [];
  }
}
