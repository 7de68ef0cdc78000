"""Catalog: the tables, indexes and schemas that exist at a timestamp. Immutable.

It is derived from documents in three system tables, `_tables`, `_indexes` and `_schemas`; a commit that changes
one of those documents makes a new Catalog out of the old one (`applied`). The three tables themselves are the
only thing that is not a document: they are the constants below.

Rule: pure. A transaction that uses something in a Catalog notes the document it came from in its ReadSet.

Source: reference/values-and-sync.md §2.2; runtime-and-database.md §7.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, Literal

from cvx.backend.database.indexes import (
    IndexInfo,
    by_creation_time,
    by_id,
    definition_of_row,
    index_info,
)
from cvx.protocol.schema import DatabaseIndex, Schema, TableSchema, parse_schema
from cvx.values import FIRST_USER_TABLE_NUMBER, DocumentId, KeyRange, TableNumber, encode_key, prefix_range

ROOT = ""
"""The component path of the app itself."""

TABLES = "_tables"
INDEXES = "_indexes"
SCHEMAS = "_schemas"
FIRST_FREE_STORE_ID = 100

TableState = Literal["active", "hidden", "deleting"]
"""Hidden: being filled, to take an active table's place (staging.py). It may have the number of the table it replaces."""
SchemaState = Literal["pending", "validated", "active", "failed", "overwritten"]


@dataclass(frozen=True, slots=True)
class SystemTable:
    """A system table as data: its name, its fixed number, and its indexes (name → fields)."""

    name: str
    number: TableNumber
    indexes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class TableInfo:
    """One table. `row` is the internal id of its `_tables` document; None for the three basic tables."""

    component: str
    name: str
    number: TableNumber
    table_id: int
    state: TableState
    row: bytes | None
    by_id: IndexInfo
    by_creation_time: IndexInfo
    indexes: tuple[IndexInfo, ...] = ()
    """Those of `_indexes`, in the order of their rows."""

    @property
    def is_system(self) -> bool:
        return self.number < FIRST_USER_TABLE_NUMBER

    @cached_property
    def with_entries(self) -> tuple[IndexInfo, ...]:
        """The indexes that a write keeps entries of, whatever their state."""
        return (self.by_creation_time, *(index for index in self.indexes if index.has_entries))

    @cached_property
    def text_indexes(self) -> tuple[IndexInfo, ...]:
        """Those that are searched for words, whatever their state."""
        return tuple(index for index in self.indexes if index.is_text)

    @cached_property
    def vector_indexes(self) -> tuple[IndexInfo, ...]:
        """Those that are asked for neighbours, whatever their state."""
        return tuple(index for index in self.indexes if index.is_vector)

    @cached_property
    def by_name(self) -> dict[str, IndexInfo]:
        """What a query means by an index name: the version in use, before one that is being built."""
        found = {self.by_id.name: self.by_id, self.by_creation_time.name: self.by_creation_time}
        for index in self.indexes:
            other = found.get(index.name)
            if other is None or other.state != "enabled":
                found[index.name] = index
        return found

    @cached_property
    def indexes_range(self) -> KeyRange:
        """Where its indexes are registered, in `_indexes.by_table`."""
        return prefix_range(encode_key([_id_text(_INDEXED_BY, self.row)])) if self.row else KeyRange(b"", b"")


_INDEXED_BY = 513  # `_tables`' number: `_indexes` rows name their table by document id.


def _id_text(number: int, internal: bytes) -> str:
    return str(DocumentId(number, internal))


def _basic(
    name: str, number: int, table_id: int, indexes: Mapping[str, tuple[int, tuple[str, ...]]]
) -> TableInfo:
    return TableInfo(
        ROOT, name, number, table_id, "active", None, by_id(table_id), by_creation_time(table_id + 1),
        tuple(
            index_info(index_id, DatabaseIndex(index, fields), "enabled", False, None)
            for index, (index_id, fields) in indexes.items()
        ),
    )  # fmt: skip


TABLES_TABLE = _basic(
    TABLES, 513, 1, {"by_name": (11, ("component", "name")), "by_number": (12, ("component", "number"))}
)
INDEXES_TABLE = _basic(INDEXES, 514, 3, {"by_table": (13, ("table", "name"))})
SCHEMAS_TABLE = _basic(SCHEMAS, 515, 5, {"by_state": (14, ("component", "state"))})
BASIC_TABLES = (TABLES_TABLE, INDEXES_TABLE, SCHEMAS_TABLE)
BY_TABLE_NAME, BY_TABLE_NUMBER = TABLES_TABLE.indexes
BY_INDEXED_TABLE = INDEXES_TABLE.indexes[0]
BASIC_TABLE_IDS = frozenset(table.table_id for table in BASIC_TABLES)


