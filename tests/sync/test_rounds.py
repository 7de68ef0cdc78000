"""Rounds by themselves: what one client is in trouble with does not reach the others."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from cvx.backend.config import Limits
from cvx.backend.database import Database
from cvx.backend.sync.rounds import Rounds
from tests.functions.deployment import WallClock


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
            await asyncio.sleep(0.2)
            assert told == [0, 2, 3, 4, 6, 7, 8]
            updates.leave()

    asyncio.run(main())
