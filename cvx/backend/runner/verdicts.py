"""What is said of a function that its process took along, and to whoever comes when the backend ends.

Source: reference/runtime-and-database.md §3.3, §4.5.
"""

from __future__ import annotations

from typing import Literal

from cvx.backend.runner.interface import FunctionFailure
from cvx.errors import CvxError

DeathCause = Literal["timeout", "memory", "crash", "closed"]
"""Why a process ended. "closed": we wanted it to."""


def stopping() -> CvxError:
    """Nothing begins any more, and what was under way has ended."""
    return CvxError(
        "BackendStopping",
        "The backend is stopping.",
        kind="unavailable",
        hint="Try again when it is back.",
        retry_when="time",
    )


def of_function(cause: DeathCause, deadline_ms: float) -> FunctionFailure:
    """Of a query or mutation whose own fault it was."""
    if cause == "timeout":
        return _timed_out(f"{deadline_ms / 1000:g}s")
    if cause == "memory":
        return _out_of_memory(64)
    return FunctionFailure("The process that ran this function crashed", kind="crash")


def of_action(cause: DeathCause, *, blamed: bool, turn_s: float, heap_bytes_max: int) -> FunctionFailure:
    """Of an action. `turn_s`: how long it might compute without a pause; `heap_bytes_max`: of its process."""
    if not blamed:
        return FunctionFailure(
            "Transient error while executing action: the process that ran it was ended by another action. "
            "It was not run again, since it may have had effects already.",
            kind="crash",
        )
    if cause == "timeout":
        return _timed_out(f"{turn_s:g}s without a pause, while other actions wait")
    if cause == "memory":
        return _out_of_memory(heap_bytes_max >> 20)
    return FunctionFailure("The process that ran this action crashed", kind="crash")


def of_expired_action(deadline_s: float) -> FunctionFailure:
    """Of an action that is not over when its time is."""
    return _timed_out(f"{deadline_s:g}s")


def _timed_out(duration: str) -> FunctionFailure:
    return FunctionFailure(f"Function execution timed out (maximum duration: {duration})", kind="timeout")


def _out_of_memory(most_mb: int) -> FunctionFailure:
    message = f"JavaScript execution ran out of memory (maximum memory usage: {most_mb} MB)"
    return FunctionFailure(message, kind="memory")
