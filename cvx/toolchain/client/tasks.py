"""Ending a task without losing a cancellation that was meant for oneself.

`task.cancel()` followed by `suppress(CancelledError): await task` also swallows the cancellation of whoever
awaits, which then never ends. `asyncio.wait` tells the two apart.
"""

from __future__ import annotations

import asyncio
from typing import Any


async def end_task(task: asyncio.Future[Any] | None) -> None:
    """Cancel a task and wait until it has ended; how it ended does not matter any more."""
    if task is None:
        return
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # Looked at, so that nobody complains that nobody did.
