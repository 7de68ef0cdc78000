"""Waiting for something to become true, for as long as a slow and busy machine may need: the rule for every test is
to watch for what it is about instead of sleeping, and to be generous with the deadline, which only a failure reaches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE_S = 40.0


def until(probe: Callable[[], T], what: str = "it", deadline_s: float = DEADLINE_S) -> T:
    """What `probe` returns once that is true."""
    deadline = time.monotonic() + deadline_s
    while True:
        found = probe()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what} did not happen within {deadline_s} s; last: {found!r}"
        time.sleep(0.02)


async def happens(probe: Callable[[], T], what: str = "it", deadline_s: float = DEADLINE_S) -> T:
    """What `probe` returns once that is true, other tasks going on meanwhile."""
    deadline = time.monotonic() + deadline_s
    while True:
        found = probe()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what} did not happen within {deadline_s} s; last: {found!r}"
        await asyncio.sleep(0.005)
