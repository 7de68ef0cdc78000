// The yardstick: what a careful person would write by hand. Node's HTTP server and its SQLite (WAL, synchronous=FULL), one
// transfer = 2 reads by index, checks, 2 writes, one log row, one durable transaction.
import { createServer } from "node:http";
import { DatabaseSync } from "node:sqlite";

const [file, accounts] = [process.argv[2], Number(process.argv[3])];
const db = new DatabaseSync(file);
db.exec("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL");
db.exec("CREATE TABLE accounts(id INTEGER PRIMARY KEY, n INTEGER NOT NULL, balance REAL NOT NULL); CREATE UNIQUE INDEX by_n ON accounts(n)");
db.exec("CREATE TABLE log(id INTEGER PRIMARY KEY, source INTEGER, target INTEGER, amount REAL)");
db.exec("BEGIN");
const insert = db.prepare("INSERT INTO accounts(n, balance) VALUES (?, 1000)");
for (let n = 0; n < accounts; n++) insert.run(n);
db.exec("COMMIT");
const begin = db.prepare("BEGIN IMMEDIATE"), commit = db.prepare("COMMIT"), rollback = db.prepare("ROLLBACK");
const read = db.prepare("SELECT id, balance FROM accounts WHERE n = ?");
const write = db.prepare("UPDATE accounts SET balance = ? WHERE id = ?");
const log = db.prepare("INSERT INTO log(source, target, amount) VALUES (?, ?, ?)");

function transfer({ from, to, amount }) {
  begin.run();
  try {
    const a = read.get(from), b = read.get(to);
    if (a === undefined || b === undefined) throw new Error("no such account");
    if (from !== to) {
      write.run(a.balance - amount, a.id);
      write.run(b.balance + amount, b.id);
      log.run(from, to, amount);
    }
    commit.run();
  } catch (error) {
    rollback.run();
    throw error;
  }
}

const server = createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    let status = 200, body = '{"status":"success","value":null}';
    try { transfer(JSON.parse(Buffer.concat(parts).toString())); } catch (error) { status = 500; body = JSON.stringify({ message: String(error) }); }
    response.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(body) });
    response.end(body);
  });
});
server.keepAliveTimeout = 60_000;
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
