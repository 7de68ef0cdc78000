"""A worker that starts what is due: found by an index, woken by commits, never polling.

`DueLoop` is what scheduled functions and crons have in common. It reads the first few items of an index in the order
in which they are due, starts those whose time has come, and sleeps until the next one's time or until a commit
touches what it read: an ordinary subscription. So it costs nothing while nothing is due, however much waits.

Rules:
- No more items run at a time than there are places; the others stay where they are, in the database.
- An item is started at most once at a time. What its run does to the database decides whether it is due again.

Source: design.md §4 (jobs); reference/runtime-and-database.md §6.3.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from cvx.backend.auth import SYSTEM
from cvx.backend.config import Limits
from cvx.backend.database import Database, Subscription, Transaction
from cvx.errors import CvxError

T = TypeVar("T")
Release = Callable[[], None]
_log = logging.getLogger("cvx.jobs")

_FETCH_ROWS_FIRST = 16
"""Few rows while little is due; more, up to `Limits.jobs_fetch_rows`, in a burst."""


@dataclass(frozen=True, slots=True)
class Due(Generic[T]):
    """Something to be done at a time (ms since 1970). `key` tells it from the others."""

    key: str
    due_ms: float
    item: T


class DueLoop(Generic[T]):
    """Runs the items of one queue. `start` it on the event loop, `stop` it before the database is closed."""

    def __init__(
        self,
        db: Database,
        limits: Limits,
        places: Callable[[], int],
        find: Callable[[Transaction, int], Sequence[Due[T]]],
        run: Callable[[T, Release], Awaitable[None]],
    ) -> None:
        """`places` says how many may run now, always at least one. `find(tx, n)` gives the first n items in the order in which they are due, whether or not they are yet.
        `run` returns when the item's run is over, one way or the other. It may call its second argument earlier, to
        let the next item begin: when it is due no more, and there is only waiting left."""
        self._db = db
        self._limits = limits
        self._places = places
        self._find = find
        self._run = run
        self._waiting: deque[Due[T]] = deque()
        self._running: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._fetch_rows = _FETCH_ROWS_FIRST
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._loop())

    async def stop(self) -> None:
        """Cancel what runs, and wait for it to let go."""
        tasks = [task for task in (self._task, *self._tasks) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._task = None

    @property
    def running(self) -> int:
        """How many items run now."""
        return len(self._running)

    async def _loop(self) -> None:
        while True:
            try:
                await self._turn()
            except CvxError as error:
                _log.warning("what is due could not be looked up, and will be again: %s", error)
                await asyncio.sleep(self._limits.job_retry_s)

    async def _turn(self) -> None:
        """Start what can be started; return when something may have changed."""
        self._wake.clear()
        self._start_waiting()
        if self._waiting:
            await self._wake.wait()  # Every place is taken; whoever ends sets it.
            return
        subscription, wait_s = self._look()
        if self._waiting or subscription is None:
            return
        # Not `wait_for`, which forgets that it was cancelled when both happen at once.
        timer = asyncio.get_running_loop().call_later(wait_s, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()
            subscription.close()

    def _look(self) -> tuple[Subscription | None, float]:
        """Fetch what is due and start it. What to wait for, and how long; None: look again."""
        wanted = self._fetch_rows + len(self._running)  # Those that run may still be listed.
        with self._db.snapshot() as snapshot:
            tx = self._db.begin(SYSTEM, snapshot=snapshot, read_only=True)
            listed = self._find(tx, wanted)
            found = [due for due in listed if due.key not in self._running]
            now_ms = self._db.clock.now_ns() / 1e6
            due_now = [due for due in found if due.due_ms <= now_ms]
            self._waiting.extend(due_now)
            self._start_waiting()
            if len(due_now) == len(found) and len(listed) == wanted:
                self._fetch_rows = min(2 * self._fetch_rows, self._limits.jobs_fetch_rows)
                return None, 0.0
            self._fetch_rows = _FETCH_ROWS_FIRST
            subscription = self._db.subscribe(tx.reads, snapshot.ts, lambda ts: self._wake.set())
        # In the order of the index, which is that of their times.
        later = next((due.due_ms for due in found if due.due_ms > now_ms), None)
        longest_s = self._limits.jobs_wait_s_max
        return subscription, longest_s if later is None else min((later - now_ms) / 1000.0, longest_s)

    def _start_waiting(self) -> None:
        while self._waiting and len(self._running) < self._places():
            due = self._waiting.popleft()
            if due.key not in self._running:
                self._running.add(due.key)
                task = asyncio.get_running_loop().create_task(self._one(due))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _one(self, due: Due[T]) -> None:
        try:
            await self._run(due.item, lambda: self._release(due.key))
        except Exception as error:  # edge: whatever happened to one item, the others go on.
            # Nothing is known to have changed in the database: it is due again, and not at once.
            _log.warning("the job %s could not be run, and will be again: %r", due.key, error)
            await asyncio.sleep(self._limits.job_retry_s)
        finally:
            self._release(due.key)

    def _release(self, key: str) -> None:
        self._running.discard(key)
        self._wake.set()


def retry_delay_s(limits: Limits, failures: int, most_s: float) -> float:
    """How long to wait after so many failures of the system in a row."""
    return min(most_s, limits.job_retry_s * 2.0 ** min(failures - 1, 40))
