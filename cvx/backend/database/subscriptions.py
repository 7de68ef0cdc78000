"""Subscriptions: ReadSets that wait for a commit that overlaps them.

Each is told once, synchronously, while that commit is published, in the order of commits. Points are found in a
dictionary and ranges in a tree per index, searches by the terms and prefixes they look for, so that 10,000
subscriptions cost a write no more than 100.

Rule: callbacks run inside the commit. They note what happened and return; they do not raise.

Source: reference/runtime-and-database.md §5.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from cvx.backend.database.interval_tree import IntervalTree
from cvx.backend.database.read_set import CommitChanges, ReadSet
from cvx.backend.database.text import IndexedText, SearchRead
from cvx.backend.database.write_log import WriteLog
from cvx.backend.store import occurrences
from cvx.values import Timestamp

OnInvalidate = Callable[[Timestamp], None]
OnCallbackError = Callable[[dict[str, Any]], None]


class Subscription:
    """A ReadSet that waits. `invalidated_at` is set when its wait is over."""

    __slots__ = ("_owner", "callback", "invalidated_at", "is_closed", "reads")

    def __init__(self, owner: Subscriptions, reads: ReadSet, callback: OnInvalidate) -> None:
        self._owner: Subscriptions | None = owner
        self.reads = reads
        self.callback = callback
        self.invalidated_at: Timestamp | None = None
        self.is_closed = False

    def close(self) -> None:
        """Stop waiting. Does nothing when it was told or closed before."""
        self.is_closed = True
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.remove(self)

    def take_out(self) -> None:
        """Nothing is left to be removed when it is closed."""
        self._owner = None

    def tell(self, ts: Timestamp) -> None:
        self._owner = None
        self.invalidated_at = ts
        self.callback(ts)


class _IndexSubscriptions:
    __slots__ = ("points", "ranges")

    def __init__(self) -> None:
        self.points: dict[bytes, set[Subscription]] = {}
        self.ranges: IntervalTree[Subscription] = IntervalTree()


class _TextSubscriptions:
    """Those that have searched one text index: by each term, and by each prefix."""

    def __init__(self) -> None:
        self._terms: dict[bytes, dict[SearchRead, set[Subscription]]] = {}
        self._prefixes: dict[bytes, dict[SearchRead, set[Subscription]]] = {}

    def __bool__(self) -> bool:
        return bool(self._terms or self._prefixes)

    def add(self, read: SearchRead, subscription: Subscription) -> None:
        for known, key in self._places(read):
            known.setdefault(key, {}).setdefault(read, set()).add(subscription)

    def remove(self, read: SearchRead, subscription: Subscription) -> None:
        for known, key in self._places(read):
            reads = known[key]
            reads[read].discard(subscription)
            if not reads[read]:
                del reads[read]
            if not reads:
                del known[key]

    def _places(
        self, read: SearchRead
    ) -> Iterator[tuple[dict[bytes, dict[SearchRead, set[Subscription]]], bytes]]:
        for term in read.terms:
            yield self._terms, term
        if read.prefix is not None:
            yield self._prefixes, read.prefix

    def concerned(self, text: IndexedText) -> set[Subscription]:
        """Whose searches find this text."""
        found: set[Subscription] = set()
        lengths = {len(prefix) for prefix in self._prefixes}
        for term, _ in occurrences(text.terms):
            places = [self._terms.get(term)]
            places += [self._prefixes.get(term[:length]) for length in lengths if length <= len(term)]
            for reads in places:
                for read, waiting in () if reads is None else reads.items():
                    if all(wanted in text.filters for wanted in read.filters):
                        found |= waiting
        return found


class Subscriptions:
    """All that wait. `on_error`: where an exception of a callback is reported (it cannot undo a commit)."""

    def __init__(self, log: WriteLog, on_error: OnCallbackError) -> None:
        self._log = log
        self._on_error = on_error
        self._indexes: dict[int, _IndexSubscriptions] = {}
        self._texts: dict[int, _TextSubscriptions] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, reads: ReadSet, since: Timestamp, callback: OnInvalidate) -> Subscription:
        """Wait for the first commit after `since` that overlaps; when there has been one, `callback` is called
        before this returns. What is older than the log counts as overlapped right after `since`."""
        subscription = Subscription(self, reads, callback)
        covered = self._log.covers(since)
        overlap = self._log.earliest_overlap(reads, since) if covered else since + 1
        if overlap is not None:
            subscription.tell(overlap)
            return subscription
        self._count += 1
        for index_id, points in reads.points.items():
            known = self._of(index_id).points
            for key in points:
                waiting = known.get(key)
                if waiting is None:
                    known[key] = {subscription}
                else:
                    waiting.add(subscription)
        for index_id, ranges in reads.ranges.items():
            tree = self._of(index_id).ranges
            for range in ranges:
                tree.add(range, subscription)
        for index_id, searches in reads.searches.items():
            searched = self._texts.setdefault(index_id, _TextSubscriptions())
            for read in searches:
                searched.add(read, subscription)
        return subscription

    def _of(self, index_id: int) -> _IndexSubscriptions:
        found = self._indexes.get(index_id)
        if found is None:
            found = self._indexes[index_id] = _IndexSubscriptions()
        return found

    def remove(self, subscription: Subscription) -> None:
        """Forget one that waits."""
        self._count -= 1
        reads = subscription.reads
        for index_id, points in reads.points.items():
            known = self._indexes[index_id].points
            for key in points:
                waiting = known[key]
                waiting.discard(subscription)
                if not waiting:
                    del known[key]
        for index_id, ranges in reads.ranges.items():
            tree = self._indexes[index_id].ranges
            for range in ranges:
                tree.remove(range, subscription)
        for index_id in {*reads.points, *reads.ranges}:
            index = self._indexes.get(index_id)
            if index is not None and not index.points and not index.ranges:
                del self._indexes[index_id]
        for index_id, searches in reads.searches.items():
            searched = self._texts[index_id]
            for read in searches:
                searched.remove(read, subscription)
            if not searched:
                del self._texts[index_id]

    def publish(self, changes: CommitChanges) -> int:
        """Tell everyone whom a commit concerns; how many."""
        told: set[Subscription] = set()
        for index_id, keys in changes.keys.items():
            index = self._indexes.get(index_id)
            if index is None:
                continue
            for key in keys:
                waiting = index.points.get(key)
                if waiting is not None:
                    told |= waiting
                if index.ranges:
                    told |= index.ranges.at(key)
        for index_id, writes in changes.texts.items():
            searched = self._texts.get(index_id)
            for write in () if searched is None else writes:
                for text in write.versions:
                    assert searched is not None
                    told |= searched.concerned(text)
        for subscription in told:
            self.remove(subscription)
            subscription.take_out()
        for subscription in told:
            if subscription.is_closed:
                continue  # By the callback of another one.
            try:
                subscription.tell(changes.ts)
            except Exception as error:  # edge: the commit has happened, and the others must hear of it.
                self._on_error({"message": "a subscription's callback failed", "exception": error})
        return len(told)
