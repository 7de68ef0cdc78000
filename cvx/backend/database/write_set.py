"""WriteSet: a transaction's pending changes, laid over its snapshot.

One PendingWrite a document, however often it is written; savepoints keep what was there before. For scans, the
pending keys of an index are kept sorted beside the store's (an Overlay), built when a transaction that has
written to a table scans it.

Rule: pure. Nothing is visible to anybody else until the committer has appended what `at` returns.

Source: reference/runtime-and-database.md §4.1, §4.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sortedcontainers import SortedDict

from cvx.backend.database.catalog import BASIC_TABLE_IDS, Catalog, TableInfo
from cvx.backend.database.indexes import IndexInfo, key_of
from cvx.backend.database.read_set import CommitChanges
from cvx.backend.database.text import IndexedText, TextWrite, text_of
from cvx.backend.database.vectors import vector_of
from cvx.backend.store import CommitRecord, EntryChange, Revision, TextChange, VectorChange
from cvx.values import COMMIT_TS, UNDEFINED, DocumentId, Timestamp, decode, encode

WriteKey = tuple[int, bytes]
"""Store id of the table, internal id of the document."""

_COMMIT_TS_MARK = b'"$commitTs"'


class PendingWrite:
    """What a document was in the snapshot (`old_raw` None: not there) and will be (`new` None: deleted)."""

    __slots__ = ("_old", "id", "new", "new_raw", "new_size", "old_raw", "old_ts", "table")

    def __init__(
        self,
        table: TableInfo,
        id: DocumentId,
        old_raw: bytes | None,
        old_ts: Timestamp | None,
        old: dict[str, Any] | None,
        new: dict[str, Any] | None,
        new_raw: bytes | None,
        new_size: int,
    ) -> None:
        self.table = table
        self.id = id
        self.old_raw = old_raw
        self.old_ts = old_ts
        self._old = old
        self.new = new
        self.new_raw = new_raw
        self.new_size = new_size

    @property
    def old(self) -> dict[str, Any] | None:
        """The snapshot's document, parsed once."""
        if self._old is None and self.old_raw is not None:
            value = decode(self.old_raw)
            assert isinstance(value, dict)
            self._old = value
        return self._old

    def then(self, new: dict[str, Any] | None, new_raw: bytes | None, new_size: int) -> PendingWrite:
        """The same document, written again."""
        return PendingWrite(self.table, self.id, self.old_raw, self.old_ts, self._old, new, new_raw, new_size)


class Overlay:
    """How one index differs from the snapshot: keys that are there now, and keys to leave out."""

    __slots__ = ("added", "hidden", "index")

    def __init__(self, index: IndexInfo) -> None:
        self.index = index
        self.added: SortedDict = SortedDict()
        self.hidden: set[bytes] = set()

    def put(self, write: PendingWrite, before: PendingWrite | None) -> None:
        if before is not None and before.new is not None:
            self.added.pop(self._key(before.new, write.id), None)
        if write.old is not None:
            self.hidden.add(self._key(write.old, write.id))
        if write.new is not None:
            self.added[self._key(write.new, write.id)] = write

    def _key(self, document: dict[str, Any], id: DocumentId) -> bytes:
        return id.internal if self.index.is_by_id else key_of(self.index, document, id.internal)


@dataclass(frozen=True, slots=True)
class Savepoint:
    """A point to return to: how deep it nests, how long the undo list was, and the Catalog of that moment."""

    depth: int
    undo_length: int
    catalog: Catalog


@dataclass(frozen=True, slots=True)
class Prepared:
    """A transaction's writes, ready for the store, the write log and the Catalog."""

    record: CommitRecord
    changes: CommitChanges
    catalog_changes: tuple[tuple[int, bytes, dict[str, Any] | None], ...]


