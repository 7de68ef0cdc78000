"""Snapshot: the database as of one timestamp: a store view and the Catalog that belongs to it.

All transactions that begin between two commits share one. It is counted: the last holder to release it closes
the view. A snapshot that is held for too long is closed under its holder (a view keeps old pages alive); reading
it then says so.
"""

from __future__ import annotations

from types import TracebackType

from cvx.backend.database.catalog import Catalog
from cvx.backend.store import StoreView
from cvx.values import Timestamp


class Snapshot:
    """Held by whoever `acquire`d it, until `release`; also a context manager that releases."""

    __slots__ = ("_holders", "catalog", "is_expired", "ts", "used_s", "view")

    def __init__(self, ts: Timestamp, catalog: Catalog, view: StoreView, used_s: float) -> None:
        self.ts = ts
        self.catalog = catalog
        self.view = view
        self.used_s = used_s
        """When somebody last began on it, on the event loop's clock; later for one that is to live longer."""
        self.is_expired = False
        self._holders = 1

    @property
    def is_released(self) -> bool:
        """Whether nobody holds it any more."""
        return self._holders <= 0

    def acquire(self) -> Snapshot:
        """Hold it once more."""
        assert self._holders > 0, "a released snapshot cannot be held again"
        self._holders += 1
        return self

    def release(self) -> None:
        """Stop holding it."""
        self._holders -= 1
        if self._holders == 0:
            self.view.close()

    def expire(self) -> None:
        """Close the view under its holders: their next read raises CvxError "SnapshotTooOld"."""
        self.is_expired = True
        self.view.close()

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