@dataclass(frozen=True, slots=True)
class SchemaInfo:
    """One stored schema and what became of it."""

    id: DocumentId
    component: str
    state: SchemaState
    text: str
    error: str | None
    failed_table: str | None

    @property
    def schema(self) -> Schema:
        return _parsed_schema(self.text)

    def table(self, name: str) -> TableSchema | None:
        """What it says about a table's documents, if it says anything that is checked."""
        schema = self.schema
        return schema.tables.get(name) if schema.validation else None


@lru_cache(maxsize=64)
def _parsed_schema(text: str) -> Schema:
    return parse_schema(text)


class _Names:
    """`TableNames` of one component, for validators."""

    __slots__ = ("_component", "_tables")

    def __init__(self, tables: Mapping[tuple[str, int], TableInfo], component: str) -> None:
        self._tables = tables
        self._component = component

    def name_of(self, table: TableNumber) -> str | None:
        info = self._tables.get((self._component, table))
        return info.name if info is not None and info.state == "active" else None


class Catalog:
    """Everything that has a name at one timestamp. Numbers and names belong to a component each."""

    __slots__ = ("_by_name", "_by_number", "_by_row", "_names", "_owners", "_schemas")

    def __init__(
        self,
        by_name: dict[tuple[str, str], TableInfo],
        by_number: dict[tuple[str, int], TableInfo],
        by_row: dict[bytes, TableInfo],
        owners: dict[int, TableInfo],
        schemas: dict[bytes, SchemaInfo],
    ) -> None:
        self._by_name = by_name
        self._by_number = by_number
        self._by_row = by_row
        self._owners = owners
        self._schemas = schemas
        self._names: dict[str, _Names] = {}

    # ------------------------------------------------------------------------------------------------ looking

    def table(self, component: str, name: str) -> TableInfo | None:
        """The table of this name, unless it is hidden or being deleted."""
        return self._by_name.get((component, name))

    def table_by_number(self, component: str, number: TableNumber) -> TableInfo | None:
        """The table of this number, unless it is hidden or being deleted."""
        return self._by_number.get((component, number))

    def index(self, component: str, table: str, name: str) -> IndexInfo | None:
        """The index of this name that is in use, or the one being built when there is no other."""
        info = self._by_name.get((component, table))
        return None if info is None else info.by_name.get(name)

    def tables(self, component: str | None = None) -> Iterator[TableInfo]:
        """All tables, system tables included; those hidden or being deleted not."""
        return (t for (c, _), t in self._by_name.items() if component is None or c == component)

    def deleting(self) -> list[TableInfo]:
        """Tables whose documents are on their way out."""
        return [table for table in self._by_row.values() if table.state == "deleting"]

    def hidden(self) -> list[TableInfo]:
        """Tables that are being filled and that nobody can name yet."""
        return [table for table in self._by_row.values() if table.state == "hidden"]

    def table_of_row(self, row: bytes) -> TableInfo | None:
        """The table, in any state, that this document of `_tables` describes."""
        return self._by_row.get(row)

    @property
    def components(self) -> list[str]:
        """Every component that has a table or a schema; the app itself always."""
        found = {component for component, _ in self._by_name} | {s.component for s in self._schemas.values()}
        return sorted(found | {ROOT})

    def numbers(self, component: str) -> dict[str, TableNumber]:
        """Table name → number, for what user code may name: its tables and the public system tables."""
        return {
            table.name: table.number
            for table in self.tables(component)
            if not table.is_system or table.name in PUBLIC_SYSTEM_TABLES
        }

    def table_names(self, component: str) -> _Names:
        """The names that validators check ids against."""
        names = self._names.get(component)
        if names is None:
            names = self._names[component] = _Names(self._by_number, component)
        return names

    def next_number(self, component: str) -> TableNumber:
        """The number of the next user table: above every number in use, by tables in any state."""
        used = (table.number for table in self._by_row.values() if table.component == component)
        return max(FIRST_USER_TABLE_NUMBER - 1, max(used, default=0)) + 1

    def owner_of(self, index_id: int) -> TableInfo | None:
        """The table that an index, or by_id of a table, belongs to."""
        return self._owners.get(index_id)

    @property
    def store_ids(self) -> set[int]:
        """Every table and index that the store keeps rows of."""
        return set(self._owners)

    # ------------------------------------------------------------------------------------------------ schemas

    def schemas(self, component: str | None = None) -> list[SchemaInfo]:
        """Every stored schema, in the order of their ids."""
        found = [s for s in self._schemas.values() if component is None or s.component == component]
        return sorted(found, key=lambda info: info.id)

    def schema(self, id: DocumentId) -> SchemaInfo | None:
        """The stored schema of this id."""
        return self._schemas.get(id.internal)

    def active_schema(self, component: str) -> SchemaInfo | None:
        """The schema that writes must fit."""
        return next(
            (s for s in self._schemas.values() if s.component == component and s.state == "active"), None
        )

    def checked_schemas(self, component: str) -> list[SchemaInfo]:
        """The schemas that a write is held against: the active one first, then those on their way in."""
        found = [
            s
            for s in self._schemas.values()
            if s.component == component and s.state in ("active", "pending", "validated")
        ]
        return sorted(found, key=lambda info: info.state != "active") if len(found) > 1 else found

    # --------------------------------------------------------------------------------------------- succession

    def applied(self, changes: Iterable[tuple[int, bytes, dict[str, Any] | None]]) -> Catalog:
        """The Catalog after these documents changed: (basic table's store id, internal id, new document)."""
        next = Catalog(
            dict(self._by_name),
            dict(self._by_number),
            dict(self._by_row),
            dict(self._owners),
            dict(self._schemas),
        )
        ordered = sorted(changes, key=lambda change: change[0])  # Tables before the indexes that name them.
        for table_id, internal, document in ordered:
            if table_id == TABLES_TABLE.table_id:
                next._change_table(internal, document)
            elif table_id == INDEXES_TABLE.table_id:
                next._change_index(internal, document)
            elif document is None:
                next._schemas.pop(internal, None)
            else:
                next._schemas[internal] = SchemaInfo(
                    DocumentId(SCHEMAS_TABLE.number, internal),
                    document["component"],
                    document["state"],
                    document["schema"],
                    document["error"],
                    document["failedTable"],
                )
        return next

    def _change_table(self, internal: bytes, document: dict[str, Any] | None) -> None:
        old = self._by_row.pop(internal, None)
        if old is not None:
            self._remove(old)
        if document is None:
            return
        table_id = int(document["storeId"])
        self._add(
            TableInfo(
                document["component"],
                document["name"],
                int(document["number"]),
                table_id,
                document["state"],
                internal,
                by_id(table_id),
                by_creation_time(int(document["creationIndexId"])),
                old.indexes if old is not None else (),
            )
        )

    def _change_index(self, internal: bytes, document: dict[str, Any] | None) -> None:
        """Add, change or remove one index of a table (a document names its table; a removal is looked up)."""
        if document is None:
            table = next(
                (t for t in self._by_row.values() if any(i.row == internal for i in t.indexes)), None
            )
            if table is None:
                return  # Its table went first.
            others = tuple(index for index in table.indexes if index.row != internal)
        else:
            table = self._by_row[DocumentId.parse(document["table"]).internal]
            new = index_info(
                int(document["storeId"]),
                definition_of_row(document),
                document["state"],
                document["staged"],
                internal,
            )
            others = tuple(new if index.row == internal else index for index in table.indexes)
            if new not in others:
                others = (*others, new)
        self._remove(table)
        self._add(replace(table, indexes=others))

    def _remove(self, table: TableInfo) -> None:
        if self._by_name.get((table.component, table.name)) is table:
            del self._by_name[table.component, table.name]
        if self._by_number.get((table.component, table.number)) is table:
            del self._by_number[table.component, table.number]
        for index_id in _ids_of(table):
            self._owners.pop(index_id, None)

    def _add(self, table: TableInfo) -> None:
        assert table.row is not None
        self._by_row[table.row] = table
        if table.state == "active":
            self._by_number[table.component, table.number] = table
            self._by_name[table.component, table.name] = table
        for index_id in _ids_of(table):
            self._owners[index_id] = table


def _ids_of(table: TableInfo) -> list[int]:
    return [table.table_id, table.by_creation_time.index_id, *(index.index_id for index in table.indexes)]


PUBLIC_SYSTEM_TABLES = frozenset({"_storage", "_scheduled_functions"})
"""System tables whose names user code may know."""


def basic_catalog() -> Catalog:
    """The Catalog of an empty database: the three basic tables."""
    return Catalog(
        {(ROOT, table.name): table for table in BASIC_TABLES},
        {(ROOT, table.number): table for table in BASIC_TABLES},
        {},
        {index_id: table for table in BASIC_TABLES for index_id in _ids_of(table)},
        {},
    )
