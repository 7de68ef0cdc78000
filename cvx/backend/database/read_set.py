"""ReadSet: what a transaction looked at, index by index, so that a later commit can be held against it.

A point is one key (found or not); a range is everything in it, present or absent: a scan that found nothing
still conflicts with an insert into its range. Every document write changes one key in each index of its table
(two when it moved), so "it came", "it left" and "it changed in place" need no special cases. A text search is
what it looked for, held against the old and the new text of the document (text.py).

Rule: pure. Keys of a table's own order (`by_id`) are the internal ids, under the table's number in the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cvx.backend.database.text import SearchRead, TextWrite
from cvx.values import KeyRange, Timestamp


@dataclass(frozen=True, slots=True)
class CommitChanges:
    """The keys that one commit touched, by index, and who made it."""

    ts: Timestamp
    keys: Mapping[int, Sequence[bytes]]
    write_source: str = ""
    texts: Mapping[int, Sequence[TextWrite]] = field(default_factory=dict)
    """By text index."""


class ReadSet:
    """Points, ranges and text searches by index. Grows while a transaction runs; nobody changes it afterwards."""

    __slots__ = ("points", "ranges", "searches")

    def __init__(self) -> None:
        self.points: dict[int, set[bytes]] = {}
        self.ranges: dict[int, set[KeyRange]] = {}
        self.searches: dict[int, set[SearchRead]] = {}

    def add_point(self, index_id: int, key: bytes) -> None:
        """Note that one key was looked at, whether or not something was there."""
        points = self.points.get(index_id)
        if points is None:
            self.points[index_id] = {key}
        else:
            points.add(key)

    def add(self, index_id: int, range: KeyRange) -> None:
        """Note that everything in the range was looked at."""
        if range.end is not None and range.start >= range.end:
            return
        ranges = self.ranges.get(index_id)
        if ranges is None:
            self.ranges[index_id] = {range}
        else:
            ranges.add(range)

    def add_search(self, index_id: int, read: SearchRead) -> None:
        """Note that a text index was searched."""
        self.searches.setdefault(index_id, set()).add(read)

    def update(self, other: ReadSet) -> None:
        """Add everything another ReadSet holds."""
        for index_id, points in other.points.items():
            self.points.setdefault(index_id, set()).update(points)
        for index_id, ranges in other.ranges.items():
            self.ranges.setdefault(index_id, set()).update(ranges)
        for index_id, searches in other.searches.items():
            self.searches.setdefault(index_id, set()).update(searches)

    def copy(self) -> ReadSet:
        """An independent ReadSet with the same contents."""
        other = ReadSet()
        other.update(self)
        return other

    def __bool__(self) -> bool:
        return bool(self.points or self.ranges or self.searches)

    def __len__(self) -> int:
        """How many points, ranges and searches it holds."""
        return sum(sum(map(len, held.values())) for held in (self.points, self.ranges, self.searches))

    def contains(self, index_id: int, key: bytes) -> bool:
        """Whether a change of this key would matter."""
        points = self.points.get(index_id)
        if points is not None and key in points:
            return True
        for range in self.ranges.get(index_id, ()):
            if range.start <= key and (range.end is None or key < range.end):
                return True
        return False

    def overlaps(self, changes: CommitChanges) -> tuple[int, bytes] | None:
        """A (index, key) of the commit that was looked at, or None. Of a text index: the document's internal id."""
        for index_id, keys in changes.keys.items():
            if index_id in self.points or index_id in self.ranges:
                for key in keys:
                    if self.contains(index_id, key):
                        return index_id, key
        for index_id, writes in changes.texts.items():
            for read in self.searches.get(index_id, ()):
                for write in writes:
                    if write.concerns(read):
                        return index_id, write.internal
        return None
