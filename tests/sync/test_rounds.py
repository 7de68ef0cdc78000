"""Rounds by themselves: what one client is in trouble with does not reach the others."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from msgspec import Raw

from cvx.backend.auth import ANONYMOUS
from cvx.backend.config import Limits
from cvx.backend.database import Database, Snapshot
from cvx.backend.sync.rounds import Rounds
from cvx.errors import CvxError
from cvx.protocol.sync_events import Caller, QueryRun
from tests.functions.deployment import WallClock
from tests.waiting import happens


def test_a_client_that_fails_does_not_keep_an_update_from_others(tmp_path: Path) -> None:
    async def main() -> None:
        async with await Database.open(tmp_path, clock=WallClock()) as db:
            executor: Any = None  # Nothing is asked.
            updates = Rounds(executor, db, Limits(socket_batch=3)).join()
            told: list[int] = []

            def broken() -> None:
                raise RuntimeError("the transport is closed")

            for n in range(10):
                updates.when_durable(broken if n % 4 == 1 else lambda n=n: told.append(n))  # type: ignore[misc]
            await happens(lambda: 8 in told, "the last one being told")
            assert told == [0, 2, 3, 4, 6, 7, 8]
            updates.leave()

    asyncio.run(main())


def test_a_round_whose_snapshot_is_gone_takes_in_nobody_new(tmp_path: Path) -> None:
    async def main() -> None:
        limits = Limits(snapshot_age_s=0.05, retention_interval_s=0.02)
        async with await Database.open(tmp_path, clock=WallClock(), limits=limits) as db:
            executor: Any = None
            rounds = Rounds(executor, db, limits)
            slow = rounds.join()
            assert rounds.join() is slow
            held = slow._snapshot
            await happens(lambda: held.is_expired, "the snapshot's end")
            fresh = rounds.join()
            assert fresh is not slow and fresh.ts == slow.ts
            for one in (slow, slow, fresh):
                one.leave()

    asyncio.run(main())


class Asked:
    """An executor that answers when it is told to, or fails."""

    def __init__(self) -> None:
        self.answer = asyncio.Event()
        self.asked = 0
        self.expired: list[bool] = []

    async def query(self, path: str, args: bytes, identity: Any, *, snapshot: Snapshot, **_: Any) -> Any:
        self.asked += 1
        await self.answer.wait()
        self.expired.append(snapshot.is_released)
        raise CvxError("TooManyConcurrentRequests", "Busy.", kind="overloaded")


def test_who_leaves_takes_nothing_from_runs_that_others_may_share(tmp_path: Path) -> None:
    async def main() -> None:
        async with await Database.open(tmp_path, clock=WallClock()) as db:
            executor: Any = Asked()
            round = Rounds(executor, db, Limits()).join()
            run, caller = QueryRun(0, "a:b", Raw(b"[{}]"), "", None), Caller(ANONYMOUS, False)
            answers: list[Any] = []
            round.ask(run, caller, answers.append)
            await db.run(
                None, lambda tx: tx.insert("rows", {})
            )  # Nobody else holds the snapshot from here on.
            round.leave()
            executor.answer.set()
            await happens(lambda: answers, "the answer")
            assert executor.expired == [False] and len(answers) == 1

    asyncio.run(main())


def test_passing_trouble_is_asked_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with await Database.open(tmp_path, clock=WallClock()) as db:
            executor: Any = Asked()
            executor.answer.set()
            round = Rounds(executor, db, Limits()).join()
            run, caller = QueryRun(0, "a:b", Raw(b"[{}]"), "", None), Caller(ANONYMOUS, False)
            answers: list[Any] = []
            for asked in (1, 2):
                round.ask(run, caller, answers.append)
                await happens(lambda asked=asked: len(answers) == asked, "the answer")  # type: ignore[misc]
                assert (executor.asked, len(answers)) == (asked, asked)
            round.leave()

    asyncio.run(main())
