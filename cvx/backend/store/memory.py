"""Memory that a long piece of work leaves behind, given back to the system.

SQLite keeps pages up to its limit, and the C library keeps what was freed for the next to ask: after an import of
millions of rows, tens of megabytes of both that nobody may need for days.
"""

from __future__ import annotations

import ctypes
import functools
import sqlite3
from collections.abc import Callable


def forget_pages(connection: sqlite3.Connection) -> None:
    """Drop the pages that a connection keeps and that are unchanged since they were read or written."""
    connection.execute("PRAGMA shrink_memory").fetchall()


def trim_heap() -> None:
    """Return freed memory to the system: milliseconds, without the interpreter's lock. Does nothing without glibc."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, TypeError, AttributeError):  # Another C library, or another system.
        return None
    trim.argtypes = [ctypes.c_size_t]
    trim.restype = ctypes.c_int
    found: Callable[[int], int] = trim
    return found
