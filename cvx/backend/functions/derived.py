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

T = TypeVar("T")


def index_id(snapshot: Snapshot, table: str, index: str) -> int:
    """The id of a system table's index: where its ranges lie in a ReadSet. It never changes."""
    found = snapshot.catalog.index(ROOT, table, index)
    assert found is not None
    return found.index_id


class Derived(Generic[T]):
    """One such value."""

    def __init__(self, db: Database, compute: Callable[[Transaction], T]) -> None:
        self._db = db
        self._compute = compute
        self._value: T | None = None
        self._from_ts = -1  # The value holds from here …
        self._until_ts = -1  # … and below this commit; -1 while no commit has touched it.
        self._subscription: Subscription | None = None

    def at(self, snapshot: Snapshot) -> T:
        """The value at this snapshot."""
        value, ts = self._value, snapshot.ts
        if value is not None and self._from_ts <= ts and (self._until_ts < 0 or ts < self._until_ts):
            return value
        return self._work_out(snapshot)

    def close(self) -> None:
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None
        self._value = None

    def _work_out(self, snapshot: Snapshot) -> T:
        tx = self._db.begin(SYSTEM, snapshot=snapshot, read_only=True)
        value = self._compute(tx)
        if snapshot.ts < self._from_ts:
            return value  # Somebody reads the past: the newer value stays the one that is kept.
        self.close()
        self._value, self._from_ts, self._until_ts = value, snapshot.ts, -1
        # A commit between the snapshot and now is reported at once, during this call.
        self._subscription = self._db.subscribe(tx.reads, snapshot.ts, self._on_invalidate)
        return value

    def _on_invalidate(self, ts: int) -> None:
        if self._until_ts < 0:
            self._until_ts = ts
