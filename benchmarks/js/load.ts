// The load generator: speaks the public protocol over raw sockets, with as little work of its own as possible, because it
// shares the machine with what it measures. One JSON configuration as the argument, one JSON result on stdout.
//
// deno run -A load.ts '{"mode": "http", "url": "http://127.0.0.1:3210", ...}'

type Config = Record<string, any>;
const config: Config = JSON.parse(Deno.args[0]);
const encoder = new TextEncoder();
const decoder = new TextDecoder();

function percentiles(samples: number[]) {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (p: number) => sorted.length === 0 ? 0 : sorted[Math.min(sorted.length - 1, Math.floor(p * sorted.length))];
  return { count: sorted.length, p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1) };
}

/** Zipf-distributed account numbers, by inverse of the cumulative weights. */
function picker(count: number, alpha: number): () => number {
  if (alpha === 0) return () => Math.floor(Math.random() * count);
  const cumulative = new Float64Array(count);
  let sum = 0;
  for (let i = 0; i < count; i++) cumulative[i] = sum += 1 / Math.pow(i + 1, alpha);
  return () => {
    const target = Math.random() * sum;
    let low = 0, high = count - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (cumulative[middle] < target) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}

/** One keep-alive HTTP/1.1 connection; a request at a time. */
class HttpConnection {
  private buffer = new Uint8Array(1 << 16);
  private constructor(private connection: Deno.Conn, private host: string) {}
  static async open(url: URL) {
    const connection = await Deno.connect({ hostname: url.hostname, port: Number(url.port) });
    (connection as Deno.TcpConn).setNoDelay(true);
    return new HttpConnection(connection, url.host);
  }
  async post(path: string, body: string): Promise<string> {
    const bytes = encoder.encode(body);
    const head = `POST ${path} HTTP/1.1\r\nhost: ${this.host}\r\ncontent-type: application/json\r\n` +
      `convex-client: npm-1.48.0\r\ncontent-length: ${bytes.length}\r\n\r\n`;
    const message = encoder.encode(head + body);
    let sent = 0;
    while (sent < message.length) sent += await this.connection.write(message.subarray(sent));
    let filled = 0;
    while (true) {
      if (filled === this.buffer.length) {
        const larger = new Uint8Array(this.buffer.length * 2);
        larger.set(this.buffer);
        this.buffer = larger;
      }
      const read = await this.connection.read(this.buffer.subarray(filled));
      if (read === null) throw new Error("connection closed");
      filled += read;
      const text = decoder.decode(this.buffer.subarray(0, Math.min(filled, 2048)));
      const end = text.indexOf("\r\n\r\n");
      if (end < 0) continue;
      const length = /content-length: (\d+)/i.exec(text);
      if (length !== null) {
        if (filled < end + 4 + Number(length[1])) continue;
      } else if (decoder.decode(this.buffer.subarray(filled - 5, filled)) !== "0\r\n\r\n") continue; // Chunks.
      const status = Number(text.slice(9, 12));
      const payload = decoder.decode(this.buffer.subarray(end + 4, filled));
      if (status !== 200) throw new Error(`${status} ${payload}`);
      return payload;
    }
  }
  close() { this.connection.close(); }
}

/** One sync socket; answers are matched by request id or query id. */
class Sync {
  private next = 0;
  private version = 0;
  private queries = 0;
  private waiting = new Map<number, (message: any) => void>();
  onQuery = new Map<number, (value: any) => void>();
  private constructor(private socket: WebSocket) {
    socket.onmessage = (event) => this.receive(JSON.parse(event.data));
  }
  static open(url: string): Promise<Sync> {
    const socket = new WebSocket(url.replace("http", "ws") + "/api/1.48.0/sync");
    return new Promise((resolve, reject) => {
      socket.onerror = () => reject(new Error("socket failed"));
      socket.onopen = () => {
        const sync = new Sync(socket);
        sync.send({ type: "Connect", connectionCount: 0, lastCloseReason: "InitialConnect", sessionId: crypto.randomUUID(), clientTs: Date.now() });
        resolve(sync);
      };
    });
  }
  private send(message: unknown) { this.socket.send(JSON.stringify(message)); }
  private receive(message: any) {
    if (message.type === "MutationResponse") {
      const resolve = this.waiting.get(message.requestId);
      this.waiting.delete(message.requestId);
      resolve?.(message);
    } else if (message.type === "Transition") {
      for (const change of message.modifications)
        if (change.type === "QueryUpdated") this.onQuery.get(change.queryId)?.(change.value);
        else if (change.type === "QueryFailed") throw new Error(change.errorMessage);
    } else if (message.type === "FatalError") throw new Error(message.error);
  }
  mutate(udfPath: string, args: unknown): Promise<any> {
    const requestId = this.next++;
    return new Promise((resolve, reject) => {
      this.waiting.set(requestId, (message) => message.success ? resolve(message) : reject(new Error(message.result)));
      this.send({ type: "Mutation", requestId, udfPath, args: [args] });
    });
  }
  modify(modifications: unknown[]) {
    this.send({ type: "ModifyQuerySet", baseVersion: this.version, newVersion: ++this.version, modifications });
  }
  subscribe(udfPath: string, args: unknown, onValue: (value: any) => void): number {
    const queryId = this.queries++;
    this.onQuery.set(queryId, onValue);
    this.modify([{ type: "Add", queryId, udfPath, args: [args] }]);
    return queryId;
  }
  subscribeMany(udfPath: string, list: unknown[], onValue: (index: number, value: any) => void) {
    this.modify(list.map((args, index) => {
      const queryId = this.queries++;
      this.onQuery.set(queryId, (value) => onValue(index, value));
      return { type: "Add", queryId, udfPath, args: [args] };
    }));
  }
  once(udfPath: string, args: unknown): Promise<any> {
    return new Promise((resolve) => {
      const queryId = this.subscribe(udfPath, args, (value) => {
        this.onQuery.delete(queryId);
        this.modify([{ type: "Remove", queryId }]);
        resolve(value);
      });
    });
  }
  close() { this.socket.close(); }
}

/** Runs `worker` on every client until the time is up; latencies of the counted part only. */
async function drive(clients: number, seconds: number, warmup: number, worker: (client: number) => Promise<void>) {
  const begin = performance.now();
  const countFrom = begin + warmup * 1000, until = countFrom + seconds * 1000;
  const samples: number[] = [];
  let failures = 0, firstFailure = "";
  await Promise.all(Array.from({ length: clients }, async (_, client) => {
    while (performance.now() < until) {
      const started = performance.now();
      try { await worker(client); } catch (error) { failures++; firstFailure ||= String(error); if (failures > 1000) return; continue; }
      const finished = performance.now();
      if (started >= countFrom && finished <= until) samples.push(finished - started);
    }
  }));
  return { perSecond: samples.length / seconds, failures, firstFailure, ...percentiles(samples) };
}

function callBody(path: string, args: unknown) { return JSON.stringify({ path, format: "convex_encoded_json", args: [args] }); }

async function http() {
  const url = new URL(config.url);
  const connections = await Promise.all(Array.from({ length: config.clients }, () => HttpConnection.open(url)));
  const pick = picker(config.accounts ?? 1, config.alpha ?? 0);
  let salt = 0;
  const request: Record<string, () => [string, string]> = {
    "query": () => ["/api/query", callBody("bench:one", { n: pick(), salt: salt++ })],
    "cached-query": () => ["/api/query", callBody("bench:one", { n: 7 })],
    "collect": () => ["/api/query", callBody("bench:list", { group: config.group, salt: salt++ })],
    "transfer": () => ["/api/mutation", callBody("bench:transfer", { from: pick(), to: pick(), amount: 1 })],
    "pong": () => ["/http/pong", "{}"],
    "http-query": () => ["/http/one", JSON.stringify({ n: pick(), salt: salt++ })],
    "raw-transfer": () => ["/transfer", JSON.stringify({ from: pick(), to: pick(), amount: 1 })],
  };
  const make = request[config.request];
  const result = await drive(config.clients, config.seconds, config.warmup ?? 1, async (client) => {
    const answer = await connections[client].post(...make());
    if (answer.startsWith('{"status":"error"')) throw new Error(answer);
  });
  connections.forEach((connection) => connection.close());
  return result;
}

async function sockets() {
  const clients = await Promise.all(Array.from({ length: config.clients }, () => Sync.open(config.url)));
  const pick = picker(config.accounts ?? 1, config.alpha ?? 0);
  let salt = 0;
  const work: Record<string, (sync: Sync) => Promise<unknown>> = {
    "query": (sync) => sync.once("bench:one", { n: pick(), salt: salt++ }),
    "cached-query": (sync) => sync.once("bench:one", { n: 7 }),
    "transfer": (sync) => sync.mutate("bench:transfer", { from: pick(), to: pick(), amount: 1 }),
  };
  const one = work[config.request];
  const result = await drive(config.clients, config.seconds, config.warmup ?? 1, async (client) => { await one(clients[client]); });
  clients.forEach((client) => client.close());
  return result;
}

/** One writer, many subscribers to one query: from the mutation's sending to the last subscriber's update. */
async function fanout() {
  const writer = await Sync.open(config.url);
  await writer.mutate("bench:bump", { group: config.group });
  const subscribers = await Promise.all(Array.from({ length: config.subscribers }, () => Sync.open(config.url)));
  let seen = 0, allSeen: () => void = () => {};
  const first = new Promise<void>((resolve) => allSeen = resolve);
  for (const subscriber of subscribers)
    subscriber.subscribe("bench:list", { group: config.group }, () => { if (++seen === config.subscribers) allSeen(); });
  await first;
  const toAll: number[] = [], toResponse: number[] = [];
  for (let round = 0; round < config.rounds; round++) {
    seen = 0;
    const done = new Promise<void>((resolve) => allSeen = resolve);
    const started = performance.now();
    await writer.mutate("bench:bump", { group: config.group });
    toResponse.push(performance.now() - started);
    await done;
    toAll.push(performance.now() - started);
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
  subscribers.forEach((subscriber) => subscriber.close());
  writer.close();
  return { toAll: percentiles(toAll), toResponse: percentiles(toResponse) };
}

/** Many different subscriptions; each write touches one of them. */
async function subscriptions() {
  const writer = await Sync.open(config.url);
  const perSocket = Math.ceil(config.subscriptions / config.sockets);
  let updates = 0, ready: () => void = () => {};
  const first = new Promise<void>((resolve) => ready = resolve);
  const total = perSocket * config.sockets;
  const sockets: Sync[] = [];
  for (let s = 0; s < config.sockets; s++) {
    const sync = await Sync.open(config.url);
    sockets.push(sync);
    sync.subscribeMany("bench:list", Array.from({ length: perSocket }, (_, i) => ({ group: 1_000_000 + s * perSocket + i })),
      () => { if (++updates === total) ready(); });
  }
  await first;
  const result = await drive(1, config.seconds, 1, () => writer.mutate("bench:bump", { group: 1_000_000 + Math.floor(Math.random() * total) }));
  sockets.forEach((sync) => sync.close());
  writer.close();
  return { subscriptions: total, ...result };
}

const modes: Record<string, () => Promise<unknown>> = { http, sockets, fanout, subscriptions };
console.log(JSON.stringify(await modes[config.mode]()));
Deno.exit(0);
