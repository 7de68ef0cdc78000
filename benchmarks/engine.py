"""The engine alone: transactions, durable commits, scans, against raw SQLite in the same run.

python benchmarks/engine.py [--quick]
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from cvx.backend.config import Limits
from cvx.backend.database import Database, Transaction, definitions
from cvx.protocol.schema import DatabaseIndex
from cvx.values import DocumentId

Row = tuple[str, str, str]


class SystemClock:
    def now_ns(self) -> int:
        return time.time_ns()


ACCOUNTS = 20_000
CLIENTS = 64


async def main(quick: bool) -> list[Row]:
    rows: list[Row] = []
    seconds = 0.5 if quick else 3.0
    with tempfile.TemporaryDirectory(prefix="cvx-bench-", dir=os.environ.get("CVX_BENCH_DIR")) as folder:
        rows.append(
            ("raw SQLite: 2-row commit, synchronous=FULL", *raw_sqlite(Path(folder), "FULL", seconds))
        )
        rows.append(
            ("raw SQLite: 2-row commit, NORMAL, no sync", *raw_sqlite(Path(folder), "NORMAL", seconds))
        )
        async with await Database.open(Path(folder) / "db", clock=SystemClock(), limits=Limits()) as db:
            ids = await fill(db)
            rows.append(("begin + get + commit (read-only)", *per_call(await read_only(db, ids, seconds))))
            rows.append(
                ("commit of a 2-document update, on the loop", *per_call(await commit_only(db, ids, seconds)))
            )
            rows.append(
                ("durable transfers, 64 tasks, no contention", *await transfers(db, ids, seconds, hot=False))
            )
            rows.append(
                ("durable transfers, 64 tasks, Zipf 1.5", *await transfers(db, ids, seconds, hot=True))
            )
            rows.append(("collect 1,000 documents", *per_call(await collect(db, "accounts", seconds))))
            await rewrite(db, ids[:1000], 20 if quick else 1000)
            rows.append(
                ("the same, rows rewritten many times", *per_call(await collect(db, "accounts", seconds)))
            )
            for count in (100, 10_000):
                rows.append(
                    (
                        f"commit beside {count:,} subscriptions",
                        *per_call(await subscribed(db, ids, count, seconds)),
                    )
                )
    return rows


def raw_sqlite(folder: Path, synchronous: str, seconds: float) -> tuple[str, str]:
    """What the disk and SQLite alone give: the same two rows and two log rows, one thread."""
    connection = sqlite3.connect(folder / f"raw-{synchronous}.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={synchronous}")
    connection.execute("CREATE TABLE documents (id INTEGER PRIMARY KEY, document BLOB)")
    connection.execute(
        "CREATE TABLE log (ts INTEGER, seq INTEGER, document BLOB, PRIMARY KEY (ts, seq)) WITHOUT ROWID"
    )
    body = b"x" * 150
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO documents VALUES (?, ?)", [(i, body) for i in range(ACCOUNTS)])
    connection.execute("COMMIT")
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        pair = [(body, random.randrange(ACCOUNTS)) for _ in range(2)]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("UPDATE documents SET document=? WHERE id=?", pair)
        connection.executemany("INSERT INTO log VALUES (?, ?, ?)", [(count, 0, body), (count, 1, body)])
        connection.execute("COMMIT")
        count += 1
    took = time.perf_counter() - began
    connection.close()
    return f"{count / took:,.0f}/s", f"{took / count * 1e6:,.0f} µs each"


async def fill(db: Database) -> list[DocumentId]:
    def define(tx: Transaction) -> None:
        definitions.create_index(tx, "accounts", DatabaseIndex("by_owner", ("owner",)))

    await db.run(None, define)
    ids: list[DocumentId] = []
    for start in range(0, ACCOUNTS, 5_000):

        def add(tx: Transaction, start: int = start) -> list[DocumentId]:
            return [
                tx.insert("accounts", {"owner": f"owner{n}", "balance": 1000.0, "note": "n" * 60})
                for n in range(start, start + 5_000)
            ]

        ids += (await db.run(None, add))[0]
    for _, _, id in definitions.indexes(db.begin(None)):
        await db.run(None, lambda tx, id=id: definitions.enable_index(tx, id))
    return ids


async def timed(seconds: float, once: Callable[[], Awaitable[float]]) -> list[float]:
    """How long each call took, in seconds, as the call itself measured it."""
    for _ in range(20):
        await once()
    found, until = [], time.perf_counter() + seconds
    while time.perf_counter() < until:
        found.append(await once())
    return found


def per_call(times: list[float]) -> tuple[str, str]:
    times.sort()
    p50, p99 = statistics.median(times), times[int(len(times) * 0.99)]
    return f"{p50 * 1e6:,.0f} µs", f"p99 {p99 * 1e6:,.0f} µs"


async def read_only(db: Database, ids: list[DocumentId], seconds: float) -> list[float]:
    async def once() -> float:
        id = random.choice(ids)
        began = time.perf_counter()
        tx = db.begin(None)
        tx.get(id)
        await db.commit(tx)
        return time.perf_counter() - began

    return await timed(seconds, once)


async def commit_only(db: Database, ids: list[DocumentId], seconds: float) -> list[float]:
    async def once() -> float:
        tx = db.begin(None)
        for id in random.sample(ids, 2):
            tx.patch(id, {"balance": random.random()})
        began = time.perf_counter()
        ts = await db.commit(tx)
        took = time.perf_counter() - began
        await db.durable(ts)
        return took

    return await timed(seconds, once)


async def transfers(db: Database, ids: list[DocumentId], seconds: float, *, hot: bool) -> tuple[str, str]:
    zipf = [1 / (n + 1) ** 1.5 for n in range(1000)]
    latencies: list[float] = []
    until = time.perf_counter() + seconds

    def pick() -> tuple[DocumentId, DocumentId]:
        while True:
            a, b = random.choices(ids[:1000], zipf, k=2) if hot else random.sample(ids, 2)
            if a != b:
                return a, b

    async def client() -> None:
        while time.perf_counter() < until:
            a, b = pick()

            async def body(tx: Transaction, a: DocumentId = a, b: DocumentId = b) -> None:
                source, target = tx.get_value(a), tx.get_value(b)
                assert source is not None and target is not None
                await asyncio.sleep(0)  # A real function answers from another process.
                tx.patch(a, {"balance": source["balance"] - 1.0})
                tx.patch(b, {"balance": target["balance"] + 1.0})

            began = time.perf_counter()
            await db.run(None, body)
            latencies.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    took = time.perf_counter() - began
    latencies.sort()
    p99 = latencies[int(len(latencies) * 0.99)]
    return (
        f"{len(latencies) / took:,.0f}/s",
        f"p50 {statistics.median(latencies) * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms",
    )


async def collect(db: Database, table: str, seconds: float) -> list[float]:
    query: dict[str, Any] = {
        "source": {"type": "FullTableScan", "tableName": table, "order": None},
        "operators": [{"limit": 1000}],
    }

    async def once() -> float:
        began = time.perf_counter()
        tx = db.begin(None)
        documents, _ = tx.stream(query).next_page(1000)
        await db.commit(tx)
        assert len(documents) == 1000
        return time.perf_counter() - began

    return await timed(seconds, once)


async def rewrite(db: Database, ids: list[DocumentId], times: int) -> None:
    for n in range(times):

        def again(tx: Transaction, n: int = n) -> None:
            for id in ids:
                tx.patch(id, {"balance": float(n)})

        await db.run(None, again)


async def subscribed(db: Database, ids: list[DocumentId], count: int, seconds: float) -> list[float]:
    waiting = []
    for n in range(count):
        tx = db.begin(None)
        tx.stream(
            {
                "source": {
                    "type": "IndexRange",
                    "indexName": "accounts.by_owner",
                    "order": None,
                    "range": [{"type": "Eq", "fieldPath": "owner", "value": f"owner{10_000 + n}"}],
                },
                "operators": [],
            }
        ).next_page(10)
        waiting.append(db.subscribe(tx.reads, tx.snapshot.ts, lambda ts: None))
        tx.close()
    times = await commit_only(db, ids[:10_000], seconds)
    for subscription in waiting:
        subscription.close()
    return times


if __name__ == "__main__":
    table = asyncio.run(main("--quick" in sys.argv))
    for name, value, more in table:
        print(f"{name:<48} {value:>14}   {more}")
