"""Schema JSON ⇄ Schema, and the rules its tables and indexes obey.

`export()` of a schema module gives the JSON. The server appends `_creationTime` to the fields of every
database index: `to_json` writes it that way on request, and `parse_schema` accepts only what users write.

Source: reference/cli-and-deploy.md §3.2; values-and-sync.md §3; runtime-and-database.md §7.3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeAlias

import msgspec

from cvx.errors import CvxError
from cvx.values import (
    ANYTHING,
    Validator,
    check_table_name,
    document_validator,
    parse_field_path,
    parse_validator,
    print_kind,
)

TABLES_MAX: Final = 10_000
INDEXES_PER_TABLE_MAX: Final = 64
INDEX_FIELDS_MAX: Final = 15
"""Sixteen with the `_creationTime` that is appended."""
FILTER_FIELDS_MAX: Final = 16
VECTOR_DIMENSIONS_MIN: Final = 2
VECTOR_DIMENSIONS_MAX: Final = 4096
_index_name: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}", re.ASCII)
_RESERVED_INDEX_NAMES: Final = frozenset({"by_id", "by_creation_time"})


@dataclass(frozen=True, slots=True)
class DatabaseIndex:
    """An index to scan in order. `fields` as the user wrote them, dotted paths."""

    name: str
    fields: tuple[str, ...]
    staged: bool = False

    @property
    def used_fields(self) -> tuple[str, ...]:
        """Every field path it depends on."""
        return self.fields

    @property
    def stored_fields(self) -> tuple[str, ...]:
        """The fields as stored: with `_creationTime` at the end."""
        return (*self.fields, "_creationTime")


@dataclass(frozen=True, slots=True)
class SearchIndex:
    """A full-text index on one string field; results can be narrowed by `filter_fields`."""

    name: str
    search_field: str
    filter_fields: tuple[str, ...] = ()
    staged: bool = False

    @property
    def used_fields(self) -> tuple[str, ...]:
        """Every field path it depends on."""
        return (self.search_field, *self.filter_fields)


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """A nearest-neighbour index on one field of `dimensions` floats."""

    name: str
    vector_field: str
    dimensions: int
    filter_fields: tuple[str, ...] = ()
    staged: bool = False

    @property
    def used_fields(self) -> tuple[str, ...]:
        """Every field path it depends on."""
        return (self.vector_field, *self.filter_fields)


Index: TypeAlias = DatabaseIndex | SearchIndex | VectorIndex


@dataclass(frozen=True, slots=True)
class TableSchema:
    """One table: its indexes of all kinds, and what its documents look like (without system fields).

    `staged_validator` is a validator on trial (`.staged()`): None when there is none.
    """

    name: str
    indexes: tuple[Index, ...] = ()
    validator: Validator = ANYTHING
    staged_validator: Validator | None = None

    def index(self, name: str) -> Index | None:
        """The index of this name."""
        return next((index for index in self.indexes if index.name == name), None)


@dataclass(frozen=True, slots=True)
class Schema:
    """A deployment's or component's tables. `validation`: whether documents must fit."""

    tables: dict[str, TableSchema]
    validation: bool = False

    def referenced_tables(self) -> frozenset[str]:
        """The names of all tables that some `v.id` in the schema points at."""
        found: frozenset[str] = frozenset()
        return found.union(*(table.validator.referenced_tables() for table in self.tables.values()))

    def to_json(self, *, with_creation_time: bool = False) -> dict[str, Any]:
        """The JSON that `parse_schema` reads, tables in name order.

        `with_creation_time` shows the fields of database indexes as they are stored, the form in which
        the server answers a push.
        """
        tables = [_table_to_json(self.tables[name], with_creation_time) for name in sorted(self.tables)]
        return {"tables": tables, "schemaValidation": self.validation}


def _table_to_json(table: TableSchema, with_creation_time: bool) -> dict[str, Any]:
    out: dict[str, Any] = {"tableName": table.name}
    for key, _, _ in _INDEX_LISTS:
        out[key] = []
    for index in table.indexes:
        item: dict[str, Any] = {"indexDescriptor": index.name}
        if isinstance(index, DatabaseIndex):
            kind = "stagedDbIndexes" if index.staged else "indexes"
            item["fields"] = list(index.stored_fields if with_creation_time else index.fields)
        elif isinstance(index, SearchIndex):
            kind = "stagedSearchIndexes" if index.staged else "searchIndexes"
            item |= {"searchField": index.search_field, "filterFields": list(index.filter_fields)}
        else:
            kind = "stagedVectorIndexes" if index.staged else "vectorIndexes"
            item |= {"vectorField": index.vector_field, "dimensions": index.dimensions}
            item["filterFields"] = list(index.filter_fields)
        out[kind].append(item)
    out["documentType"] = table.validator.to_json()
    if table.staged_validator is not None:
        out["stagedDocumentType"] = table.staged_validator.to_json()
    return out


# ---------------------------------------------------------------------------------------------------- parsing


def parse_schema(source: str | bytes | dict[str, Any]) -> Schema:
    """The schema that JSON (text or parsed) describes, checked by `check_schema`.

    Raises CvxError "InvalidSchema" for malformed JSON, and the codes of `check_schema`.
    """
    obj: Any = source
    if isinstance(source, (str, bytes)):
        try:
            obj = msgspec.json.decode(source)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            _malformed(f"not valid JSON: {error}")
    if not isinstance(obj, dict):
        _malformed(f"expected an object, found {print_kind(obj)}")
    tables: dict[str, TableSchema] = {}
    for item in _list(obj, "tables", required=True):
        table = _parsed_table(item)
        if table.name in tables:
            _malformed(f"table '{table.name}' is defined twice")
        tables[table.name] = table
    schema = Schema(tables, obj.get("schemaValidation") is True)
    check_schema(schema)
    return schema


def _malformed(why: str) -> NoReturn:
    raise CvxError("InvalidSchema", f"Not a schema: {why}.")


def _parsed_table(item: Any) -> TableSchema:
    if not isinstance(item, dict):
        _malformed(f"a table must be an object, not {print_kind(item)}")
    name = _text(item, "tableName")
    indexes = tuple(read(entry, staged) for key, read, staged in _INDEX_LISTS for entry in _list(item, key))
    document_type, staged_type = item.get("documentType"), item.get("stagedDocumentType")
    return TableSchema(
        name,
        indexes,
        ANYTHING if document_type is None else _document_validator(name, document_type),
        None if staged_type is None else _document_validator(name, staged_type),
    )


def _document_validator(table: str, obj: Any) -> Validator:
    try:
        return document_validator(parse_validator(obj))
    except CvxError as error:
        raise CvxError(error.code, f'In table "{table}": {error.message}', hint=error.hint) from None


def _list(obj: dict[str, Any], key: str, *, required: bool = False) -> list[Any]:
    value = obj.get(key)
    if value is None and not required:
        return []
    if type(value) is not list:
        _malformed(f"'{key}' must be an array")
    return value


def _text(obj: Any, key: str) -> str:
    value = obj.get(key) if isinstance(obj, dict) else None
    if type(value) is not str:
        _malformed(f"'{key}' must be a string")
    return value


def _texts(obj: Any, key: str) -> tuple[str, ...]:
    values = _list(obj, key) if isinstance(obj, dict) else []
    if any(type(value) is not str for value in values):
        _malformed(f"'{key}' must be an array of strings")
    return tuple(values)


def _database_index(obj: Any, staged: bool) -> Index:
    return DatabaseIndex(_text(obj, "indexDescriptor"), _texts(obj, "fields"), staged)


def _search_index(obj: Any, staged: bool) -> Index:
    name = _text(obj, "indexDescriptor")
    return SearchIndex(name, _text(obj, "searchField"), _texts(obj, "filterFields"), staged)


def _vector_index(obj: Any, staged: bool) -> Index:
    name = _text(obj, "indexDescriptor")
    dimensions = obj.get("dimensions")
    if type(dimensions) is float and dimensions.is_integer():
        dimensions = int(dimensions)  # The JSON went through a Convex value on its way.
    if type(dimensions) is not int:
        _malformed("'dimensions' must be a whole number")
    return VectorIndex(name, _text(obj, "vectorField"), dimensions, _texts(obj, "filterFields"), staged)


_INDEX_LISTS: Final[tuple[tuple[str, Callable[[Any, bool], Index], bool], ...]] = (
    ("indexes", _database_index, False),
    ("stagedDbIndexes", _database_index, True),
    ("searchIndexes", _search_index, False),
    ("stagedSearchIndexes", _search_index, True),
    ("vectorIndexes", _vector_index, False),
    ("stagedVectorIndexes", _vector_index, True),
)


# ------------------------------------------------------------------------------------------------------ rules


def check_schema(schema: Schema) -> None:
    """Raise CvxError for the first rule that a table or an index breaks.

    Codes: TooManyTables, InvalidTableName, TableNameReserved, TooManyIndexes, InvalidIndexName,
    IndexNameReserved, IndexNamesNotUnique, EmptyIndex, IndexTooManyFields, IndexTooManyFilterFields,
    InvalidIndexField, IndexFieldsContainId, IndexFieldsContainCreationTime, IndexFieldNameReserved,
    FieldsNotUniqueWithinIndex, IndexNotUnique, SearchIndexFieldNotUnique, VectorIndexFieldNotUnique,
    InvalidVectorDimensions, SchemaDefinitionError.
    """
    if len(schema.tables) > TABLES_MAX:
        raise CvxError(
            "TooManyTables", f"The schema has {len(schema.tables)} tables; the maximum is {TABLES_MAX}."
        )
    for table in schema.tables.values():
        check_table_name(table.name)
        _check_names(table)
        for index in table.indexes:
            _check_index(table, index)
        _check_no_twins(table)
        if schema.validation:
            for index in table.indexes:
                _check_possible(table, index)


def _broken(code: str, table: TableSchema, index: str, why: str, hint: str | None = None) -> CvxError:
    return CvxError(code, f'In table "{table.name}" the index "{index}" is invalid because {why}.', hint=hint)


def _check_names(table: TableSchema) -> None:
    if len(table.indexes) > INDEXES_PER_TABLE_MAX:
        raise CvxError(
            "TooManyIndexes",
            f'Table "{table.name}" has {len(table.indexes)} indexes; the maximum is {INDEXES_PER_TABLE_MAX}.',
        )
    seen: set[str] = set()
    for index in table.indexes:
        name = index.name
        if name in _RESERVED_INDEX_NAMES or (name.startswith("_") and not name.startswith("_fivetran")):
            raise _broken("IndexNameReserved", table, name, "its name is reserved", "Rename the index.")
        if _index_name.fullmatch(name.removeprefix("_")) is None or len(name) > 64:
            raise _broken(
                "InvalidIndexName", table, name[:80], "its name is not valid",
                "Start with a letter; use letters, digits and underscores, at most 64.",
            )  # fmt: skip
        if name in seen:
            raise _broken("IndexNamesNotUnique", table, name, "the table has another index of this name")
        seen.add(name)


def _check_index(table: TableSchema, index: Index) -> None:
    if isinstance(index, DatabaseIndex):
        if not index.fields:
            raise _broken("EmptyIndex", table, index.name, "it has no fields")
        if len(index.fields) > INDEX_FIELDS_MAX:
            why = f"it has {len(index.fields)} fields, and the maximum is {INDEX_FIELDS_MAX}"
            raise _broken("IndexTooManyFields", table, index.name, why)
    elif len(index.filter_fields) > FILTER_FIELDS_MAX:
        why = f"it has {len(index.filter_fields)} filter fields, and the maximum is {FILTER_FIELDS_MAX}"
        raise _broken("IndexTooManyFilterFields", table, index.name, why)
    if isinstance(index, VectorIndex) and not (
        VECTOR_DIMENSIONS_MIN <= index.dimensions <= VECTOR_DIMENSIONS_MAX
    ):
        why = f"it has {index.dimensions} dimensions; {VECTOR_DIMENSIONS_MIN} to {VECTOR_DIMENSIONS_MAX} are possible"
        raise _broken("InvalidVectorDimensions", table, index.name, why)
    for path in index.used_fields:
        _check_field(table, index, path)
    listed = index.fields if isinstance(index, DatabaseIndex) else index.filter_fields
    if len(set(map(parse_field_path, listed))) < len(listed):
        raise _broken("FieldsNotUniqueWithinIndex", table, index.name, "it names a field twice")


def _check_field(table: TableSchema, index: Index, path: str) -> None:
    if path == "_id":
        raise _broken("IndexFieldsContainId", table, index.name, "it names the field _id", "Use by_id.")
    if path == "_creationTime":
        raise _broken(
            "IndexFieldsContainCreationTime", table, index.name, "it names the field _creationTime",
            "Leave it out: every index ends with it anyway.",
        )  # fmt: skip
    if path.startswith("_"):
        raise _broken("IndexFieldNameReserved", table, index.name, f"the field {path} is a system field")
    try:
        parse_field_path(path)
    except CvxError as error:
        why = error.message.rstrip(".")
        raise _broken("InvalidIndexField", table, index.name, f"of a field: {why}") from None


def _check_no_twins(table: TableSchema) -> None:
    """No two indexes of a table may do the same work; staged ones count."""
    for code, keys in (
        ("IndexNotUnique", [(i.name, i.fields) for i in _only(table.indexes, DatabaseIndex)]),
        (
            "SearchIndexFieldNotUnique",
            [
                (i.name, (i.search_field, frozenset(i.filter_fields)))
                for i in _only(table.indexes, SearchIndex)
            ],
        ),
        (
            "VectorIndexFieldNotUnique",
            [(i.name, (i.vector_field, i.dimensions)) for i in _only(table.indexes, VectorIndex)],
        ),
    ):
        first: dict[Any, str] = {}
        for name, key in keys:
            other = first.setdefault(key, name)
            if other != name:
                why = f'the index "{other}" is on the same fields'
                raise _broken(code, table, name, why, f'Remove one of "{other}" and "{name}".')


def _only(indexes: Sequence[Index], kind: type[Any]) -> Iterator[Any]:
    return (index for index in indexes if isinstance(index, kind))


def _check_possible(table: TableSchema, index: Index) -> None:
    """An index on a field that no document can have is a spelling mistake."""
    for path in index.used_fields:
        if not table.validator.field_exists(parse_field_path(path)):
            raise _broken(
                "SchemaDefinitionError", table, index.name,
                f"it references the field {path} that does not exist",
                "Add the field to the table's validator, or correct its name in the index.",
            )  # fmt: skip
    if isinstance(index, VectorIndex) and not table.validator.may_hold_vector(
        parse_field_path(index.vector_field)
    ):
        raise _broken(
            "SchemaDefinitionError", table, index.name,
            f"its vector field {index.vector_field} is not an array of float64",
            "Declare the field as v.array(v.float64()).",
        )  # fmt: skip
