"""The loop that starts what is due: woken by commits and by the clock, never polling, never more than allowed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from cvx.backend.config import Limits
from cvx.backend.database import Database, SystemTable, Transaction
from cvx.backend.jobs.supervisor import Due, DueLoop, Release, retry_delay_s
from cvx.errors import CvxError
from tests.waiting import happens

TABLES = (SystemTable("_due", 600, {"by_due": ("due",)}),)


class Clock:
    def now_ns(self) -> int:
        return time.time_ns()


class Items:
    """Rows of a table that are due; a run deletes its row."""

    def __init__(self, db: Database, limits: Limits, running_max: int) -> None:
        self.db = db
        self.looks = 0
        self.ran: list[str] = []
        self.most = self.now = 0
        self.takes_s = 0.0
        self.fails = 0
        self.loop: DueLoop[str] = DueLoop(db, limits, lambda: running_max, self.find, self.run)

    def find(self, tx: Transaction, n: int) -> Sequence[Due[str]]:
        self.looks += 1
        query = {"source": {"type": "IndexRange", "indexName": "_due.by_due", "order": "asc", "range": []}}
        rows = tx.collect({**query, "operators": [{"limit": n}]}, privileged=True)
        return [Due(row["_id"], row["due"], row["_id"]) for row in rows]

    async def run(self, id: str, release: Release) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.takes_s)
            if self.fails:
                self.fails -= 1
                raise CvxError("InternalServerError", "not today", kind="internal")
            await self.db.run(None, lambda tx: tx.delete(id, privileged=True))
            self.ran.append(id)
        finally:
            self.now -= 1

    async def add(self, *in_s: float) -> list[str]:
        now_ms = time.time() * 1000

        def body(tx: Transaction) -> list[str]:
            return [str(tx.insert("_due", {"due": now_ms + s * 1000}, privileged=True)) for s in in_s]

        return (await self.db.run(None, body))[0]

    async def until(self, count: int) -> None:
        deadline = time.monotonic() + 60
        while len(self.ran) < count:
            assert time.monotonic() < deadline, f"{len(self.ran)} of {count} have run"
            await asyncio.sleep(0.002)


def with_items(
    folder: Path, body: Callable[[Items], Awaitable[None]], running_max: int = 3, **limits: Any
) -> None:
    async def main() -> None:
        chosen = Limits(job_retry_s=0.05, **limits)
        async with await Database.open(folder / "data", clock=Clock(), system_tables=TABLES) as db:
            items = Items(db, chosen, running_max)
            items.loop.start()
            try:
                await body(items)
            finally:
                await items.loop.stop()

    asyncio.run(asyncio.wait_for(main(), 120))


def test_it_looks_when_something_changes_and_when_the_time_has_come_and_at_no_other_time(
    tmp_path: Path,
) -> None:
    async def body(items: Items) -> None:
        await happens(lambda: items.looks, "the first look")
        later, soon = await items.add(3600, 1.0)
        await happens(lambda: items.looks >= 2, "the look after a commit")
        assert items.ran == []
        await items.until(1)
        assert items.ran == [soon]
        await asyncio.sleep(0.3)
        looks = items.looks
        assert looks <= 6  # The time, perhaps a moment early; the commit; the end.
        # A far-away item that comes after all that was read concerns nobody but the range's end.
        await asyncio.sleep(0.3)
        assert items.looks == looks
        assert later not in items.ran

    with_items(tmp_path, body)


def test_a_burst_runs_in_order_with_bounded_concurrency_and_few_looks(tmp_path: Path) -> None:
    async def body(items: Items) -> None:
        ids = await items.add(*(-1.0 + n / 1000 for n in range(200)))
        await items.until(200)
        assert items.most == 3
        assert sorted(items.ran) == sorted(ids)
        early, late = items.ran[:100], items.ran[100:]
        assert set(early) <= set(ids[:103]) and set(late) <= set(ids[97:])
        assert items.looks < 30, items.looks

    with_items(tmp_path, body)


def test_what_fails_is_tried_again_after_a_pause_while_others_go_on(tmp_path: Path) -> None:
    async def body(items: Items) -> None:
        items.fails = 1
        started = time.monotonic()
        failing, other = await items.add(-2, -1)
        await items.until(2)
        assert items.ran == [other, failing]
        assert time.monotonic() - started >= 0.05

    with_items(tmp_path, body, running_max=1)


def test_stopping_cancels_what_runs(tmp_path: Path) -> None:
    async def body(items: Items) -> None:
        items.takes_s = 60
        await items.add(-1, -1)
        while items.loop.running < 2:
            await asyncio.sleep(0.002)
        started = time.monotonic()
        await items.loop.stop()
        assert time.monotonic() - started < 30, "it waits for what runs"
        assert (items.now, items.ran, items.loop.running) == (0, [], 0)

    with_items(tmp_path, body)


def test_the_pause_between_tries_grows_to_its_limit() -> None:
    limits = Limits(job_retry_s=0.5)
    delays = [retry_delay_s(limits, failures, 7200.0) for failures in (1, 2, 3, 14, 15, 1000)]
    assert delays == [0.5, 1.0, 2.0, 4096.0, 7200.0, 7200.0]
