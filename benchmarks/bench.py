"""`make bench`: every figure of the performance table that exists, in one run, beside what it is compared with.

Usage: python benchmarks/bench.py [--quick] [--only NAME ...] [--write]
`--write` puts the table and the machine's description into docs/PERFORMANCE.md. `--quick` shortens every measurement.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import scheduled_jobs
import transfers
from harness import (
    CVX,
    HERE,
    Server,
    app,
    backend,
    load,
    machine,
    node,
    node_sqlite_server,
    percentile,
    time_command,
)

REPORT = HERE.parent / "docs" / "PERFORMANCE.md"
ACCOUNTS = 100_000


@dataclass
class Row:
    figure: str
    ours: str
    compared: str
    ratio: str
    target: str


BENCHES: dict[str, Callable[[bool], Iterator[Row]]] = {}


def bench(function: Callable[[bool], Iterator[Row]]) -> Callable[[bool], Iterator[Row]]:
    BENCHES[function.__name__.removeprefix("bench_")] = function
    return function


def seed_accounts(server: Server, count: int) -> None:
    for begin in range(0, count, 5_000):
        server.call("mutation", "bench:seedAccounts", {"from": begin, "to": min(count, begin + 5_000)})


@bench
def bench_startup(quick: bool) -> Iterator[Row]:
    official = [node(), str(app() / "node_modules" / "convex" / "bin" / "main.js")]
    for flag in ("--version", "--help"):
        ours = time_command([*CVX, flag], 3 if quick else 10)
        theirs = time_command([*official, flag], 3 if quick else 10, cwd=app())
        yield Row(
            f"`cvx {flag}`",
            f"{ours:.3f} s",
            f"official CLI {theirs:.3f} s",
            f"{ours / theirs:.2f}×",
            "≤ 0.15 s and ≤ 0.2×",
        )


def save_to_live(project: Path, rounds: int, *flags: str) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "save_to_live.py"), str(project), str(rounds), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@bench
def bench_dev(quick: bool) -> Iterator[Row]:
    """Cold start of `cvx dev`, then save → changed result on a connected official client; `npx convex dev` beside it."""
    for modules, target in ((20, 150), (100, 300)):
        project = app(modules)
        ours = save_to_live(project, 5 if quick else 20)
        theirs = save_to_live(project, 3 if quick else 8, "--official")
        yield Row(
            f"`cvx dev` cold start to ready, {modules} modules",
            f"{ours['cold_start_s']:.2f} s",
            f"`npx convex dev`, backend already running: {theirs['cold_start_s']:.2f} s",
            f"{ours['cold_start_s'] / theirs['cold_start_s']:.2f}×",
            "≤ 1.5 s",
        )
        mine, other = ours["samples_ms"], theirs["samples_ms"]
        yield Row(
            f"save → result on the official client, {modules} modules",
            f"p50 {percentile(mine, 0.5):.0f} ms, p95 {percentile(mine, 0.95):.0f} ms",
            f"`npx convex dev`, same backend: p50 {percentile(other, 0.5):.0f} ms",
            f"{percentile(mine, 0.5) / percentile(other, 0.5):.2f}×",
            f"p95 ≤ {target} ms, ≤ 0.15×",
        )


@bench
def bench_queries(quick: bool) -> Iterator[Row]:
    seconds = 2 if quick else 6
    with backend() as server:
        server.push(app())
        seed_accounts(server, 10_000)
        for name, mode, request, target in (
            ("one-read query, HTTP, uncached", "http", "query", "p50 ≤ 1 ms, ≥ 3,000/s"),
            ("one-read query, socket, uncached", "sockets", "query", "p50 ≤ 1 ms, ≥ 3,000/s"),
            ("the same, HTTP, cached", "http", "cached-query", "≥ 10,000/s"),
            ("the same, socket, cached", "sockets", "cached-query", "≥ 10,000/s"),
        ):
            single = load(
                mode=mode, request=request, url=server.url, clients=1, seconds=seconds, accounts=10_000
            )
            many = load(
                mode=mode, request=request, url=server.url, clients=32, seconds=seconds, accounts=10_000
            )
            yield Row(
                name,
                f"p50 {single['p50']:.2f} ms (1 client), {many['perSecond']:,.0f}/s (32 clients)",
                "",
                "",
                target,
            )


@bench
def bench_http_actions(quick: bool) -> Iterator[Row]:
    seconds = 2 if quick else 6
    with backend() as server:
        server.push(app())
        seed_accounts(server, 1_000)
        for name, request in (
            ("HTTP action that answers at once", "pong"),
            ("HTTP action that reads its body and runs a one-read query", "http-query"),
        ):
            single = load(
                mode="http", request=request, url=server.url, clients=1, seconds=seconds, accounts=1_000
            )
            many = load(
                mode="http", request=request, url=server.url, clients=16, seconds=seconds, accounts=1_000
            )
            yield Row(
                name,
                f"p50 {single['p50']:.2f} ms (1 client), {many['perSecond']:,.0f}/s (16 clients), "
                f"{single['failures'] + many['failures']} failures",
                "",
                "",
                "p50 ≤ 5 ms",
            )


@bench
def bench_transfers(quick: bool) -> Iterator[Row]:
    seconds = 3 if quick else 10
    accounts = 10_000 if quick else ACCOUNTS
    with backend() as server, node_sqlite_server(accounts) as raw:
        server.push(app())
        seed_accounts(server, accounts)
        for name, alpha, target in (
            ("transfer mutation, 64 clients, no contention", 0, "≥ 1.0× Node + SQLite"),
            ("the same, ~80 % contention (Zipf 1.5)", 1.5, "≥ 1.0×, no failure"),
        ):
            theirs = load(
                mode="http",
                request="raw-transfer",
                url=raw,
                clients=64,
                seconds=seconds,
                accounts=accounts,
                alpha=alpha,
            )
            ours = load(
                mode="http",
                request="transfer",
                url=server.url,
                clients=64,
                seconds=seconds,
                accounts=accounts,
                alpha=alpha,
            )
            socket = load(
                mode="sockets",
                request="transfer",
                url=server.url,
                clients=64,
                seconds=seconds,
                accounts=accounts,
                alpha=alpha,
            )
            yield Row(
                f"{name}, HTTP",
                f"{ours['perSecond']:,.0f}/s, p99 {ours['p99']:.0f} ms, {ours['failures']} failures",
                f"Node + SQLite {theirs['perSecond']:,.0f}/s, p99 {theirs['p99']:.0f} ms",
                f"{ours['perSecond'] / theirs['perSecond']:.2f}×",
                target,
            )
            yield Row(
                f"{name}, sockets",
                f"{socket['perSecond']:,.0f}/s, p99 {socket['p99']:.0f} ms, {socket['failures']} failures",
                "",
                "",
                "≥ 2,000/s" if alpha == 0 else "no failure",
            )


@bench
def bench_fanout(quick: bool) -> Iterator[Row]:
    for subscribers, target in ((100, 10), (1_000, 50)):
        with backend() as server:
            server.push(app())
            result = load(
                mode="fanout", url=server.url, subscribers=subscribers, rounds=20 if quick else 100, group=5
            )
            yield Row(
                f"mutation → update at all of {subscribers:,} subscribers",
                f"p50 {result['toAll']['p50']:.1f} ms, p95 {result['toAll']['p95']:.1f} ms",
                "",
                "",
                f"p95 ≤ {target} ms",
            )


@bench
def bench_subscriptions(quick: bool) -> Iterator[Row]:
    with backend() as server:
        server.push(app())
        few = load(
            mode="subscriptions", url=server.url, subscriptions=100, sockets=10, seconds=2 if quick else 5
        )
        many = load(
            mode="subscriptions",
            url=server.url,
            subscriptions=2_000 if quick else 10_000,
            sockets=100,
            seconds=2 if quick else 5,
        )
        yield Row(
            f"write touching one of {many['subscriptions']:,} subscriptions",
            f"p50 {many['p50']:.2f} ms",
            f"at {few['subscriptions']}: {few['p50']:.2f} ms",
            f"{many['p50'] / few['p50']:.2f}×",
            "≤ 1.20×",
        )


@bench
def bench_jobs(quick: bool) -> Iterator[Row]:
    """Many scheduled functions due at once: how fast they are done, and what a client notices meanwhile."""
    jobs = 2_000 if quick else 10_000
    with backend() as server:
        server.push(app())
        seed_accounts(server, scheduled_jobs.ACCOUNTS)
        result = scheduled_jobs.burst(server, jobs, 2 if quick else 5)
        for kind in ("query", "mutation"):
            idle, busy = result.idle[kind], result.busy[kind]
            yield Row(
                f"a client's {kind} while {jobs:,} scheduled mutations are due at once",
                f"{scheduled_jobs.line(busy)} ms",
                f"idle: {scheduled_jobs.line(idle)} ms",
                f"p50 {percentile(busy, 0.5) / percentile(idle, 0.5):.1f}×",
                "p95 ≤ 50 ms",
            )
        yield Row("the scheduled mutations themselves", f"{result.per_second:,.0f}/s", "", "", "≥ 1,000/s")


@bench
def bench_collect(quick: bool) -> Iterator[Row]:
    with backend() as server:
        server.push(app())
        server.call("mutation", "bench:seedItems", {"group": 1, "count": 1000})
        server.call("mutation", "bench:seedItems", {"group": 2, "count": 1000})
        rewrites = 50 if quick else 1000
        for _ in range(rewrites):
            server.call("mutation", "bench:rewrite", {"group": 2})
        fresh = load(mode="http", request="collect", url=server.url, clients=1, seconds=3, group=1)
        old = load(mode="http", request="collect", url=server.url, clients=1, seconds=3, group=2)
        yield Row("`collect()` of 1,000 documents", f"p50 {fresh['p50']:.1f} ms", "", "", "≤ 15 ms")
        yield Row(
            f"the same, every row rewritten {rewrites:,} times",
            f"p50 {old['p50']:.1f} ms",
            f"fresh rows {fresh['p50']:.1f} ms",
            f"{old['p50'] / fresh['p50']:.2f}×",
            "≤ 1.10×",
        )


@bench
def bench_action(quick: bool) -> Iterator[Row]:
    calls = 100 if quick else 500
    with backend() as server:
        server.push(app())
        server.call("mutation", "bench:write", {"n": 0})
        before = server.rss_mb()

        client = httpx.Client(base_url=server.url)  # One connection: what is measured is the call.

        def timed(kind: str, path: str, args: dict[str, Any]) -> float:
            started = time.perf_counter()
            answer = client.post(f"/api/{kind}", json={"path": path, "args": args, "format": "json"})
            assert answer.json()["status"] == "success", answer.text
            return (time.perf_counter() - started) * 1000

        cold = timed("action", "bench:act", {"n": 0})
        mutation = sorted(timed("mutation", "bench:write", {"n": n}) for n in range(calls))
        for figure, path in (
            ("action that returns its argument", "bench:act"),
            ("action that calls one mutation", "bench:actAndWrite"),
        ):
            own = sorted(timed("action", path, {"n": n}) for n in range(calls))
            yield Row(
                f"{figure}, HTTP",
                f"p50 {percentile(own, 0.5):.2f} ms, p95 {percentile(own, 0.95):.2f} ms",
                f"a mutation with one insert: p50 {percentile(mutation, 0.5):.2f} ms",
                f"{percentile(own, 0.5) / percentile(mutation, 0.5):.2f}×",
                "",
            )
        yield Row(
            "the first action of a backend",
            f"{cold:.0f} ms, {server.rss_mb() - before:.0f} MB more",
            "",
            "",
            "",
        )
        started = time.perf_counter()
        with ThreadPoolExecutor(200) as threads:
            list(threads.map(lambda _: server.call("action", "bench:sleep", {"ms": 1000}), range(200)))
        yield Row(
            "200 actions that sleep 1 s at once",
            f"{time.perf_counter() - started:.1f} s, {server.rss_mb() - before:.0f} MB more",
            "64 run at a time",
            "",
            "",
        )


@bench
def bench_memory(quick: bool) -> Iterator[Row]:
    project = app(140)
    with backend() as server:
        time.sleep(1)
        yield Row("memory, idle (backend and its children)", f"{server.rss_mb():.0f} MB", "", "", "≤ 200 MB")
        server.push(project)
        server.call("query", "bench:one", {"n": 1})
        first = server.rss_mb()
        deploys = 10 if quick else 50
        for number in range(deploys):
            (project / "convex" / "extra0.ts").write_text(
                'import { query } from "./_generated/server";\nexport const answer = query(async () => '
                + str(number)
                + ");\n"
            )
            server.push(project)
            server.call("query", "extra0:answer", {})
        after = server.rss_mb()
        yield Row(
            f"memory after {deploys} deploys of a 140-module app",
            f"{after:.0f} MB",
            f"after the first {first:.0f} MB",
            f"{after / first:.2f}×",
            "≤ 1.20×",
        )


@bench
def bench_engine(quick: bool) -> Iterator[Row]:
    """The engine alone, without functions, beside what SQLite itself can do: the lines of benchmarks/engine.py."""
    yield from lines_of("engine.py", "engine", quick)


@bench
def bench_search(quick: bool) -> Iterator[Row]:
    """Text search beside FTS5, vector search with its recall: the lines of benchmarks/search.py."""
    yield from lines_of("search.py", "search", quick)


@bench
def bench_import_export(quick: bool) -> Iterator[Row]:
    """Imports and exports of rows of 200 bytes (`benchmarks/transfers.py`; 5 GB there with --rows 25000000)."""
    result = transfers.measure(100_000 if quick else 1_000_000)
    ours, theirs = result.imports["cvx"], result.imports["official CLI"]
    raw, table = result.imports["raw SQLite"], result.exports["cvx, one table"]
    yield Row(
        f"`cvx data import`, {result.rows:,} rows of {result.bytes_a_row:.0f} bytes",
        f"{ours.per_second:,.0f} rows/s, +{ours.memory_mb:.0f} MB above idle",
        f"official CLI, same server {theirs.per_second:,.0f} rows/s; raw SQLite {raw.per_second:,.0f}",
        f"{ours.per_second / theirs.per_second:.2f}× / {ours.per_second / raw.per_second:.2f}×",
        "≥ 40,000 rows/s, ≤ 150 MB",
    )
    small, their_small = result.small_s["cvx"], result.small_s["official CLI"]
    yield Row(
        "the same, 100 rows",
        f"{small:.2f} s",
        f"official CLI {their_small:.2f} s",
        f"{small / their_small:.2f}×",
        "≤ 0.33×",
    )
    yield Row(
        "a client's query during the import",
        transfers.spread(result.busy_ms),
        f"idle: {transfers.spread(result.idle_ms)}",
        "",
        "",
    )
    raw = result.exports["raw SQLite"]
    yield Row(
        "`cvx data export`, one table",
        f"{table.per_second:,.0f} documents/s, +{table.memory_mb:.0f} MB",
        f"raw SQLite {raw.per_second:,.0f}",
        f"{table.per_second / raw.per_second:.2f}×",
        "≥ 100,000 documents/s",
    )
    ours, theirs = result.exports["cvx, ZIP"], result.exports["official CLI, ZIP"]
    yield Row(
        "the same, everything as a ZIP",
        f"{ours.per_second:,.0f} documents/s, +{ours.memory_mb:.0f} MB",
        f"official CLI, same server {theirs.per_second:,.0f}",
        f"{ours.per_second / theirs.per_second:.2f}×",
        "≥ 100,000 documents/s",
    )


def lines_of(script: str, about: str, quick: bool) -> Iterator[Row]:
    command = [sys.executable, str(HERE / script), *(["--quick"] if quick else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1_200, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    for line in done.stdout.splitlines():
        parts = re.split(r"\s{2,}", line.strip())
        if len(parts) >= 2:
            target = "p95 ≤ 100 ms" if "from an action, limit 10" in line else ""
            yield Row(f"{about}: {parts[0]}", ", ".join(parts[1:]), "", "", target)


def table(rows: list[Row]) -> str:
    lines = ["| figure | ours | compared with | ratio | target |", "|---|---|---|---|---|"]
    lines += [f"| {row.figure} | {row.ours} | {row.compared} | {row.ratio} | {row.target} |" for row in rows]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="*", choices=sorted(BENCHES))
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    os.chdir(HERE)
    rows: list[Row] = []
    failed = 0
    for name in options.only or BENCHES:
        try:
            for row in BENCHES[name](options.quick):
                rows.append(row)
                print(
                    f"{row.figure:60s} {row.ours:55s} {row.compared} {row.ratio}  (target {row.target})",
                    flush=True,
                )
        except (RuntimeError, subprocess.SubprocessError, OSError) as error:
            failed += 1
            print(f"{name}: {error}", file=sys.stderr, flush=True)
    print("\n" + table(rows))
    if options.write:
        begin, end = "<!-- bench:begin -->", "<!-- bench:end -->"
        command = "python benchmarks/bench.py --quick --write" if options.quick else "make bench"
        text = REPORT.read_text()
        head, tail = text.split(begin)[0], text.split(end)[1]
        made = f"{begin}\n\nMeasured {datetime.date.today().isoformat()} by `{command}` on {machine()}.\n\n{table(rows)}\n\n{end}"
        REPORT.write_text(head + made + tail)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
