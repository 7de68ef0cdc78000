"""A walk along an index as one transaction sees it: the snapshot's rows with the transaction's own laid over.

Each `fetch` covers the next stretch of the range, so writes made in between are seen from there on.
"""

from __future__ import annotations

from typing import TypeAlias

from cvx.backend.database.catalog import TableInfo
from cvx.backend.database.indexes import IndexInfo
from cvx.backend.database.snapshot import Snapshot
from cvx.backend.database.write_set import Overlay, WriteSet
from cvx.backend.store import Row, StoredDocument
from cvx.values import KeyRange

Seen: TypeAlias = dict[tuple[int, bytes], StoredDocument]
"""What a transaction that may write has read of its snapshot: it often changes what it has just looked at."""


class Scan:
    """`remaining` is what has not been fetched yet; `exhausted` once nothing is left."""

    __slots__ = ("_index", "_seen", "_snapshot", "_table", "_writes", "descending", "exhausted", "remaining")

    def __init__(
        self,
        snapshot: Snapshot,
        writes: WriteSet,
        table: TableInfo,
        index: IndexInfo,
        range: KeyRange,
        descending: bool,
        seen: Seen | None,
    ) -> None:
        self._seen = seen
        self._snapshot = snapshot
        self._writes = writes
        self._table = table
        self._index = index
        self.descending = descending
        self.remaining = range
        self.exhausted = range.is_empty

    @property
    def index_id(self) -> int:
        return self._index.index_id

    def fetch(self, want: int) -> list[Row]:
        """About `want` more rows, at least one unless the scan is exhausted."""
        rows: list[Row] = []
        while not rows and not self.exhausted:
            rows = self._fetch(want)
        return rows

    def _fetch(self, want: int) -> list[Row]:
        view, index, range = self._snapshot.view, self._index, self.remaining
        if index.is_by_id:
            found = view.scan_table(index.index_id, range, descending=self.descending, limit=want)
        else:
            found = view.scan(index.index_id, range, descending=self.descending, limit=want)
        if self._seen is not None:
            table_id = self._table.table_id
            for row in found:
                self._seen[table_id, row.internal] = StoredDocument(row.document, row.size, row.ts)
        covered = range
        if len(found) < want:
            self.exhausted = True
        else:
            last = found[-1].key
            if self.descending:
                covered = KeyRange(last, range.end)
                self.remaining = KeyRange(range.start, last)
            else:
                after = last + b"\x00"
                covered = KeyRange(range.start, after)
                self.remaining = KeyRange(after, range.end)
        overlay = self._writes.overlay(self._table, index)
        return found if overlay is None else _merged(found, overlay, covered, self.descending)


def _merged(found: list[Row], overlay: Overlay, covered: KeyRange, descending: bool) -> list[Row]:
    hidden = overlay.hidden
    rows = [row for row in found if row.key not in hidden]
    mine = overlay.added.irange(covered.start, covered.end, inclusive=(True, False))
    added = []
    for key in mine:
        write = overlay.added[key]
        added.append(Row(key, write.id.internal, write.new_raw, write.new_size, 0))
    if added:
        rows = sorted(rows + added, key=lambda row: row.key, reverse=descending)
    return rows
