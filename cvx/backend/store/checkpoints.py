"""Moves the write-ahead log into the database file, on a thread of its own.

Most checkpoints are passive: they copy what no reader needs any more and get in nobody's way. The log can only
start again from its beginning at a moment when no reader stands in it, and under constant load there may be no
such moment; so when it has grown very large, writers are asked to wait (`writable`) while the last readers of
old pages finish, for at most a tenth of a second at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading

from cvx.backend.config import Limits
from cvx.backend.store.durability import Flusher
from cvx.errors import CvxError

_TICK_S = 0.25
_RESTART_WAIT_MS = 100
_IDLE_TICKS = 4
_BYTES_PER_ROW = 4096  # What one changed row adds to the log at worst: a page.


class Checkpointer:
    """`wrote` and `writable` are for the event loop's thread."""

    def __init__(self, connection: sqlite3.Connection, flusher: Flusher, limits: Limits) -> None:
        self._connection = connection
        self._flusher = flusher
        self._limits = limits
        self._page_bytes: int = connection.execute("PRAGMA page_size").fetchone()[0]
        self.readers_elsewhere = 0
        """Other processes that hold a snapshot: the log cannot start again before they are done."""
        self._unchecked_bytes = 0
        self._quiet_ticks = 0
        self._resting: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cvx-checkpointer", daemon=True)
        self._thread.start()

    def wrote(self, rows: int) -> None:
        """Note that a commit of about so many rows was written."""
        self._unchecked_bytes += (rows + 1) * _BYTES_PER_ROW
        self._quiet_ticks = 0

    async def writable(self) -> None:
        """Return when no checkpoint needs writers to stand still."""
        self._loop = asyncio.get_running_loop()
        while self._resting is not None:
            await asyncio.shield(self._resting)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        while not self._stop.wait(_TICK_S):
            if self._flusher.is_behind:
                self._flusher.wake()  # Commits that nobody waits for reach the disk too.
            self._quiet_ticks += 1
            idle = self._unchecked_bytes and self._quiet_ticks >= _IDLE_TICKS
            if self._unchecked_bytes < self._limits.checkpoint_wal_bytes and not idle:
                continue
            self._unchecked_bytes = 0
            try:
                log_bytes = self._checkpoint("PASSIVE")
                if log_bytes > self._limits.restart_wal_bytes and not self.readers_elsewhere:
                    self._restart()
                self._give_back_pages()
            except sqlite3.Error as error:
                # A full disk stops checkpoints, not commits: try again at the next tick. Anything else is a
                # disk that fails; what it holds is unknown.
                if "full" not in str(error) and "locked" not in str(error) and "busy" not in str(error):
                    self._flusher.fail(error)
                    return
                self._unchecked_bytes = self._limits.checkpoint_wal_bytes
            except CvxError:
                return

    def _checkpoint(self, mode: str) -> int:
        """Bytes the log holds, counted from its beginning."""
        _, pages, _ = self._connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        return int(max(pages, 0)) * self._page_bytes

    def _restart(self) -> None:
        loop = self._loop
        if loop is None or loop.is_closed():
            self._checkpoint("TRUNCATE")
            return
        standing = threading.Event()
        loop.call_soon_threadsafe(self._rest, loop, standing)
        try:
            if standing.wait(1.0):
                self._connection.execute(f"PRAGMA busy_timeout={_RESTART_WAIT_MS}")
                self._checkpoint("TRUNCATE")
        finally:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._resume)

    def _rest(self, loop: asyncio.AbstractEventLoop, standing: threading.Event) -> None:
        if self._resting is None:
            self._resting = loop.create_future()
        standing.set()

    def _resume(self) -> None:
        resting, self._resting = self._resting, None
        if resting is not None and not resting.done():
            resting.set_result(None)

    def _give_back_pages(self) -> None:
        """Return pages that dropped rows left empty to the file system, a few at a time."""
        free: int = self._connection.execute("PRAGMA freelist_count").fetchone()[0]
        total: int = self._connection.execute("PRAGMA page_count").fetchone()[0]
        if free > 1_000 and free > total // 4:
            self._connection.execute("PRAGMA busy_timeout=100")
            # Writers come first; the next tick tries again.
            with contextlib.suppress(sqlite3.OperationalError):
                self._connection.execute(f"PRAGMA incremental_vacuum({min(free // 2, 500)})").fetchall()
