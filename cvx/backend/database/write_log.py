"""WriteLog: the keys that recent commits touched, for asking "has anything I read changed since?".

It is finite. A transaction whose snapshot is older than the log gets the conflict answer, not a guess.

Rule: pure. The committer appends; nothing else does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from cvx.backend.database.read_set import CommitChanges, ReadSet
from cvx.backend.database.text import TextWrite
from cvx.values import KeyRange, Timestamp


@dataclass(frozen=True, slots=True)
class Overlap:
    """A change that a ReadSet did not allow. `read` is the range it fell in; None when it was a point."""

    index_id: int
    key: bytes
    ts: Timestamp
    write_source: str
    read: KeyRange | None


class _IndexTail:
    """Recent changes of one index: every change in order, and the newest change of each key."""

    __slots__ = ("changes", "newest")

    def __init__(self) -> None:
        self.changes: deque[tuple[Timestamp, bytes]] = deque()
        self.newest: dict[bytes, Timestamp] = {}


class WriteLog:
    """The recent past of the keys. `start_ts`: the newest timestamp of which nothing older is known."""

    def __init__(self, start_ts: Timestamp, *, entries_max: int) -> None:
        self.start_ts = start_ts
        self.last_ts = start_ts
        self._entries_max = entries_max
        self._entries = 0
        self._commits: deque[CommitChanges] = deque()
        self._tails: dict[int, _IndexTail] = {}
        self._texts: dict[int, deque[tuple[Timestamp, TextWrite]]] = {}

    def append(self, changes: CommitChanges) -> None:
        """Add the newest commit."""
        assert changes.ts > self.last_ts, "the log is in order"
        ts = changes.ts
        for index_id, keys in changes.keys.items():
            tail = self._tails.get(index_id)
            if tail is None:
                tail = self._tails[index_id] = _IndexTail()
            for key in keys:
                tail.changes.append((ts, key))
                tail.newest[key] = ts
            self._entries += len(keys)
        for index_id, writes in changes.texts.items():
            self._texts.setdefault(index_id, deque()).extend((ts, write) for write in writes)
            self._entries += _weight(writes)
        self._commits.append(changes)
        self.last_ts = ts
        while self._entries > self._entries_max and len(self._commits) > 1:
            self._drop_oldest()

    def retract(self, changes: CommitChanges) -> None:
        """Take back the newest commit: it could not be stored."""
        assert self._commits[-1] is changes, "only the newest can be taken back"
        self._commits.pop()
        for index_id, keys in changes.keys.items():
            tail = self._tails[index_id]
            for _ in keys:
                tail.changes.pop()
            for key in keys:
                before = next((ts for ts, other in reversed(tail.changes) if other == key), None)
                if before is None:
                    tail.newest.pop(key, None)
                else:
                    tail.newest[key] = before
            self._entries -= len(keys)
            if not tail.changes:
                del self._tails[index_id]
        for index_id, writes in changes.texts.items():
            for _ in writes:
                self._texts[index_id].pop()
            self._forget_texts(index_id, writes)
        self.last_ts = self._commits[-1].ts if self._commits else self.start_ts

    def trim(self, before: Timestamp) -> None:
        """Forget commits older than `before`."""
        while self._commits and self._commits[0].ts < before:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        changes = self._commits.popleft()
        self.start_ts = changes.ts  # First: another thread may be looking (backfill.py).
        for index_id, keys in changes.keys.items():
            tail = self._tails[index_id]
            for _ in keys:
                ts, key = tail.changes.popleft()
                if tail.newest.get(key) == ts:
                    del tail.newest[key]
            self._entries -= len(keys)
            if not tail.changes:
                del self._tails[index_id]
        for index_id, writes in changes.texts.items():
            for _ in writes:
                self._texts[index_id].popleft()
            self._forget_texts(index_id, writes)

    def _forget_texts(self, index_id: int, writes: Sequence[TextWrite]) -> None:
        self._entries -= _weight(writes)
        if not self._texts[index_id]:
            del self._texts[index_id]

    def covers(self, since: Timestamp) -> bool:
        """Whether every commit after `since` is still known."""
        return since >= self.start_ts

    def changed_since(self, index_id: int, key: bytes, since: Timestamp) -> bool:
        """Whether a known commit after `since` touched this key."""
        tail = self._tails.get(index_id)
        return tail is not None and tail.newest.get(key, 0) > since

    def any_overlap(self, reads: ReadSet, since: Timestamp) -> Overlap | None:
        """Some change after `since` of something in `reads`, or None. `covers(since)` must hold."""
        if since >= self.last_ts:
            return None
        tails = self._tails
        for index_id, points in reads.points.items():
            tail = tails.get(index_id)
            if tail is not None and tail.changes[-1][0] > since:
                newest = tail.newest
                for key in points:
                    ts = newest.get(key)
                    if ts is not None and ts > since:
                        return self._overlap(index_id, key, ts, None)
        for index_id, ranges in reads.ranges.items():
            tail = tails.get(index_id)
            if tail is not None and tail.changes[-1][0] > since:
                found = _first_in(tail, ranges, since)
                if found is not None:
                    ts, key, range = found
                    return self._overlap(index_id, key, ts, range)
        for index_id, searches in reads.searches.items():
            for ts, write in reversed(self._texts.get(index_id, ())):
                if ts <= since:
                    break
                if any(write.concerns(read) for read in searches):
                    return self._overlap(index_id, write.internal, ts, None)
        return None

    def earliest_overlap(self, reads: ReadSet, since: Timestamp) -> Timestamp | None:
        """The first commit after `since` that touched something in `reads`, or None: up to it, what was read
        holds. `covers(since)` must hold."""
        if self.any_overlap(reads, since) is None:
            return None
        later = list(takewhile(lambda changes: changes.ts > since, reversed(self._commits)))
        return next(changes.ts for changes in reversed(later) if reads.overlaps(changes) is not None)

    def _overlap(self, index_id: int, key: bytes, ts: Timestamp, read: KeyRange | None) -> Overlap:
        source = ""
        for changes in reversed(self._commits):
            if changes.ts <= ts:
                source = changes.write_source
                break
        return Overlap(index_id, key, ts, source, read)


def _weight(writes: Sequence[TextWrite]) -> int:
    return sum(write.weight for write in writes)


def _first_in(
    tail: _IndexTail, ranges: set[KeyRange], since: Timestamp
) -> tuple[Timestamp, bytes, KeyRange] | None:
    for ts, key in reversed(tail.changes):
        if ts <= since:
            return None
        for range in ranges:
            if range.start <= key and (range.end is None or key < range.end):
                return ts, key, range
    return None
