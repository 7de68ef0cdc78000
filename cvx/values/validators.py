"""The Validator tree: what a schema, or a function's declaration, says a value must look like.

A tree is parsed once from JSON, and compiled to closures on first use; checking a good value costs one walk
over the value and allocates nothing. Only when that walk says no does a second one look for the reason: a
Complaint, with the path to the value that does not fit.

Rule: `accepts` and `explain` must agree: a value has a complaint exactly when it is not accepted.

Source: reference/cli-and-deploy.md §3.1; values-and-sync.md §2.3, §7; runtime-and-database.md §1.8.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol, TypeAlias

from cvx.values.ids import DocumentId, TableNumber
from cvx.values.json import to_json
from cvx.values.printing import print_value
from cvx.values.value import COMMIT_TS, SYSTEM_FIELDS, Value, equal


class TableNames(Protocol):
    """What validators must know about a deployment: the names that table numbers have in one namespace."""

    def name_of(self, table: TableNumber) -> str | None:
        """The public name (`_storage`, not its backing table's), or None when no table has the number."""
        ...


Accepts: TypeAlias = Callable[[Any, TableNames], bool]


@dataclass(frozen=True, slots=True)
class Complaint:
    """Why a value does not fit: the first reason found, where it is, and what was expected there."""

    sentence: str
    path: str
    """`.a[0].b`; empty when the value as a whole does not fit."""
    value: Value
    validator: Validator

    def text(self) -> str:
        """The layout of several lines that clients show."""
        label = "Object" if type(self.value) is dict else "Value"
        place = f"Path: {self.path}" if self.path else ""
        return f"{self.sentence}\n{place}\n{label}: {print_value(self.value)}\nValidator: {self.validator.source()}"


class Validator(ABC):
    """One node of the tree. Immutable; compared by structure."""

    @cached_property
    def accepts(self) -> Accepts:
        """The compiled test: `accepts(value, tables)`."""
        return self._compiled()

    def check(self, value: Value, tables: TableNames) -> Complaint | None:
        """None when `value` fits, else the first reason why it does not."""
        return None if self.accepts(value, tables) else self.explain(value, tables, "")

    def check_document(self, fields: dict[str, Any], tables: TableNames) -> Complaint | None:
        """As `check`, for a stored document: `_id` and `_creationTime` are left out of the question."""
        if "_id" in fields or "_creationTime" in fields:
            fields = {name: child for name, child in fields.items() if name not in SYSTEM_FIELDS}
        return self.check(fields, tables)

    @abstractmethod
    def _compiled(self) -> Accepts: ...

    def explain(self, value: Value, tables: TableNames, path: str) -> Complaint | None:
        """The first complaint about a value found at `path`; None when it fits."""
        return None if self.accepts(value, tables) else self._mismatch(value, path)

    def _mismatch(self, value: Value, path: str) -> Complaint:
        return Complaint("Value does not match validator.", path, value, self)

    @abstractmethod
    def source(self) -> str:
        """The JavaScript that makes this validator, fields in name order."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The JSON that `parse_validator` reads."""

    def children(self) -> Iterator[Validator]:
        """The validators directly inside this one."""
        return iter(())

    def referenced_tables(self) -> frozenset[str]:
        """The names of all tables that some `v.id` in the tree points at."""
        found: frozenset[str] = frozenset()
        return found.union(*(child.referenced_tables() for child in self.children()))

    def field_exists(self, path: tuple[str, ...]) -> bool:
        """Whether a value that fits may have something at this path of fields. Indexes may only use such."""
        return not path

    def may_hold_vector(self, path: tuple[str, ...]) -> bool:
        """Whether an array of float64 may be at this path of fields."""
        return False


_SCALAR_TYPES: Final[dict[str, type]] = {
    "null": type(None),
    "number": float,
    "bigint": int,
    "boolean": bool,
    "string": str,
    "bytes": bytes,
}
_SCALAR_SOURCES: Final[dict[str, str]] = {"number": "v.float64()", "bigint": "v.int64()"}


@dataclass(frozen=True)
class Scalar(Validator):
    """`v.null()`, `v.float64()`, `v.int64()`, `v.boolean()`, `v.string()` or `v.bytes()`."""

    kind: str
    """As in JSON: "number" is float64 and "bigint" is int64."""

    @property
    def python_type(self) -> type:
        """The exact type of the values that fit."""
        return _SCALAR_TYPES[self.kind]

    def _compiled(self) -> Accepts:
        expected = self.python_type
        return lambda value, tables: type(value) is expected

    def source(self) -> str:
        return _SCALAR_SOURCES.get(self.kind, f"v.{self.kind}()")

    def to_json(self) -> dict[str, Any]:
        return {"type": self.kind}


@dataclass(frozen=True)
class Anything(Validator):
    """`v.any()`."""

    def _compiled(self) -> Accepts:
        return lambda value, tables: True

    def source(self) -> str:
        return "v.any()"

    def to_json(self) -> dict[str, Any]:
        return {"type": "any"}

    def field_exists(self, path: tuple[str, ...]) -> bool:
        return True

    def may_hold_vector(self, path: tuple[str, ...]) -> bool:
        return True


@dataclass(frozen=True)
class CommitTimestamp(Validator):
    """`v.commitTs()`: an int64, or the placeholder that becomes one at commit."""

    def _compiled(self) -> Accepts:
        return lambda value, tables: type(value) is int or value is COMMIT_TS

    def source(self) -> str:
        return "v.commitTs()"

    def to_json(self) -> dict[str, Any]:
        return {"type": "commitTs"}


@dataclass(frozen=True, eq=False)
class Literal(Validator):
    """`v.literal(value)`: exactly this string, boolean, float64 or int64."""

    value: Value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and equal(self.value, other.value)

    def __hash__(self) -> int:
        return hash((type(self.value), repr(self.value)))

    def _compiled(self) -> Accepts:
        expected = self.value
        return lambda value, tables: equal(value, expected)

    def _mismatch(self, value: Value, path: str) -> Complaint:
        sentence = f"`{print_value(value)}` does not match literal validator `{self.source()}`."
        return Complaint(sentence, path, value, self)

    def source(self) -> str:
        return f"v.literal({print_value(self.value)})"

    def to_json(self) -> dict[str, Any]:
        return {"type": "literal", "value": to_json(self.value)}


@dataclass(frozen=True)
class Id(Validator):
    """`v.id(table)`: the string of an id whose table number has this name now. The row need not exist."""

    table: str

    def _compiled(self) -> Accepts:
        expected = self.table

        def accepts(value: Any, tables: TableNames) -> bool:
            if type(value) is not str:
                return False
            found = DocumentId.try_parse(value)
            return found is not None and tables.name_of(found.table) == expected

        return accepts

    def explain(self, value: Value, tables: TableNames, path: str) -> Complaint | None:
        if self.accepts(value, tables):
            return None
        id = DocumentId.try_parse(value) if type(value) is str else None
        found = tables.name_of(id.table) if id is not None else None
        if found is None:
            return self._mismatch(value, path)
        kind = "system table" if found.startswith("_") else "table"
        return Complaint(
            f'Found ID "{id}" from {kind} `{found}`, which does not match the table name in validator '
            f"`{self.source()}`.",
            path,
            value,
            self,
        )

    def source(self) -> str:
        return f'v.id("{self.table}")'

    def to_json(self) -> dict[str, Any]:
        return {"type": "id", "tableName": self.table}

    def referenced_tables(self) -> frozenset[str]:
        return frozenset((self.table,))


@dataclass(frozen=True)
class Array(Validator):
    """`v.array(element)`."""

    element: Validator

    def _compiled(self) -> Accepts:
        if isinstance(self.element, Scalar):
            allowed = {self.element.python_type}
            # One C loop: vectors have thousands of elements.
            return lambda value, tables: type(value) is list and allowed.issuperset(map(type, value))
        element = self.element.accepts

        def accepts(value: Any, tables: TableNames) -> bool:
            if type(value) is not list:
                return False
            for child in value:  # noqa: SIM110 (a generator would cost a frame on every call)
                if not element(child, tables):
                    return False
            return True

        return accepts

    def explain(self, value: Value, tables: TableNames, path: str) -> Complaint | None:
        if type(value) is not list:
            return self._mismatch(value, path)
        for index, child in enumerate(value):
            complaint = self.element.explain(child, tables, f"{path}[{index}]")
            if complaint is not None:
                return complaint
        return None

    def source(self) -> str:
        return f"v.array({self.element.source()})"

    def to_json(self) -> dict[str, Any]:
        return {"type": "array", "value": self.element.to_json()}

    def children(self) -> Iterator[Validator]:
        yield self.element

    def may_hold_vector(self, path: tuple[str, ...]) -> bool:
        return not path and self.element in (Scalar("number"), Anything())


@dataclass(frozen=True)
class Record(Validator):
    """`v.record(keys, values)`: an object whose names fit `keys` and whose fields fit `values`."""

    keys: Validator
    values: Validator

    def _compiled(self) -> Accepts:
        key_accepts = None if self.keys == Scalar("string") else self.keys.accepts
        value_accepts = self.values.accepts

        def accepts(value: Any, tables: TableNames) -> bool:
            if type(value) is not dict:
                return False
            for name, child in value.items():
                if not value_accepts(child, tables):
                    return False
                if key_accepts is not None and not key_accepts(name, tables):
                    return False
            return True

        return accepts

    def explain(self, value: Value, tables: TableNames, path: str) -> Complaint | None:
        if type(value) is not dict:
            return self._mismatch(value, path)
        for name in sorted(value):
            complaint = self.keys.explain(name, tables, f"{path}.keys()")
            if complaint is None:
                complaint = self.values.explain(value[name], tables, f"{path}.values()")
            if complaint is not None:
                return complaint
        return None

    def source(self) -> str:
        return f"v.record({self.keys.source()}, {self.values.source()})"

    def to_json(self) -> dict[str, Any]:
        values = {"fieldType": self.values.to_json(), "optional": False}
        return {"type": "record", "keys": self.keys.to_json(), "values": values}

    def children(self) -> Iterator[Validator]:
        yield self.keys
        yield self.values

    def field_exists(self, path: tuple[str, ...]) -> bool:
        return not path or self.values.field_exists(path[1:])

    def may_hold_vector(self, path: tuple[str, ...]) -> bool:
        return bool(path) and self.values.may_hold_vector(path[1:])


@dataclass(frozen=True)
class Union(Validator):
    """`v.union(…)`: whatever fits one of the members; nothing fits an empty union."""

    members: tuple[Validator, ...]

    def _compiled(self) -> Accepts:
        types = frozenset(m.python_type for m in self.members if isinstance(m, Scalar))
        words = frozenset(m.value for m in self.members if isinstance(m, Literal) and type(m.value) is str)
        others = tuple(
            m.accepts
            for m in self.members
            if not isinstance(m, Scalar) and not (isinstance(m, Literal) and type(m.value) is str)
        )

        def accepts(value: Any, tables: TableNames) -> bool:
            kind = type(value)
            if kind in types or (kind is str and value in words):
                return True
            for member in others:  # noqa: SIM110 (a generator would cost a frame on every call)
                if member(value, tables):
                    return True
            return False

        return accepts

    def explain(self, value: Value, tables: TableNames, path: str) -> Complaint | None:
        if len(self.members) == 1:
            return self.members[0].explain(value, tables, path)
        return super().explain(value, tables, path)

    def source(self) -> str:
        return f"v.union({', '.join(member.source() for member in self.members)})"

    def to_json(self) -> dict[str, Any]:
        return {"type": "union", "value": [member.to_json() for member in self.members]}

    def children(self) -> Iterator[Validator]:
        return iter(self.members)

    def field_exists(self, path: tuple[str, ...]) -> bool:
        return any(member.field_exists(path) for member in self.members)

    def may_hold_vector(self, path: tuple[str, ...]) -> bool:
        return any(member.may_hold_vector(path) for member in self.members)


@dataclass(frozen=True, slots=True)
class Field:
    """What an object may hold under one name."""

    validator: Validator
    optional: bool = False

    def source(self) -> str:
        """As it stands inside `v.object`."""
        source = self.validator.source()
        return f"v.optional({source})" if self.optional else source


class _Missing:
    """The type of nothing: never the type of a value."""


_MISSING: Final = _Missing()


@dataclass(frozen=True, eq=False)
class Object(Validator):
    """`v.object({…})`: these fields, and no others."""

    fields: Mapping[str, Field]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Object) and dict(self.fields) == dict(other.fields)

    def __hash__(self) -> int:
        return hash(tuple(sorted((name, field.optional) for name, field in self.fields.items())))

    def _compiled(self) -> Accepts:
        # (name, exact type or one that nothing has, test, may be absent)
        plan = tuple(
            (
                name,
                field.validator.python_type if isinstance(field.validator, Scalar) else _Missing,
                field.validator.accepts,
                field.optional,
            )
            for name, field in self.fields.items()
        )

        def accepts(value: Any, tables: TableNames) -> bool:
            if type(value) is not dict:
                return False
            seen = len(value)
            for name, kind, test, optional in plan:
                child = value.get(name, _MISSING)
                if child is _MISSING:
                    if not optional:
                        return False
                    continue
                seen -= 1
                if type(child) is not kind and (kind is not _Missing or not test(child, tables)):
                    return False
            return seen == 0

        return accepts

    def explain(self, value: Value, tables: TableNames, path: str) -> Complaint | None:
        if type(value) is not dict:
            return self._mismatch(value, path)
        for name in sorted(self.fields):
            if name not in value and not self.fields[name].optional:
                sentence = (
                    f"Object is missing the required field `{name}`. "
                    "If it may be absent, wrap its validator in `v.optional(...)`."
                )
                return Complaint(sentence, path, value, self)
        for name in sorted(value):
            if name not in self.fields:
                sentence = f"Object contains extra field `{name}` that is not in the validator."
                return Complaint(sentence, path, value, self)
        for name in sorted(value):
            complaint = self.fields[name].validator.explain(value[name], tables, f"{path}.{name}")
            if complaint is not None:
                return complaint
        return None

    def source(self) -> str:
        inside = ", ".join(f"{name}: {self.fields[name].source()}" for name in sorted(self.fields))
        return f"v.object({{{inside}}})"

    def to_json(self) -> dict[str, Any]:
        fields = {
            name: {"fieldType": self.fields[name].validator.to_json(), "optional": self.fields[name].optional}
            for name in sorted(self.fields)
        }
        return {"type": "object", "value": fields}

    def children(self) -> Iterator[Validator]:
        return (field.validator for field in self.fields.values())

    def field_exists(self, path: tuple[str, ...]) -> bool:
        if not path:
            return True
        field = self.fields.get(path[0])
        return field is not None and field.validator.field_exists(path[1:])

    def may_hold_vector(self, path: tuple[str, ...]) -> bool:
        field = self.fields.get(path[0]) if path else None
        return field is not None and field.validator.may_hold_vector(path[1:])


ANYTHING: Final = Anything()
