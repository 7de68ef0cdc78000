"""Text and vector search over 100,000 documents: latency, recall, what an index costs a write, what it takes.

python benchmarks/search.py [--quick] [--only text|vector]

Texts: 40 words each, drawn by Zipf's law from 50,000. Compared with SQLite's FTS5 in the same run. Vectors: 768 numbers around
1,000 centres, as embeddings of related texts are. Recall is against the exact similarity of every vector, in float64.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from harness import CACHE, app, backend, percentile

from cvx.backend.config import Limits
from cvx.backend.database import Database, Transaction, definitions
from cvx.protocol.schema import SearchIndex, VectorIndex

Row = tuple[str, str, str]
WORDS, DIMENSIONS, CENTRES = 50_000, 768, 1_000
LIMITS = Limits(documents_written_max=1 << 30, written_bytes_max=1 << 40)
SCHEMA = """import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";
export default defineSchema({ passages: defineTable({ kind: v.string(), place: v.array(v.float64()) })
  .vectorIndex("by_place", { vectorField: "place", dimensions: 768, filterFields: ["kind"] }) });
"""
ACTION = """import { actionGeneric as action } from "convex/server";
export const near = action({ handler: async (ctx, { place, kind, times }: any) => {
  const took = [];
  for (let n = 0; n < times; n++) {
    const started = performance.now();
    await ctx.vectorSearch("passages", "by_place", { vector: place[n], limit: 10, filter: kind && ((q: any) => q.eq("kind", kind)) });
    took.push(performance.now() - started);
  }
  return took;
} });
"""


class SystemClock:
    def now_ns(self) -> int:
        return time.time_ns()


def main() -> int:
    quick = "--quick" in sys.argv
    only = sys.argv[sys.argv.index("--only") + 1] if "--only" in sys.argv else None
    rows: list[Row] = []
    if only != "vector":
        rows += asyncio.run(text(10_000 if quick else 100_000))
    if only != "text":
        rows += vectors(10_000 if quick else 100_000)
    for name, *figures in rows:
        print(f"{name:<58}  {'  '.join(figures)}", flush=True)
    return 0


@contextmanager
def folder_of_its_own() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="cvx-bench-", dir=os.environ.get("CVX_BENCH_DIR")))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def spread(samples: list[float]) -> tuple[str, str]:
    return f"p50 {percentile(samples, 0.5):.1f} ms", f"p95 {percentile(samples, 0.95):.1f} ms"


# ------------------------------------------------------------------------------------------------------------- text


class Texts:
    """Made-up words, frequent ones short."""

    def __init__(self) -> None:
        self.random = random.Random(1)
        letters = "etaoinshrdlcumwfgypbvk"
        self.words = sorted(
            {"".join(self.random.choices(letters, k=self.random.randint(3, 9))) for _ in range(2 * WORDS)}
        )[:WORDS]
        self.random.shuffle(self.words)
        self.weights = np.cumsum(1.0 / np.arange(1, len(self.words) + 1)).tolist()

    def text(self, count: int = 40) -> str:
        return " ".join(self.random.choices(self.words, cum_weights=self.weights, k=count))


async def text(count: int) -> list[Row]:
    texts, rows = Texts(), []
    with folder_of_its_own() as folder:
        async with await Database.open(folder / "db", clock=SystemClock(), limits=LIMITS) as db:
            bodies = [texts.text() for _ in range(count)]
            await insert_all(
                db, "texts", [{"body": body, "kind": f"k{n % 10}"} for n, body in enumerate(bodies)]
            )
            plain = await commits(db, texts, 300)
            before = used_bytes(db)
            started = time.perf_counter()
            await add_index(db, "texts", SearchIndex("by_body", "body", ("kind",)))
            took = time.perf_counter() - started
            rows.append(
                (
                    f"text index of {count:,} documents: built",
                    f"{took:.1f} s",
                    f"{count / took:,.0f} documents/s",
                )
            )
            rows.append(
                (
                    "  its size",
                    f"{(used_bytes(db) - before) / 1e6:.0f} MB",
                    f"the documents {before / 1e6:.0f} MB",
                )
            )
            rows.append(
                (
                    "  an insert without it, with it",
                    f"p50 {plain:.2f} ms",
                    f"p50 {await commits(db, texts, 300):.2f} ms",
                )
            )
            fts = full_text_search(folder / "fts.sqlite3", bodies)
            common, rare = texts.words[:20], texts.words[5_000:5_200]
            questions: dict[str, Callable[[], str]] = {
                "a rare word": lambda: texts.random.choice(rare) + " ",
                "a common word": lambda: texts.random.choice(common),
                "three words": lambda: " ".join(texts.random.choices(texts.words[:2_000], k=3)),
                "two letters, as somebody begins to type": lambda: texts.random.choice(texts.words)[:2],
            }
            for name, question in questions.items():
                asked = [question() for _ in range(100)]
                mine = [milliseconds(lambda q=q: search(db, q)) for q in asked]
                its = [milliseconds(lambda q=q: full_text(fts, q)) for q in asked]
                rows.append((f"  {name}, take(20)", *spread(mine)))
                rows.append(("    the same asked of FTS5 (bm25, no prefix weight)", *spread(its)))
            filtered = [milliseconds(lambda: search(db, common[0], "k3")) for _ in range(50)]
            rows.append(("  a common word with a filter, take(20)", *spread(filtered)))
    return rows


def used_bytes(db: Database) -> int:
    """The pages that hold something."""
    writer: Any = db._store._writer  # type: ignore[attr-defined]
    pages, free, size = (
        writer.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int(pages - free) * int(size)


def milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def search(db: Database, words: str, kind: str | None = None) -> list[dict[str, Any]]:
    filters: list[Any] = [{"type": "Search", "fieldPath": "body", "value": words}]
    if kind is not None:
        filters.append({"type": "Eq", "fieldPath": "kind", "value": kind})
    source = {"type": "Search", "indexName": "texts.by_body", "filters": filters}
    with db.begin(None, read_only=True) as tx:
        return tx.collect({"source": source, "operators": [{"limit": 20}]})


def full_text_search(path: Path, bodies: list[str]) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.execute("CREATE VIRTUAL TABLE t USING fts5(body, tokenize='unicode61 remove_diacritics 0')")
    connection.executemany("INSERT INTO t (body) VALUES (?)", [(body,) for body in bodies])
    connection.commit()
    return connection


def full_text(connection: sqlite3.Connection, words: str) -> list[Any]:
    *others, last = words.split()
    match = " OR ".join([f'"{word}"' for word in others] + [f'"{last}"*'])
    sql = "SELECT body FROM t WHERE t MATCH ? ORDER BY bm25(t) LIMIT 20"
    return connection.execute(sql, (match,)).fetchall()


async def commits(db: Database, texts: Texts, count: int) -> float:
    took = []
    for _ in range(count):
        with db.begin(None) as tx:
            tx.insert("texts", {"body": texts.text(), "kind": "new"})
            started = time.perf_counter()
            await db.durable(await db.commit(tx))
            took.append((time.perf_counter() - started) * 1000)
    return statistics.median(took)


async def insert_all(db: Database, table: str, documents: list[dict[str, Any]]) -> None:
    for start in range(0, len(documents), 1_000):

        def body(tx: Transaction, start: int = start) -> None:
            for document in documents[start : start + 1_000]:
                tx.insert(table, document)

        await db.run(None, body)


async def add_index(db: Database, table: str, index: SearchIndex | VectorIndex) -> None:
    id, _ = await db.run(None, lambda tx: definitions.create_index(tx, table, index))
    await db.idle()
    await db.run(None, lambda tx: definitions.enable_index(tx, id))


# ---------------------------------------------------------------------------------------------------------- vectors


class Vectors:
    def __init__(self, count: int) -> None:
        generator = np.random.default_rng(1)
        centres = generator.standard_normal((CENTRES, DIMENSIONS))
        picked = generator.integers(0, CENTRES, count)
        self.all = np.round(centres[picked] + 0.7 * generator.standard_normal((count, DIMENSIONS)), 3)
        near = centres[generator.integers(0, CENTRES, 200)]
        self.queries = np.round(near + 0.7 * generator.standard_normal((200, DIMENSIONS)), 3)

    def nearest(self, query: Any) -> set[int]:
        scores = self.all @ query / np.linalg.norm(self.all, axis=1)
        return set(np.argsort(-scores)[:10].tolist())


def vectors(count: int) -> list[Row]:
    made, rows = Vectors(count), []

    def prepare(folder: Path) -> None:
        rows.extend(asyncio.run(in_the_engine(folder, made)))

    with backend(prepare) as server:
        server.push(vector_app())
        asked = made.queries[:100].tolist()
        first = server.call("action", "near:near", {"place": asked[:1], "kind": None, "times": 1})
        rows.append(("vector search from an action, the first after a start", f"{first[0]:.0f} ms", ""))
        all_of_them, one_of_ten = (
            server.call("action", "near:near", {"place": asked, "kind": kind, "times": len(asked)})
            for kind in (None, "k3")
        )
        rows.append(("vector search from an action, limit 10", *spread(all_of_them)))
        rows.append(("  with a filter that one in ten passes", *spread(one_of_ten)))
        rows.append(("  memory of the backend and its children", f"{server.rss_mb():.0f} MB", ""))
    return rows


def vector_app() -> Path:
    folder = CACHE / "search-app"
    (folder / "convex").mkdir(parents=True, exist_ok=True)
    if not (folder / "node_modules").exists():
        (folder / "node_modules").symlink_to(app() / "node_modules")
    (folder / "package.json").write_text('{"type":"module","dependencies":{"convex":"1.48.0"}}')
    (folder / "convex" / "schema.ts").write_text(SCHEMA)
    (folder / "convex" / "near.ts").write_text(ACTION)
    return folder


async def in_the_engine(folder: Path, made: Vectors) -> list[Row]:
    rows: list[Row] = []
    count = len(made.all)
    async with await Database.open(folder, clock=SystemClock(), limits=LIMITS) as db:
        for start in range(0, count, 5_000):
            documents = [
                {"place": place, "kind": f"k{(start + n) % 10}"}
                for n, place in enumerate(made.all[start : start + 5_000].tolist())
            ]
            await insert_all(db, "passages", documents)
        started = time.perf_counter()
        await add_index(db, "passages", VectorIndex("by_place", "place", DIMENSIONS, ("kind",)))
        took = time.perf_counter() - started
        rows.append(
            (
                f"vector index of {count:,} × {DIMENSIONS}: built",
                f"{took:.1f} s",
                f"{count / took:,.0f} documents/s",
            )
        )
        with db.begin(None, read_only=True) as tx:
            tx._meter.documents_max = tx._meter.bytes_max = 1 << 40
            order = {str(d["_id"]): n for n, d in enumerate(tx.all("passages"))}
        took_ms, recalls = [], []
        for n, query in enumerate(made.queries):
            started = time.perf_counter()
            hits = await db.vector_search("passages", "by_place", query.tolist(), 10.0)
            if n:  # The first reads the index.
                took_ms.append((time.perf_counter() - started) * 1000)
            if n < 50:
                recalls.append(len(made.nearest(query) & {order[str(id)] for id, _ in hits}) / 10)
        rows.append(("  a search, engine alone, limit 10", *spread(took_ms)))
        rows.append(("  recall@10", f"{statistics.mean(recalls):.4f}", f"of {len(recalls)} searches"))
        rows.append(
            (
                "  vectors in memory",
                f"{db.vector_memory_bytes / 1e6:.0f} MB",
                f"at most {LIMITS.vector_memory_bytes_max / 1e6:.0f} MB",
            )
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())
