"""Commands that print until somebody stops them end when nobody reads them any more: `cvx logs | head -1`.

A write to a pipe without a reader fails, but the next write may be hours away; so the pipe itself is watched.

Rule: only a pipe is watched; a terminal or a file has no reader that leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import sys
from collections.abc import Coroutine
from typing import Any

from cvx.cli.output import ReaderGone


async def while_read(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` until it ends. Raises `ReaderGone` once the reader of standard output is gone."""
    task = asyncio.ensure_future(work)
    left = False

    def leave() -> None:
        nonlocal left
        left = True
        loop.remove_reader(pipe)
        task.cancel()

    loop, pipe = asyncio.get_running_loop(), _pipe()
    if pipe >= 0:
        # Nothing can be read from this end: what a selector reports here is the other end's going.
        with contextlib.suppress(OSError, NotImplementedError):
            loop.add_reader(pipe, leave)
    try:
        await task
    except asyncio.CancelledError:
        if left:
            raise ReaderGone from None
        raise
    finally:
        if pipe >= 0 and not left:
            with contextlib.suppress(OSError, NotImplementedError):
                loop.remove_reader(pipe)


def _pipe() -> int:
    """Standard output's number when it is a pipe, else -1."""
    try:
        number = sys.stdout.fileno()
        return number if stat.S_ISFIFO(os.fstat(number).st_mode) else -1
    except (OSError, ValueError, AttributeError):
        return -1
