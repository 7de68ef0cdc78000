"""Imports and exports: rows per second beside the official CLI on the same server and beside raw SQLite, the memory they
take above idle, and what a client notices meanwhile.

Usage: python benchmarks/transfers.py [--rows N | --small]      (25,000,000 rows of 200 bytes are 5 GB)

Rows have six fields and 200 bytes of JSON; the table has no index but the built-in ones. Both command lines are timed as
whole processes. Raw SQLite parses the same lines and puts them into one table with two indexes, in one transaction of
20,000 rows each, without checking anything. Of imports of few rows, the quickest of three whole commands is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness import CVX, Server, app, backend, node, percentile, pss_mb


@dataclass
class Timed:
    """How fast, in rows per second; how much more memory the backend and its children took than before, and how much
    the command itself (MB)."""

    per_second: float
    memory_mb: float = 0.0
    client_mb: float = 0.0


@dataclass
class Transfers:
    rows: int
    bytes_a_row: float
    imports: dict[str, Timed] = field(default_factory=dict)
    small_s: dict[int, dict[str, float]] = field(default_factory=dict)
    exports: dict[str, Timed] = field(default_factory=dict)
    idle_ms: list[float] = field(default_factory=list)
    busy_ms: list[float] = field(default_factory=list)


def write_rows(path: Path, rows: int) -> float:
    """The file to import; bytes a row."""
    random.seed(1)
    with path.open("w") as file:
        for n in range(rows):
            row = {
                "name": f"user {n}", "email": f"u{n}@example.com", "n": n, "active": n % 2 == 0,
                "score": random.random(), "text": "x" * 76,
            }  # fmt: skip
            file.write(json.dumps(row, separators=(",", ":")) + "\n")
    return path.stat().st_size / rows


SMALL_ROWS = (1, 100, 10_000)
SMALL_RUNS = 3


def small_imports(
    home: Path, ours: list[str], theirs: list[str], environment: dict[str, str]
) -> dict[int, dict[str, float]]:
    """Seconds of a whole command by number of rows, the two command lines by turns, each into new tables. Nothing is
    sampled meanwhile."""
    best: dict[int, dict[str, float]] = {}
    for rows in SMALL_ROWS:
        path = home / f"small{rows}.jsonl"
        write_rows(path, rows)
        for run in range(SMALL_RUNS):
            for name, command in (("cvx", ours), ("official CLI", theirs)):
                table = ["--table", f"small{rows}_{run}_{name.partition(' ')[0]}"]
                begun = time.perf_counter()
                subprocess.run(
                    [*command, *table, str(path)], cwd=app(), env=environment, check=True, capture_output=True
                )
                seconds = time.perf_counter() - begun
                best.setdefault(rows, {}).setdefault(name, seconds)
                best[rows][name] = min(best[rows][name], seconds)
    return best


def measure(rows: int, *, small_alone: bool = False) -> Transfers:
    with tempfile.TemporaryDirectory(prefix="cvx-bench-") as folder, backend() as server:
        home = Path(folder)
        result = Transfers(rows, write_rows(home / "rows.jsonl", rows))
        official = [node(), str(app() / "node_modules" / "convex" / "bin" / "main.js")]
        environment = os.environ | {
            "CONVEX_SELF_HOSTED_URL": server.url, "CONVEX_SELF_HOSTED_ADMIN_KEY": server.admin_key, "CI": "1",
        }  # fmt: skip
        server.push(app())
        ours = ["--url", server.url, "--admin-key", server.admin_key, "-q"]
        source = str(home / "rows.jsonl")

        def timed(command: list[str], cwd: Path, output: Path | None = None) -> Timed:
            client = 0.0
            with (
                watching(server) as memory,
                (output or Path(os.devnull)).open("wb") as out,
                (home / "stderr").open("wb") as said,
            ):
                begun = time.perf_counter()
                running = subprocess.Popen(command, cwd=cwd, env=environment, stdout=out, stderr=said)
                while running.poll() is None:
                    client = max(client, pss_mb(running.pid))
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        running.wait(0.1)
                seconds = time.perf_counter() - begun
            if running.returncode != 0:
                raise RuntimeError((home / "stderr").read_text()[-2000:])
            return Timed(rows / seconds, memory(), client)

        result.small_s = small_imports(
            home, [*CVX, "data", "import", *ours], [*official, "import"], environment
        )
        if small_alone:
            return result
        result.imports["cvx"] = timed([*CVX, "data", "import", "--table", "ours", source, *ours], home)
        result.imports["official CLI"] = timed([*official, "import", "--table", "theirs", source], app())
        result.imports["raw SQLite"] = Timed(rows / raw_import(home / "rows.jsonl", home / "raw.sqlite3"))
        result.idle_ms = [latency_ms(server) for _ in range(200)]
        with asking(server, result.busy_ms):
            timed([*CVX, "data", "import", "--table", "ours", "--replace", "--yes", source, *ours], home)
        result.exports["cvx, one table"] = timed(
            [*CVX, "data", "export", "--table", "ours", *ours], home, home / "out.jsonl"
        )
        result.exports["raw SQLite"] = Timed(rows / raw_export(home / "raw.sqlite3", home / "raw.jsonl"))
        # A ZIP holds both tables.
        ours_zip = timed([*CVX, "data", "export", "--path", str(home / "ours.zip"), *ours], home)
        theirs_zip = timed([*official, "export", "--path", str(home / "theirs.zip")], app())
        result.exports["cvx, ZIP"] = Timed(2 * ours_zip.per_second, ours_zip.memory_mb)
        result.exports["official CLI, ZIP"] = Timed(2 * theirs_zip.per_second, theirs_zip.memory_mb)
        return result


@contextlib.contextmanager
def watching(server: Server) -> Iterator[Callable[[], float]]:
    """Inside, the memory of the server and its children is looked at; the answer is by how much it rose."""
    idle = peak = server.rss_mb()
    stop = threading.Event()

    def look() -> None:
        nonlocal peak
        while not stop.wait(0.1):
            peak = max(peak, server.rss_mb())

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield lambda: peak - idle
    finally:
        stop.set()
        watcher.join()


def latency_ms(server: Server) -> float:
    begun = time.perf_counter()
    server.call("query", "bench:one", {"n": 1, "salt": random.random()})
    return (time.perf_counter() - begun) * 1000


@contextlib.contextmanager
def asking(server: Server, samples: list[float]) -> Iterator[None]:
    """Inside, a client asks one uncached query after the other."""
    stop = threading.Event()

    def ask() -> None:
        while not stop.wait(0.005):
            samples.append(latency_ms(server))

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        yield
    finally:
        stop.set()
        asker.join()


def raw_import(source: Path, target: Path) -> float:
    connection = sqlite3.connect(target, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE t (id BLOB PRIMARY KEY, created REAL, document BLOB)")
    connection.execute("CREATE INDEX by_created ON t (created)")
    begun = time.perf_counter()
    with source.open("rb") as file:
        batch: list[tuple[bytes, float, bytes]] = []
        for number, line in enumerate(file):
            json.loads(line)
            batch.append((number.to_bytes(16, "big"), float(number), line))
            if len(batch) == 20_000:
                insert(connection, batch)
                batch = []
        insert(connection, batch)
    connection.close()
    return time.perf_counter() - begun


def insert(connection: sqlite3.Connection, batch: list[tuple[bytes, float, bytes]]) -> None:
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO t VALUES (?,?,?)", batch)
    connection.execute("COMMIT")


def raw_export(source: Path, target: Path) -> float:
    connection = sqlite3.connect(source)
    begun = time.perf_counter()
    with target.open("wb") as file:
        cursor = connection.execute("SELECT document FROM t ORDER BY id")
        while rows := cursor.fetchmany(2_000):
            file.write(b"".join([row[0] for row in rows]))
    connection.close()
    return time.perf_counter() - begun


def spread(samples: list[float]) -> str:
    return f"p50 {percentile(samples, 0.5):.1f} / p99 {percentile(samples, 0.99):.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--small", action="store_true", help="only the imports of few rows")
    options = parser.parse_args()
    result = measure(100 if options.small else options.rows, small_alone=options.small)
    print(f"{result.rows:,} rows of {result.bytes_a_row:.0f} bytes")
    for title, timed in (("import", result.imports), ("export", result.exports)):
        for name, figure in timed.items():
            beside = " ".join(
                f"{figure.per_second / other.per_second:5.2f}x {yardstick}"
                for yardstick, other in timed.items()
                if yardstick.startswith(("official", "raw")) and yardstick != name
            )
            memory = f"+{figure.memory_mb:.0f} MB, command {figure.client_mb:.0f} MB"
            print(f"{title:7s} {name:20s} {figure.per_second:10,.0f} rows/s   {memory:26s} {beside}")
    for rows, seconds in result.small_s.items():
        ours, theirs = seconds["cvx"], seconds["official CLI"]
        print(
            f"import of {rows:,} rows: cvx {ours:.2f} s, official CLI {theirs:.2f} s; {theirs / ours:.2f}x as fast"
        )
    if not options.small:
        print(f"a client's query: idle {spread(result.idle_ms)}, during the import {spread(result.busy_ms)}")


if __name__ == "__main__":
    main()