class WriteSet:
    """All pending writes of one transaction."""

    __slots__ = ("_overlays", "_savepoints", "_undo", "creation_time", "writes")

    def __init__(self) -> None:
        self.writes: dict[WriteKey, PendingWrite] = {}
        self.creation_time = 0.0
        """Of the document inserted last: no two of a transaction have the same."""
        self._overlays: dict[int, Overlay] = {}
        self._undo: list[tuple[WriteKey, PendingWrite | None]] = []
        self._savepoints = 0

    def __bool__(self) -> bool:
        return bool(self.writes)

    def put(self, write: PendingWrite) -> None:
        """Make `write` what its document will be."""
        key = (write.table.table_id, write.id.internal)
        before = self.writes.get(key)
        if self._savepoints:
            self._undo.append((key, before))
        self.writes[key] = write
        if self._overlays:
            for index in (write.table.by_id, *write.table.with_entries):
                overlay = self._overlays.get(index.index_id)
                if overlay is not None:
                    overlay.put(write, before)

    def overlay(self, table: TableInfo, index: IndexInfo) -> Overlay | None:
        """How the transaction sees this index differently; None when it wrote nothing to the table."""
        if not self.writes:
            return None
        overlay = self._overlays.get(index.index_id)
        if overlay is None:
            mine = [write for (table_id, _), write in self.writes.items() if table_id == table.table_id]
            if not mine:
                return None
            overlay = self._overlays[index.index_id] = Overlay(index)
            for write in mine:
                overlay.put(write, None)
        return overlay

    def texts(self, table: TableInfo, index: IndexInfo) -> dict[bytes, IndexedText | None]:
        """What a text index would hold of the documents of the table that the transaction has written, by internal id."""
        return {
            internal: None if write.new is None else text_of(index, write.new)
            for (table_id, internal), write in self.writes.items()
            if table_id == table.table_id
        }

    def count_delta(self, table: TableInfo) -> int:
        """By how many documents the table has grown."""
        return sum(
            (write.new is not None) - (write.old_raw is not None)
            for (table_id, _), write in self.writes.items()
            if table_id == table.table_id
        )

    # --------------------------------------------------------------------------------------------- savepoints

    def savepoint(self, catalog: Catalog) -> Savepoint:
        self._savepoints += 1
        return Savepoint(self._savepoints, len(self._undo), catalog)

    def rollback_to(self, savepoint: Savepoint) -> None:
        """Undo every write since; the savepoint stays open."""
        while len(self._undo) > savepoint.undo_length:
            key, before = self._undo.pop()
            if before is None:
                del self.writes[key]
            else:
                self.writes[key] = before
        self._overlays.clear()
        self._savepoints = savepoint.depth

    def release(self, savepoint: Savepoint) -> None:
        """Keep the writes since, as part of what surrounds them."""
        self._savepoints = savepoint.depth - 1
        if not self._savepoints:
            self._undo.clear()

    # ------------------------------------------------------------------------------------------------- commit

    def at(self, ts: Timestamp, catalog: Catalog, write_source: str) -> Prepared:
        """The writes as they go to the store at `ts`, with commit timestamps filled in.

        `catalog`: as the transaction leaves it, so that indexes it created itself get their entries.
        """
        revisions: list[Revision] = []
        entries: list[EntryChange] = []
        keys: dict[int, list[bytes]] = {}
        texts: list[TextChange] = []
        vectors: list[VectorChange] = []
        text_writes: dict[int, list[TextWrite]] = {}
        catalog_changes = []
        for (table_id, internal), write in self.writes.items():
            new, new_raw = write.new, write.new_raw
            if new is None and write.old_raw is None:
                continue  # It came and went within the transaction.
            if new_raw is not None and _COMMIT_TS_MARK in new_raw:
                new = _resolved(new, ts)
                new_raw = encode(new)
            revisions.append(Revision(table_id, internal, new_raw, write.new_size, write.old_ts))
            table = catalog.owner_of(table_id)
            if table is None:
                table = write.table  # Deleted by this very transaction, after it had written to it.
            keys.setdefault(table_id, []).append(internal)
            old = write.old
            for index in table.with_entries:
                index_id = index.index_id
                touched = keys.setdefault(index_id, [])
                old_key = None if old is None else key_of(index, old, internal)
                if old is not None and new is not None and index.keeps_place(old, new):
                    new_key = old_key
                else:
                    new_key = None if new is None else key_of(index, new, internal)
                if old_key is not None:
                    touched.append(old_key)
                if old_key != new_key:
                    if old_key is not None:
                        entries.append(EntryChange(table_id, index_id, old_key, None))
                    if new_key is not None:
                        touched.append(new_key)
                        entries.append(EntryChange(table_id, index_id, new_key, internal))
                elif index.state == "backfilling" and new_key is not None:
                    entries.append(EntryChange(table_id, index_id, new_key, internal))
            for index in table.text_indexes:
                written = _text_write(index, internal, old, new)
                if written is not None:
                    text_writes.setdefault(index.index_id, []).append(written)
                    texts += _text_changes(index, written)
            for index in table.vector_indexes:
                vectors += _vector_changes(index, internal, old, new)
            if table_id in BASIC_TABLE_IDS:
                catalog_changes.append((table_id, internal, new))
        return Prepared(
            CommitRecord(ts, revisions, entries, texts, vectors),
            CommitChanges(ts, keys, write_source, text_writes),
            tuple(catalog_changes),
        )


def _text_write(
    index: IndexInfo, internal: bytes, old: dict[str, Any] | None, new: dict[str, Any] | None
) -> TextWrite | None:
    """A document's change as a text index sees it; None when it sees neither version."""
    before = None if old is None else text_of(index, old)
    after = None if new is None else text_of(index, new)
    return None if before is None and after is None else TextWrite(internal, before, after)


def _text_changes(index: IndexInfo, write: TextWrite) -> list[TextChange]:
    """What the store is to do about it. An index that is being filled is given every version."""
    internal, old, new = write
    if old is not None and new is not None and new.is_same(old) and index.state != "backfilling":
        return []
    return [
        TextChange(
            index.index_id,
            internal,
            None if old is None else old.terms,
            None if new is None else new.stored(),
        )
    ]


def _vector_changes(
    index: IndexInfo, internal: bytes, old: dict[str, Any] | None, new: dict[str, Any] | None
) -> list[VectorChange]:
    if (
        old is not None
        and new is not None
        and index.state != "backfilling"
        and _is_untouched(index, old, new)
    ):
        return []
    before = None if old is None else vector_of(index, old)
    after = None if new is None else vector_of(index, new)
    if before == after and (after is None or index.state != "backfilling"):
        return []
    vector, filters = (None, b"") if after is None else after
    return [VectorChange(index.index_id, internal, vector, filters, before is not None)]


def _is_untouched(index: IndexInfo, old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether a change surely leaves alone what the index looks at (as IndexInfo.keeps_place)."""
    paths = (index.value_path, *index.filter_paths)
    return all(old.get(path[0], UNDEFINED) is new.get(path[0], UNDEFINED) for path in paths)


def _resolved(value: Any, ts: Timestamp) -> Any:
    if value is COMMIT_TS:
        return ts
    if type(value) is dict:
        return {name: _resolved(child, ts) for name, child in value.items()}
    if type(value) is list:
        return [_resolved(child, ts) for child in value]
    return value
