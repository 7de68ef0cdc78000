"""What the documents of a table look like, worked out from the newest of them: for tables without a schema.

Rule: pure; a look at values, and no promise about those that were not looked at.

Source: the answer of `/api/shapes2` as the official command line's MCP server and dashboards read it
(reference/cli-and-deploy.md §1.9).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from cvx.values import DocumentId, Value, is_identifier

_OBJECT_FIELDS_MAX = 64  # With more names than this an object is a record.
_PLAIN = ("Null", "Boolean", "Int64", "String", "Bytes")

TableOf = Callable[[DocumentId], str | None]
"""The table that an id is of, if there is one."""


def shape_of(values: Iterable[Value], table_of: TableOf) -> dict[str, Any]:
    """The narrowest shape that all of these have: `{type, …}`; "Never" when there are none."""
    seen = _Seen()
    for value in values:
        seen.add(value, table_of)
    return seen.shape()


@dataclass
class _Seen:
    """What occurred in one place."""

    plain: set[str] = field(default_factory=set)
    tables: set[str] = field(default_factory=set)
    floats: int = 0
    has_special_floats: bool = False
    items: _Seen | None = None
    objects: int = 0
    fields: dict[str, tuple[int, _Seen]] = field(default_factory=dict)

    def add(self, value: Value, table_of: TableOf) -> None:
        if isinstance(value, dict):
            self.objects += 1
            for name, child in value.items():
                count, seen = self.fields.get(name, (0, None))
                seen = seen or _Seen()
                seen.add(child, table_of)
                self.fields[name] = (count + 1, seen)
        elif isinstance(value, list):
            self.items = self.items or _Seen()
            for child in value:
                self.items.add(child, table_of)
        elif type(value) is float:
            self.floats += 1
            self.has_special_floats |= not math.isfinite(value) or (
                value == 0 and math.copysign(1, value) < 0
            )
        elif isinstance(value, str):
            id = DocumentId.try_parse(value)
            table = None if id is None else table_of(id)
            if table is None:
                self.plain.add("String")
            else:
                self.tables.add(table)
        else:
            self.plain.add(_name_of(value))

    def shape(self) -> dict[str, Any]:
        plain = self.plain
        found: list[dict[str, Any]] = [{"type": name} for name in _PLAIN if name in plain]
        if "String" not in plain:
            found += [{"type": "Id", "tableName": table} for table in sorted(self.tables)]
        if self.floats:
            found.append({"type": "Float64", "float64Range": {"hasSpecialValues": self.has_special_floats}})
        if self.items is not None:
            found.append({"type": "Array", "shape": self.items.shape()})
        if self.objects:
            found.append(self._object())
        if not found:
            return {"type": "Never"}
        return found[0] if len(found) == 1 else {"type": "Union", "shapes": found}

    def _object(self) -> dict[str, Any]:
        names = sorted(self.fields)
        if len(names) > _OBJECT_FIELDS_MAX or not all(_is_field(name) for name in names):
            values = _Seen()
            for _, seen in self.fields.values():
                values.absorb(seen)
            return {
                "type": "Record",
                "keyShape": {"type": "String"},
                "valueShape": {"optional": False, "shape": values.shape()},
            }
        return {
            "type": "Object",
            "fields": [
                {
                    "fieldName": name,
                    "optional": self.fields[name][0] < self.objects,
                    "shape": self.fields[name][1].shape(),
                }
                for name in names
            ],
        }

    def absorb(self, other: _Seen) -> None:
        """Take in what occurred in another place."""
        self.plain |= other.plain
        self.tables |= other.tables
        self.floats += other.floats
        self.has_special_floats |= other.has_special_floats
        if other.items is not None:
            self.items = self.items or _Seen()
            self.items.absorb(other.items)
        self.objects += other.objects
        for name, (count, seen) in other.fields.items():
            known, mine = self.fields.get(name, (0, None))
            mine = mine or _Seen()
            mine.absorb(seen)
            self.fields[name] = (known + count, mine)


def _is_field(name: str) -> bool:
    return is_identifier(name.lstrip("_") or "a")


def _name_of(value: Value) -> str:
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return "Boolean"
    return "Bytes" if isinstance(value, bytes) else "Int64"
