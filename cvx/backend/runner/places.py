"""Who may run: so many at once; the rest wait in turn, so many of them and so long.

What an action runs and waits for does not wait in the line that its caller is in, but nobody can tell that of what it
fetches: an action that fetches an HTTP action of its own deployment waits for a place, too. HTTP actions have places of
their own for that reason, and no wait is without an end.

Source: reference/runtime-and-database.md §4.5 (concurrency).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cvx.backend.runner.verdicts import stopping
from cvx.errors import CvxError


class Places:
    """`running_max` at once; `waiting_max` wait, `wait_s` each at most (None: as long as it takes). `what` they are,
    for messages."""

    def __init__(self, running_max: int, waiting_max: int, wait_s: float | None, what: str) -> None:
        self._running_max = running_max
        self._waiting_max = waiting_max
        self._wait_s = wait_s
        self._what = what
        self._running = 0
        self._closed = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Have a place. Raises CvxError "TooManyConcurrentRequests", "BackendStopping"."""
        await self._enter()
        try:
            yield
        finally:
            self._leave()

    def close(self) -> None:
        """Nobody gets a place any more, nor waits for one: CvxError "BackendStopping"."""
        self._closed = True
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(stopping())

    async def _enter(self) -> None:
        if self._closed:
            raise stopping()
        if self._running < self._running_max:
            self._running += 1
            return
        if len(self._waiting) >= self._waiting_max:
            raise too_many(f"Too many {self._what} are waiting to run.")
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            # Whoever wakes it hands over a place. Not `wait_for`: it may lose a cancellation (Python 3.11).
            await asyncio.wait({waiter}, timeout=self._wait_s)
        except asyncio.CancelledError:
            if waiter.done():
                if waiter.exception() is None:
                    self._leave()
            else:
                self._waiting.remove(waiter)
            raise
        if not waiter.done():
            self._waiting.remove(waiter)
            raise too_many(
                f"No place to run was free for {self._wait_s or 0:g} s: too many {self._what} are running."
            )
        waiter.result()

    def _leave(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._running -= 1


def too_many(message: str) -> CvxError:
    """What did not begin, because too much else runs."""
    return CvxError(
        "TooManyConcurrentRequests",
        message,
        kind="overloaded",
        hint="Try again in a moment.",
        retry_when="time",
    )
