"""Validator JSON → TypeScript types, and the order of names in generated files. Pure.

Source: reference/cli-and-deploy.md §3.1, §4.2 (ordering), §4.4. Deliberately better than the official
templates: field names that are no identifiers are quoted, string literals escaped, an empty union is `never`.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*\Z")
_RUNS = re.compile(r"(\d+)")
_SIMPLE = {
    "null": "null",
    "number": "number",
    "bigint": "bigint",
    "boolean": "boolean",
    "string": "string",
    "bytes": "ArrayBuffer",
    "any": "any",
    "map": "any",
    "set": "any",
    "commitTs": 'bigint | import("convex/values").CommitTsPlaceholder',
}


def type_of(validator: Mapping[str, Any], *, id_type: str | None) -> str:
    """The TypeScript type of values that pass `validator`.

    `id_type` is the generic type that document ids get (`Id`), or None for plain strings: ids do not keep
    their table when they cross a component's border.
    """
    kind = validator["type"]
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if kind == "literal":
        return _literal(validator["value"])
    if kind == "id":
        return f"{id_type}<{quoted(validator['tableName'])}>" if id_type else "string"
    if kind == "array":
        return f"Array<{type_of(validator['value'], id_type=id_type)}>"
    if kind == "record":
        keys = type_of(validator["keys"], id_type=id_type)
        return f"Record<{keys}, {type_of(validator['values']['fieldType'], id_type=id_type)}>"
    if kind == "union":
        return " | ".join(type_of(member, id_type=id_type) for member in validator["value"]) or "never"
    if kind == "object":
        return _object(validator["value"], id_type)
    return "any"  # A kind of a newer backend: permissive, so that the app still type-checks.


def type_of_json(text: str | None, *, id_type: str | None) -> str:
    """Like `type_of` for the JSON text found in an analysis; None means that nothing was declared."""
    return "any" if text is None else type_of(msgspec.json.decode(text), id_type=id_type)


def field_paths(validator: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """The paths of fields that a document of this type can have, for index and filter types."""
    kind = validator["type"]
    if kind == "object":
        for name, entry in validator["value"].items():
            yield (name,)
            for rest in field_paths(entry["fieldType"]):
                yield (name, *rest)
    elif kind == "union":
        for member in validator["value"]:
            yield from field_paths(member)
    elif kind == "record":
        yield ("${string}",)


def property_name(name: str) -> str:
    """A property as it is written in an object type: quoted when it must be."""
    return name if _IDENTIFIER.match(name) else quoted(name)


def quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()


def name_order(name: str) -> tuple[Any, ...]:
    """Sort key close to English collation with numbers by value: punctuation, digits, letters; a before A."""
    primary: list[tuple[int, Any]] = []
    for position, run in enumerate(_RUNS.split(name)):
        if position % 2:
            primary.append((1, int(run)))
        else:
            primary.extend((2, c.casefold()) if c.isalpha() else (0, c) for c in run)
    return (primary, [c.isupper() for c in name], name)


def _object(fields: Mapping[str, Any], id_type: str | None) -> str:
    if not fields:
        return "{}"
    parts = (
        f"{property_name(name)}{'?' if entry.get('optional') else ''}: "
        f"{type_of(entry['fieldType'], id_type=id_type)}"
        for name, entry in fields.items()
    )
    return f"{{ {'; '.join(parts)} }}"


def _literal(value: Any) -> str:
    if value is None or isinstance(value, bool | str):
        return msgspec.json.encode(value).decode()
    if isinstance(value, int | float):
        return _number(float(value))
    if isinstance(value, dict) and "$integer" in value:
        return f"{int.from_bytes(base64.b64decode(value['$integer']), 'little', signed=True)}n"
    return "number"  # NaN, infinities and -0 have no literal type.


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() and math.fabs(value) < 2**53 else repr(value)
