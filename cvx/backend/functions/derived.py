"""Values worked out from the database and kept until a commit touches what they came from.

The code of a deployment, its environment, its settings: each is a function of some system documents. `Derived`
computes such a value in a transaction of its own, keeps the transaction's ReadSet subscribed, and throws the
value away when a commit overlaps it: the same mechanism as for any query, and no "code changed" event.

Rule: a value is only ever used at timestamps at which it is known to be what the transaction would compute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from cvx.backend.auth import SYSTEM
from cvx.backend.database import ROOT, Database, Snapshot, Subscription, Transaction
from cvx.values import Timestamp

T = TypeVar("T")


def index_id(snapshot: Snapshot, table: str, index: str) -> int:
    """The id of a system table's index: where its ranges lie in a ReadSet. It never changes."""
    found = snapshot.catalog.index(ROOT, table, index)
    assert found is not None
    return found.index_id


class Derived(Generic[T]):
    """One such value, and the one before it: calls under way on the snapshot before a push still need that."""

    def __init__(self, db: Database, compute: Callable[[Transaction], T]) -> None:
        self._db = db
        self._compute = compute
        self._value: _Held[T] | None = None
        self._previous: _Held[T] | None = None
        self._subscription: Subscription | None = None

    def at(self, snapshot: Snapshot) -> T:
        """The value at this snapshot."""
        ts, held = snapshot.ts, self._value
        if held is not None and held.holds_at(ts):
            return held.value
        if self._previous is not None and self._previous.holds_at(ts):
            return self._previous.value
        return self._work_out(snapshot)

    def close(self) -> None:
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None
        self._value = self._previous = None

    def _work_out(self, snapshot: Snapshot) -> T:
        tx = self._db.begin(SYSTEM, snapshot=snapshot, read_only=True)
        value = self._compute(tx)
        if self._value is not None and snapshot.ts < self._value.from_ts:
            return value  # Somebody reads the past: the newer value stays the one that is kept.
        if self._subscription is not None:
            self._subscription.close()
        self._previous, self._value = self._value, _Held(value, snapshot.ts)
        # A commit between the snapshot and now is reported at once, during this call.
        self._subscription = self._db.subscribe(tx.reads, snapshot.ts, self._value.end)
        return value


class _Held(Generic[T]):
    """A value, from when to when it holds."""

    __slots__ = ("_until_ts", "from_ts", "value")

    def __init__(self, value: T, from_ts: Timestamp) -> None:
        self.value = value
        self.from_ts = from_ts
        self._until_ts: Timestamp | None = None  # The first commit that touched it, once there is one.

    def holds_at(self, ts: Timestamp) -> bool:
        return self.from_ts <= ts and (self._until_ts is None or ts < self._until_ts)

    def end(self, ts: Timestamp) -> None:
        if self._until_ts is None:
            self._until_ts = ts
