"""Drops what nobody needs any more, in small steps between commits: the end of the log that is older than the
window, and the rows of tables and indexes that are gone from the Catalog.

Source: design.md §1.4; fault-list.md lines 3–5.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from cvx.backend.config import Limits
from cvx.backend.database.committer import Committer
from cvx.backend.store import Store
from cvx.values import Clock


class Retention:
    """`step` is called again and again by the database's housekeeping."""

    def __init__(self, store: Store, committer: Committer, clock: Clock, limits: Limits) -> None:
        self._store = store
        self._committer = committer
        self._clock = clock
        self._limits = limits
        self._drops: deque[Callable[[int], int]] = deque()

    def drop_table(self, table_id: int) -> None:
        """Delete the documents of a table that has left the Catalog."""
        self._drops.append(lambda limit: self._store.drop_table(table_id, limit))

    def drop_index(self, index_id: int) -> None:
        """Delete the entries of an index that has left the Catalog."""
        self._drops.append(lambda limit: self._store.drop_index(index_id, limit))

    async def step(self) -> bool:
        """One bounded piece of work; whether there may be more."""
        limit = self._limits.store_step_rows
        if self._drops:
            drop = self._drops[0]
            if await self._committer.between_commits(lambda: drop(limit)) == 0:
                self._drops.popleft()
            return True
        before = self._clock.now_ns() - int(self._limits.log_retention_s * 1e9)
        return await self._committer.between_commits(lambda: self._store.trim(before, limit)) >= limit
