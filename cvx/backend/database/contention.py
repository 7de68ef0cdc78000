"""Turns: how transactions that keep conflicting come to run one after the other.

A transaction runs freely until it conflicts. Its next attempt first waits in line for the documents it conflicted
on (and those it wrote); while it holds them, nobody else's commit may change them: such a commit conflicts at
once and gets in line itself. After several conflicts an attempt takes the whole committer: until it is done,
other commits wait. So a hot row degrades to one after the other, and every transaction gets through.

Locks are taken in sorted order, and nobody waits for a lock while holding the committer: no deadlock.

Source: design.md §11.10; reference/runtime-and-database.md §4.2.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterable
from contextvars import ContextVar

ConflictKey = tuple[int, bytes]
"""A document (its table's store id, its internal id) or a range (index, start)."""


class Turn:
    """What one attempt holds."""

    __slots__ = ("keys",)

    def __init__(self, keys: frozenset[ConflictKey]) -> None:
        self.keys = keys


_current: ContextVar[Turn | None] = ContextVar("cvx_turn", default=None)


class _Line:
    """A lock that can be dropped when nobody is interested any more."""

    __slots__ = ("interested", "lock")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.interested = 0


class Turns:
    """Who holds what."""

    def __init__(self) -> None:
        self._lines: dict[ConflictKey, _Line] = {}
        self._holders: dict[ConflictKey, Turn] = {}
        self._whole = asyncio.Lock()
        self._exclusive: Turn | None = None
        self._exclusive_over: asyncio.Event | None = None

    @contextlib.asynccontextmanager
    async def turn(self, keys: Collection[ConflictKey], *, exclusive: bool) -> AsyncIterator[Turn]:
        """Hold these keys, or (`exclusive`) the whole committer, for one attempt made inside."""
        mine = Turn(frozenset(keys))
        async with self._everything(mine) if exclusive else self._some(mine):
            token = _current.set(mine)
            try:
                yield mine
            finally:
                _current.reset(token)

    @contextlib.asynccontextmanager
    async def _some(self, mine: Turn) -> AsyncIterator[None]:
        held: list[tuple[ConflictKey, _Line]] = []
        try:
            for key in sorted(mine.keys):
                line = self._lines.get(key)
                if line is None:
                    line = self._lines[key] = _Line()
                line.interested += 1
                held.append((key, line))
                await line.lock.acquire()
                self._holders[key] = mine
            yield
        finally:
            for key, line in held:
                line.interested -= 1
                if self._holders.get(key) is mine:
                    del self._holders[key]
                    line.lock.release()
                if not line.interested:
                    del self._lines[key]

    @contextlib.asynccontextmanager
    async def _everything(self, mine: Turn) -> AsyncIterator[None]:
        async with self._whole:
            self._exclusive, self._exclusive_over = mine, asyncio.Event()
            try:
                yield
            finally:
                self._exclusive = None
                self._exclusive_over.set()

    @property
    def is_quiet(self) -> bool:
        """Whether no commit has to ask."""
        return self._exclusive is None and not self._holders

    def mine(self) -> Turn | None:
        """The turn that the calling task is in."""
        return _current.get()

    def must_wait(self, mine: Turn | None) -> bool:
        """Whether somebody else has the whole committer."""
        return self._exclusive is not None and self._exclusive is not mine

    async def may_commit(self, mine: Turn | None) -> None:
        """Wait while somebody else has the whole committer."""
        while self.must_wait(mine):
            assert self._exclusive_over is not None
            await self._exclusive_over.wait()

    def held_by_other(self, keys: Iterable[ConflictKey], mine: Turn | None) -> ConflictKey | None:
        """One of these documents that somebody else is in the middle of changing, in their turn."""
        if not self._holders or (mine is not None and mine is self._exclusive):
            return None
        for key in keys:
            holder = self._holders.get(key)
            if holder is not None and holder is not mine:
                return key
        return None
