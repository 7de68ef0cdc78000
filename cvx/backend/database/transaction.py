"""Transaction: a snapshot, what was read of it, and what is to be written.

Reads see the snapshot with the transaction's own writes laid over it, and enter the ReadSet; so do the table,
index and schema documents they rest on. Writes are checked (document rules, the active schema, limits) at once,
and wait in the WriteSet for the committer.

A transaction holds its snapshot until it is committed or closed.

Source: reference/runtime-and-database.md §1.3, §4.1, §4.3, §7.1; values-and-sync.md §2.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple

from cvx.backend.database.catalog import (
    BASIC_TABLE_IDS,
    BY_INDEXED_TABLE,
    PUBLIC_SYSTEM_TABLES,
    ROOT,
    SCHEMAS_TABLE,
    TABLES_TABLE,
    TableInfo,
)
from cvx.backend.database.engine import create_table
from cvx.backend.database.reading import AnyId, Reading, document_of, id_of
from cvx.backend.database.schema import check_write
from cvx.backend.database.write_set import PendingWrite, Savepoint
from cvx.errors import CvxError
from cvx.values import (
    FULL_RANGE,
    UNDEFINED,
    DocumentId,
    MaybeValue,
    Timestamp,
    Value,
    check_document,
    check_value,
    creation_time_of,
    encode,
    equal,
    new_internal_id,
    next_float,
    size_of,
)


class _Target(NamedTuple):
    """A document about to change: as the transaction sees it now, and when the snapshot's was written."""

    table: TableInfo
    id: DocumentId
    raw: bytes
    ts: Timestamp | None
    value: dict[str, Any]
    pending: PendingWrite | None


