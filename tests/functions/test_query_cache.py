"""The cache itself, on a real database and without functions: who gets what, who is told, what is dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cvx.backend.auth import SYSTEM
from cvx.backend.config import Limits
from cvx.backend.database import Database
from cvx.backend.functions.expiry import forget_old_answers
from cvx.backend.functions.query_cache import QueryCache, QueryEntry, QueryKey
from cvx.backend.functions.results import FunctionError, fingerprint
from cvx.backend.model import SYSTEM_TABLES, session_requests
from cvx.errors import CvxError
from cvx.values import FunctionPath
from tests.functions.deployment import WallClock

PATH = FunctionPath.parse("messages:list")
ALICE, BOB = b"alice", b"bob"


class Clock(WallClock):
    ahead_ns = 0

    def now_ns(self) -> int:
        return super().now_ns() + self.ahead_ns


def run(folder: Path, body: Callable[[Database, Clock], Awaitable[None]]) -> None:
    async def main() -> None:
        clock = Clock()
        async with await Database.open(folder, clock=clock, system_tables=SYSTEM_TABLES) as db:
            await body(db, clock)

    asyncio.run(main())


def key(args: bytes = b"{}", journal: str | None = None) -> QueryKey:
    return QueryKey(PATH, args, journal, False)


def entry(
    db: Database,
    value: bytes = b"1.0",
    *,
    identity: bytes | None = None,
    table: str = "rows",
    expires_at: float | None = None,
    error: FunctionError | None = None,
    journal: str | None = None,
) -> QueryEntry:
    """The result of a query that has looked at a whole table."""
    with db.snapshot() as snapshot:
        tx = db.begin(SYSTEM, snapshot=snapshot, read_only=True)
        tx.all(table)
        return QueryEntry(
            db,
            ts=snapshot.ts,
            reads=tx.reads,
            value_json=None if error else value,
            error=error,
            log_lines=[],
            journal=journal,
            result_hash=fingerprint(value, None, ()),
            identity_key=identity,
            expires_at=expires_at,
            request_id="0" * 16,
        )


async def write(db: Database, table: str = "rows") -> int:
    _, ts = await db.run(SYSTEM, lambda tx: tx.insert(table, {"n": 1.0}))
    return ts


def test_an_entry_is_found_while_it_holds(tmp_path: Path) -> None:
    async def body(db: Database, clock: Clock) -> None:
        await write(db)
        cache = QueryCache(db, 1 << 20)
        made = entry(db)
        cache.add(key(), made)
        assert cache.find(key(), ALICE, db.latest_ts, 0.0) is made
        assert cache.find(key(b'{"a":1.0}'), ALICE, db.latest_ts, 0.0) is None
        await write(db, "others")
        assert cache.find(key(), ALICE, db.latest_ts, 0.0) is made
        ts = await write(db)
        assert cache.find(key(), ALICE, db.latest_ts, 0.0) is None and len(cache) == 0
        assert (made.invalid_since, made.valid_at(ts - 1), made.valid_at(ts)) == (ts, True, False)
        assert not made.valid_at(made.ts - 1)

    run(tmp_path, body)


def test_an_entry_that_came_too_late_is_not_kept(tmp_path: Path) -> None:
    async def body(db: Database, clock: Clock) -> None:
        await write(db)
        cache = QueryCache(db, 1 << 20)
        made = entry(db)
        await write(db)
        cache.add(key(), made)
        assert len(cache) == 0 and made.invalid_since is not None

    run(tmp_path, body)


def test_callers_get_their_own(tmp_path: Path) -> None:
    async def body(db: Database, clock: Clock) -> None:
        cache = QueryCache(db, 1 << 20)
        hers, his = entry(db, b'"a"', identity=ALICE), entry(db, b'"b"', identity=BOB)
        cache.add(key(), hers)
        cache.add(key(), his)
        assert cache.find(key(), ALICE, db.latest_ts, 0.0) is hers
        assert cache.find(key(), BOB, db.latest_ts, 0.0) is his
        assert cache.find(key(), b"eve", db.latest_ts, 0.0) is None
        # Runs of a function that asks who is calling are shared by equal callers only.
        running = cache.begin(key(), ALICE, db.latest_ts)
        assert cache.running(key(), ALICE, db.latest_ts) is running
        assert cache.running(key(), BOB, db.latest_ts) is None
        cache.finish(key(), running, hers)
        assert await running.done is hers

    run(tmp_path, body)


def test_an_entry_answers_to_both_of_its_journals(tmp_path: Path) -> None:
    async def body(db: Database, clock: Clock) -> None:
        cache = QueryCache(db, 1 << 20)
        made = entry(db, journal="end")
        cache.add(key(), made)
        assert cache.find(key(journal="end"), ALICE, db.latest_ts, 0.0) is made
        assert cache.find(key(), ALICE, db.latest_ts, 0.0) is made
        await write(db)
        assert len(cache) == 0

    run(tmp_path, body)


def test_what_saw_the_clock_is_given_to_nobody_new_after_a_while(tmp_path: Path) -> None:
    async def body(db: Database, clock: Clock) -> None:
        cache = QueryCache(db, 1 << 20)
        made = entry(db, expires_at=10.0)
        told: list[QueryEntry] = []
        cache.add(key(), made)
        made.watch(told.append)
        assert cache.find(key(), ALICE, db.latest_ts, 9.9) is made
        assert cache.find(key(), ALICE, db.latest_ts, 10.0) is None
        # Who watches it is not woken by time, only by data.
        assert made.valid_at(db.latest_ts) and told == []
        await write(db)
        assert told == [made]

    run(tmp_path, body)


def test_the_least_recently_used_goes_first_and_its_watchers_stay(tmp_path: Path) -> None:
    async def body(db: Database, clock: Clock) -> None:
        cache = QueryCache(db, 30_000)
        first, second, third = (entry(db, b'"' + b"x" * 10_000 + b'"') for _ in range(3))
        told: list[QueryEntry] = []
        second.watch(told.append)
        cache.add(key(b"1"), first)
        cache.add(key(b"2"), second)
        assert cache.find(key(b"1"), ALICE, db.latest_ts, 0.0) is first
        cache.add(key(b"3"), third)
        assert cache.find(key(b"2"), ALICE, db.latest_ts, 0.0) is None
        assert cache.find(key(b"1"), ALICE, db.latest_ts, 0.0) is first
        assert second.valid_at(db.latest_ts)
        await write(db)
        assert told == [second]

    run(tmp_path, body)


def test_what_was_read_has_its_weight(tmp_path: Path) -> None:
    async def body(db: Database, clock: Clock) -> None:
        cache = QueryCache(db, 1 << 20)
        for n in range(10):
            made = entry(db)
            assert made.reads is not None
            for point in range(1_000):
                made.reads.add_point(1, point.to_bytes(16, "big"))
            cache.add(key(b"%d" % n), made)
        assert 1 <= len(cache) <= 4

    run(tmp_path, body)


def test_errors_are_watched_but_not_kept(tmp_path: Path) -> None:
    async def body(db: Database, clock: Clock) -> None:
        cache = QueryCache(db, 1 << 20)
        failed = entry(db, error=FunctionError("Uncaught Error: x\n"))
        cache.add(key(), failed)
        assert len(cache) == 0
        told: list[QueryEntry] = []
        failed.watch(told.append)
        await write(db)
        assert told == [failed]

    run(tmp_path, body)


def test_several_watchers_are_told_once_each(tmp_path: Path) -> None:
    async def body(db: Database, clock: Clock) -> None:
        made = entry(db)
        told: list[str] = []

        def watcher(name: str) -> Callable[[QueryEntry], None]:
            return lambda ended: told.append(name)

        same = watcher("same")
        stop = made.watch(watcher("stopped"))
        made.watch(same)
        made.watch(same)
        stop()
        await write(db)
        await write(db)
        assert told == ["same", "same"]

    run(tmp_path, body)


def test_whoever_gives_up_leaves_the_run_to_the_others(tmp_path: Path) -> None:
    async def body(db: Database, clock: Clock) -> None:
        cache = QueryCache(db, 1 << 20)
        running = cache.begin(key(), ALICE, db.latest_ts)
        cache.finish(key(), running, None)
        assert await running.done is None
        failing = cache.begin(key(), ALICE, db.latest_ts)
        cache.finish(key(), failing, CvxError("Overloaded", "too much", kind="overloaded"))
        with pytest.raises(CvxError):
            await failing.done
        assert cache.running(key(), ALICE, db.latest_ts) is None

    run(tmp_path, body)


def test_answers_of_any_size_are_recorded_and_forgotten_in_time(tmp_path: Path) -> None:
    async def body(db: Database, clock: Clock) -> None:
        large = b'"' + b"x" * 3_000_000 + b'"'
        lines = ["[LOG] " + "y" * 500_000] * 3
        await db.run(SYSTEM, lambda tx: session_requests.record(tx, "s", 1, large, lines))
        _, ts = await db.run(SYSTEM, lambda tx: session_requests.record(tx, "s", 2, b"null", []))

        def look(request: int) -> session_requests.RecordedAnswer | None:
            with db.snapshot() as snapshot:
                return session_requests.lookup(db.begin(SYSTEM, snapshot=snapshot), "s", request)

        found, small = look(1), look(2)
        assert found is not None and (found.value_json, found.log_lines) == (large, lines)
        assert small is not None and (small.value_json, small.log_lines, small.ts) == (b"null", [], ts)
        assert look(3) is None
        limits = Limits(session_request_batch_rows=5)
        assert await forget_old_answers(db, limits) == 0
        clock.ahead_ns = int((limits.session_request_retention_s + 60) * 1e9)
        assert await forget_old_answers(db, limits) > 5
        assert look(1) is None and look(2) is None

    run(tmp_path, body)
