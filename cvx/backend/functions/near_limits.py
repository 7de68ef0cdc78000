"""A warning in the log of a call that came near a limit, before it becomes an error.

Source: reference/runtime-and-database.md §4.5 ("near-limit warnings").
"""

from __future__ import annotations

from cvx.backend.config import Limits
from cvx.backend.database import Usage
from cvx.backend.runner import LogLine


def near_limits(usage: Usage, limits: Limits, now_ms: float) -> list[LogLine]:
    """A line for each limit of which more than 80 % was used."""
    if (
        usage.documents_read * 5 <= limits.documents_read_max * 4
        and usage.bytes_read * 5 <= limits.read_bytes_max * 4
        and usage.intervals * 5 <= limits.read_intervals_max * 4
        and usage.documents_written * 5 <= limits.documents_written_max * 4
        and usage.bytes_written * 5 <= limits.written_bytes_max * 4
        and usage.functions_scheduled * 5 <= limits.functions_scheduled_max * 4
        and usage.scheduled_args_bytes * 5 <= limits.scheduled_args_bytes_max * 4
    ):
        return []
    checks = (
        ("TooManyDocumentsRead", "documents read", usage.documents_read, limits.documents_read_max),
        ("TooManyBytesRead", "bytes read", usage.bytes_read, limits.read_bytes_max),
        ("TooManyReads", "index ranges read", usage.intervals, limits.read_intervals_max),
        ("TooManyWrites", "documents written", usage.documents_written, limits.documents_written_max),
        ("TooManyBytesWritten", "bytes written", usage.bytes_written, limits.written_bytes_max),
        (
            "TooManyFunctionsScheduled",
            "functions scheduled",
            usage.functions_scheduled,
            limits.functions_scheduled_max,
        ),
        (
            "ScheduledFunctionsArgumentsTooLarge",
            "bytes of arguments of scheduled functions",
            usage.scheduled_args_bytes,
            limits.scheduled_args_bytes_max,
        ),
    )
    return [
        LogLine(
            "WARN",
            (f"Near the limit of one function execution: {used} {what} (limit: {most}).",),
            False,
            now_ms,
            f"warning:{code}",
        )
        for code, what, used, most in checks
        if used * 5 > most * 4
    ]