class Transaction(Reading):
    """Made by `Database.begin`. Not for two tasks at once."""

    __slots__ = ()

    def __enter__(self) -> Transaction:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def insert(
        self, table: str, fields: Mapping[str, Value], *, component: str = ROOT, privileged: bool = False
    ) -> DocumentId:
        """Add a document; the table is created if there is none. Raises CvxError: InvalidIdError,
        InvalidCreationTimeError, ReadOnlyTable, SchemaEnforcementError, document rules, write limits."""
        if "_id" in fields:
            raise CvxError(
                "InvalidIdError", "Cannot insert a document with an '_id': the backend assigns it."
            )
        if "_creationTime" in fields:
            raise CvxError(
                "InvalidCreationTimeError",
                "Cannot insert a document with a '_creationTime': the backend assigns it.",
            )
        info = self._table_to_write(table, component, privileged)
        id = DocumentId(info.number, new_internal_id(self.begin_time // 1_000_000, os.urandom))
        document = {**fields, "_creationTime": self._next_creation_time(), "_id": str(id)}
        size = self._check_fields(info, document)
        self._reads.add_point(info.table_id, id.internal)
        self.writes.put(PendingWrite(info, id, None, None, None, document, encode(document), size))
        self._follow_catalog(info, id, document)
        return id

    def restore(
        self, table: str, document: Mapping[str, Value], *, component: str = ROOT, privileged: bool = False
    ) -> DocumentId:
        """Add a document that brings its own `_id` and `_creationTime`, as it was exported.

        Raises CvxError: InvalidId (none, or of another table), InvalidCreationTimeError, DuplicateId, and those of
        `insert`."""
        info = self._table_to_write(table, component, privileged)
        id, created = DocumentId.parse(str(document.get("_id"))), document.get("_creationTime")
        if id.table != info.number:
            raise CvxError("InvalidId", f"{id} is not an id of the table {table}.", retry_when="data")
        if type(created) is not float or not 0 < created < 1 << 53:
            raise CvxError(
                "InvalidCreationTimeError", f"{created!r} is not a '_creationTime': it must be a number of milliseconds.",
                retry_when="data",
            )  # fmt: skip
        raw, _, ts = self._read(info, id)
        if raw is not None:
            raise CvxError(
                "DuplicateId", f"The table {table} has a document {id} already.", retry_when="data"
            )
        new = dict(document)
        size = self._check_fields(info, new)
        pending = self.writes.writes.get((info.table_id, id.internal))
        if pending is None:
            write = PendingWrite(info, id, None, ts, None, new, encode(new), size)
        else:  # Deleted by this transaction.
            write = pending.then(new, encode(new), size)
        self.writes.put(write)
        self._follow_catalog(info, id, new)
        return id

    def patch(
        self, id: AnyId, fields: Mapping[str, MaybeValue], *, component: str = ROOT, privileged: bool = False
    ) -> None:
        """Set some top-level fields; UNDEFINED removes one. Raises CvxError "NonexistentDocument" and those of
        `insert`. A result equal to what is there writes nothing."""
        target = self._to_change(id, component, privileged, "patch")
        new = {**target.value, **fields}
        for name, value in fields.items():
            if value is UNDEFINED:
                del new[name]
        self._change(target, new)

    def replace(
        self, id: AnyId, fields: Mapping[str, Value], *, component: str = ROOT, privileged: bool = False
    ) -> None:
        """Set all fields. `_id` and `_creationTime` may be repeated. Raises as `patch` does."""
        target = self._to_change(id, component, privileged, "replace")
        old = target.value
        self._change(target, {"_creationTime": old["_creationTime"], "_id": old["_id"], **fields})

    def delete(self, id: AnyId, *, component: str = ROOT, privileged: bool = False) -> None:
        """Remove a document. Raises CvxError "NonexistentDocument"."""
        target = self._to_change(id, component, privileged, "delete")
        self._depend_on_indexes(target.table)
        self._meter.write(0, system=target.table.is_system)
        self._put_over(target, None, None, 0)

    def _table_to_write(self, name: str, component: str, privileged: bool) -> TableInfo:
        self._check_may_write()
        if name[:1] == "_" and not privileged:
            raise _read_only_table(name)
        info = self.table(name, component=component)
        if info is None:
            return create_table(self, name, component, numbered=None)
        return info

    def _to_change(self, id: AnyId, component: str, privileged: bool, what: str) -> _Target:
        self._check_may_write()
        id = id_of(id)
        info = self.table_of(id, component=component)
        if info is not None and info.is_system and not privileged:
            raise _read_only_table(info.name)
        raw, _, ts = (None, 0, None) if info is None else self._read(info, id)
        if info is None or raw is None:
            raise CvxError(
                "NonexistentDocument",
                f"Cannot {what} on nonexistent document ID {id}.",
                hint="It may have been deleted; read it first with db.get.",
            )
        pending = self.writes.writes.get((info.table_id, id.internal))
        if pending is not None and pending.new is not None:
            return _Target(info, id, raw, ts, pending.new, pending)
        return _Target(info, id, raw, ts, document_of(raw), None)

    def _change(self, target: _Target, new: dict[str, Any]) -> None:
        old, id = target.value, target.id
        if new.get("_id") != old["_id"]:
            raise CvxError("InvalidIdError", f"Cannot change the '_id' of document {id}.")
        if not equal(new.get("_creationTime"), old["_creationTime"]):
            raise CvxError("InvalidCreationTimeError", f"Cannot change the '_creationTime' of document {id}.")
        new_raw = encode(new)
        if new_raw != target.raw:
            self._put_over(target, new, new_raw, self._check_fields(target.table, new))

    def _put_over(
        self, target: _Target, new: dict[str, Any] | None, new_raw: bytes | None, new_size: int
    ) -> None:
        pending = target.pending
        if pending is None:
            write = PendingWrite(
                target.table, target.id, target.raw, target.ts, target.value, new, new_raw, new_size
            )
        else:
            write = pending.then(new, new_raw, new_size)
        self.writes.put(write)
        self._follow_catalog(target.table, target.id, new)

    def _check_fields(self, info: TableInfo, document: dict[str, Any]) -> int:
        """The document's weight, once it may be written and is counted."""
        if info.is_system:
            # A scheduled function keeps its arguments, which may be larger and deeper than a document.
            check_value(document)
            size = size_of(document)
        else:
            size = check_document(document)
        self._depend_on_indexes(info)
        if not info.is_system:
            self._reads.add(SCHEMAS_TABLE.table_id, FULL_RANGE)
            check_write(self, info, document)
        self._meter.write(size, system=info.is_system)
        return size

    def _depend_on_indexes(self, info: TableInfo) -> None:
        """A write makes entries in the indexes it knows of; a new one since the snapshot is a conflict."""
        self._note_row(TABLES_TABLE.table_id, info.row)
        if info.row is not None:
            self._reads.add(BY_INDEXED_TABLE.index_id, info.indexes_range)

    def _follow_catalog(self, info: TableInfo, id: DocumentId, new: dict[str, Any] | None) -> None:
        if info.table_id in BASIC_TABLE_IDS:
            self.catalog = self.catalog.applied([(info.table_id, id.internal, new)])

    def _check_may_write(self) -> None:
        if self.read_only:
            raise CvxError("WriteInQuery", "This transaction is read-only.", hint="Use a mutation.")

    def _next_creation_time(self) -> float:
        last = self.writes.creation_time
        self.writes.creation_time = next_float(last) if last else creation_time_of(self.begin_time)
        return self.writes.creation_time

    # -------------------------------------------------------------------------------------------- savepoints

    def savepoint(self) -> Savepoint:
        """A point to return to. Every savepoint ends in `release`, or in `rollback_to` and then either."""
        return self.writes.savepoint(self.catalog)

    def rollback_to(self, savepoint: Savepoint) -> None:
        """Undo all writes, and tables created, since; what was read stays read."""
        self.writes.rollback_to(savepoint)
        self.catalog = savepoint.catalog

    def release(self, savepoint: Savepoint) -> None:
        """Keep the writes since."""
        self.writes.release(savepoint)


def _read_only_table(name: str) -> CvxError:
    if name in PUBLIC_SYSTEM_TABLES:
        return CvxError("ReadOnlyTable", f"The system table {name} is read-only.")
    return CvxError(
        "SystemTableError",
        f"Cannot write to '{name}': names that start with an underscore are reserved for system tables.",
        hint="Rename the table.",
    )
