"""IndexInfo: an index as it is stored; a document → its key in each index.

A key is the encoding of the index's fields (missing ones as undefined), of `_creationTime`, and then the 16
internal id bytes as they are: within one table they sort as the id's string does. The table's own order
(`by_id`) has the internal id as its key and no entries of its own.

Rule: pure. The bytes made here are stored on disk.

Source: reference/values-and-sync.md §3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from cvx.protocol.schema import DatabaseIndex, Index, SearchIndex, VectorIndex
from cvx.values import UNDEFINED, encode_value, parse_field_path

IndexState = Literal["backfilling", "backfilled", "enabled"]

BY_ID = "by_id"
BY_CREATION_TIME = "by_creation_time"
CREATION_TIME = "_creationTime"
INTERNAL_ID_BYTES = 16
BUILT_IN_FIELDS = {BY_ID: ("_id",), BY_CREATION_TIME: (CREATION_TIME,)}


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """One index of one table. `row` is the internal id of its `_indexes` document; None for built-in ones."""

    index_id: int
    name: str
    fields: tuple[str, ...]
    """Dotted paths, `_creationTime` included."""
    paths: tuple[tuple[str, ...], ...]
    state: IndexState = "enabled"
    staged: bool = False
    definition: Index | None = None
    row: bytes | None = None
    value_path: tuple[str, ...] = ()
    """Of a text or vector index: where the text or the vector is."""
    filter_paths: tuple[tuple[str, ...], ...] = ()

    @property
    def is_by_id(self) -> bool:
        return self.fields == ("_id",)

    @property
    def has_entries(self) -> bool:
        """Whether the store keeps entries for it (by_id is the table itself; text and vector indexes have rows of
        their own)."""
        return bool(self.paths)

    @property
    def is_text(self) -> bool:
        """Whether queries search it for words."""
        return isinstance(self.definition, SearchIndex)

    @property
    def is_vector(self) -> bool:
        """Whether actions ask it for nearest neighbours."""
        return isinstance(self.definition, VectorIndex)

    def keeps_place(self, old: dict[str, Any], new: dict[str, Any]) -> bool:
        """Whether a change surely leaves the key as it is: a patch keeps the very objects it does not set."""
        for path in self.paths:
            name = path[0]
            if old.get(name, UNDEFINED) is not new.get(name, UNDEFINED):
                return False
        return True

    @property
    def is_database(self) -> bool:
        """Whether queries scan it in order."""
        return self.definition is None or isinstance(self.definition, DatabaseIndex)


def by_id(table_id: int) -> IndexInfo:
    """The order of the table itself."""
    return IndexInfo(table_id, BY_ID, BUILT_IN_FIELDS[BY_ID], ())


def by_creation_time(index_id: int) -> IndexInfo:
    """The index that every table has."""
    return IndexInfo(index_id, BY_CREATION_TIME, BUILT_IN_FIELDS[BY_CREATION_TIME], ((CREATION_TIME,),))


def index_info(
    index_id: int, definition: Index, state: IndexState, staged: bool, row: bytes | None
) -> IndexInfo:
    """An index as a schema defines it."""
    if isinstance(definition, DatabaseIndex):
        fields = definition.stored_fields
        paths = tuple(parse_field_path(field) for field in fields)
        return IndexInfo(index_id, definition.name, fields, paths, state, staged, definition, row)
    value = definition.search_field if isinstance(definition, SearchIndex) else definition.vector_field
    return IndexInfo(
        index_id, definition.name, definition.used_fields, (), state, staged, definition, row,
        parse_field_path(value), tuple(parse_field_path(field) for field in definition.filter_fields),
    )  # fmt: skip


def key_of(index: IndexInfo, document: dict[str, Any], internal: bytes) -> bytes:
    """Where `document` stands in the index."""
    parts = [encode_value(value_at(document, path)) for path in index.paths]
    parts.append(internal)
    return b"".join(parts)


def value_at(document: dict[str, Any], path: tuple[str, ...]) -> Any:
    """The value at a field path; UNDEFINED when there is none."""
    value: Any = document.get(path[0], UNDEFINED)
    for name in path[1:]:
        value = value.get(name, UNDEFINED) if type(value) is dict else UNDEFINED
    return value


def internal_of_key(key: bytes) -> bytes:
    """The document that a key of any index leads to."""
    return key[-INTERNAL_ID_BYTES:]


def definition_to_row(definition: Index) -> dict[str, Any]:
    """The part of an `_indexes` row that says what the index is."""
    if isinstance(definition, DatabaseIndex):
        return {"kind": "database", "fields": list(definition.fields)}
    if isinstance(definition, SearchIndex):
        return {
            "kind": "search",
            "searchField": definition.search_field,
            "filterFields": list(definition.filter_fields),
        }
    return {
        "kind": "vector",
        "vectorField": definition.vector_field,
        "dimensions": float(definition.dimensions),
        "filterFields": list(definition.filter_fields),
    }


def definition_of_row(row: dict[str, Any]) -> Index:
    """Inverse of `definition_to_row`."""
    name, staged = row["name"], row["staged"]
    if row["kind"] == "database":
        return DatabaseIndex(name, tuple(row["fields"]), staged)
    if row["kind"] == "search":
        return SearchIndex(name, row["searchField"], tuple(row["filterFields"]), staged)
    return VectorIndex(name, row["vectorField"], int(row["dimensions"]), tuple(row["filterFields"]), staged)
