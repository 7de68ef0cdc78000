"""Ending a task without losing a cancellation that was meant for oneself; waiting for what may never return.

`task.cancel()` followed by `suppress(CancelledError): await task` also swallows the cancellation of whoever
awaits, which then never ends. `asyncio.wait` tells the two apart.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def end_task(task: asyncio.Future[Any] | None) -> None:
    """Cancel a task and wait until it has ended; how it ended does not matter any more."""
    if task is None:
        return
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # Looked at, so that nobody complains that nobody did.


async def in_own_thread(function: Callable[..., T], *args: Any) -> T:
    """Like `asyncio.to_thread`, for what may wait for a person: the end of the program does not wait for it.

    A read of a terminal or a pipe cannot be interrupted; `asyncio.run` would wait for the executor's thread.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(value)  # type: ignore[arg-type]

    def run() -> None:
        value, failure = None, None
        try:
            value = function(*args)
        except BaseException as error:  # edge: of a thread; whoever waits for it gets the failure.
            failure = error
        try:
            loop.call_soon_threadsafe(settle, value, failure)
        except RuntimeError:  # The loop has ended meanwhile: nobody waits any more.
            return

    threading.Thread(target=run, name=f"waits: {getattr(function, '__name__', 'call')}", daemon=True).start()
    return await done
