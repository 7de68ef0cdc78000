"""Which processes there are (Linux): what tests look at to see that nothing is left behind."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path


def alive(pid: int) -> bool:
    """Is there such a process? One that has ended and waits for its parent to ask how is none: an orphan's new parent
    may never ask."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def still_alive(pids: Iterable[int], within_s: float = 10.0) -> set[int]:
    """Those that have not ended after so long; returns as soon as none is left."""
    left = set(pids)
    deadline = time.monotonic() + within_s
    while left := {pid for pid in left if alive(pid)}:
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return left


def children_of(pid: int) -> set[int]:
    """The processes that this one started and has not buried."""
    found: set[int] = set()
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found |= {int(child) for child in listing.read_text().split()}
        except OSError:
            continue  # The thread has ended meanwhile.
    return found


def descendants(pid: int) -> set[int]:
    """Every process below this one."""
    found: set[int] = set()
    for child in children_of(pid):
        found |= {child} | descendants(child)
    return found
