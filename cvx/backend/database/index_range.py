"""The range conditions of a query → the KeyRange they mean in an index.

Equalities (in any order) must cover the first fields of the index; after them one further field may have one
lower and one upper bound. `_creationTime` and, last, `_id` may be named too.

Rule: pure.

Source: reference/runtime-and-database.md §2.4; values-and-sync.md §3.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from cvx.backend.database.indexes import IndexInfo
from cvx.errors import CvxError
from cvx.values import (
    DocumentId,
    KeyRange,
    TableNumber,
    compare,
    encode_key,
    encode_value,
    from_json,
    parse_field_path,
    successor_of_prefix,
)

Bound: TypeAlias = tuple[tuple[str, ...], bool, Any]
"""A field's path, whether the edge is after the value (else before it), and the value."""

_ID_PATH = ("_id",)
_ID_PATH_ONLY = (_ID_PATH,)
_INTERNAL_IDS = 1 << 128
_LOWER = {"Gt": True, "Gte": False}
_UPPER = {"Lt": False, "Lte": True}


def compile_range(table: str, number: TableNumber, index: IndexInfo, conditions: list[Any]) -> KeyRange:
    """Raises CvxError: FieldNotInIndex, InvalidIndexRange, BoundsOnMultipleFields, AlreadyDefinedBound."""
    where = f"{table}.{index.name}"
    paths = _ID_PATH_ONLY if index.is_by_id else (*index.paths, _ID_PATH)
    equal: dict[tuple[str, ...], Any] = {}
    bounds: dict[str, Bound] = {}
    for condition in conditions:
        kind, path, value = _condition(condition)
        if path not in paths:
            raise CvxError(
                "FieldNotInIndex",
                f"The index range of {where} names the field '{'.'.join(path)}', which is not in the index.",
                hint=f"The index has the fields {', '.join('.'.join(p) for p in paths)}.",
            )
        if kind == "Eq":
            if path in equal:
                raise _twice(where, path, "equality")
            equal[path] = value
            continue
        side = "lower" if kind in _LOWER else "upper"
        if side in bounds:
            if bounds[side][0] != path:
                raise _many(where)
            raise _twice(where, path, f"{side} bound")
        bounds[side] = (path, _LOWER[kind] if side == "lower" else _UPPER[kind], value)
    return _combined(where, number, paths, equal, bounds)


def _condition(condition: Any) -> tuple[str, tuple[str, ...], Any]:
    if type(condition) is not dict or condition.get("type") not in ("Eq", "Gt", "Gte", "Lt", "Lte"):
        raise CvxError("InvalidIndexRange", "A range condition must be Eq, Gt, Gte, Lt or Lte.")
    path = condition.get("fieldPath")
    if type(path) is not str or "value" not in condition:
        raise CvxError("InvalidIndexRange", "A range condition must have a fieldPath and a value.")
    return condition["type"], parse_field_path(path), from_json(condition["value"], internal=True)


def _twice(where: str, path: tuple[str, ...], what: str) -> CvxError:
    return CvxError(
        "AlreadyDefinedBound", f"The index range of {where} has a second {what} on '{'.'.join(path)}'."
    )


def _many(where: str) -> CvxError:
    return CvxError(
        "BoundsOnMultipleFields",
        f"The index range of {where} has bounds on several fields.",
        hint="Only one field, the one after those with equalities, may have bounds; use .filter for the others.",
    )


def _combined(
    where: str,
    number: TableNumber,
    paths: tuple[tuple[str, ...], ...],
    equal: dict[tuple[str, ...], Any],
    bounds: dict[str, Bound],
) -> KeyRange:
    count = 0
    while count < len(paths) and paths[count] in equal:
        count += 1
    bounded = {path for path, _, _ in bounds.values()}
    if len(bounded) > 1:
        raise _many(where)
    if count < len(equal) or (bounded and (count == len(paths) or paths[count] not in bounded)):
        expected = "nothing more" if count == len(paths) else f"'{'.'.join(paths[count])}'"
        raise CvxError(
            "InvalidIndexRange",
            f"The index range of {where} does not follow the order of its fields: "
            f"after {count} equalities it may go on with {expected}.",
            hint="Fields are used in the order in which the index lists them, without gaps.",
        )
    fields = paths[:count]
    if fields and fields[-1] == _ID_PATH:
        prefix = encode_key([equal[path] for path in fields[:-1]])
        same = equal[_ID_PATH]
        return _id_range(prefix, number, (_ID_PATH, False, same), (_ID_PATH, True, same))
    prefix = encode_key([equal[path] for path in fields])
    lower, upper = bounds.get("lower"), bounds.get("upper")
    if bounded == {_ID_PATH}:
        return _id_range(prefix, number, lower, upper)
    return KeyRange(
        prefix if lower is None else _edge(prefix, lower),
        successor_of_prefix(prefix) if upper is None else _edge(prefix, upper),
    )


def _edge(prefix: bytes, bound: Bound) -> bytes:
    """Before everything that begins with the bound's value, or after it."""
    edge = prefix + encode_value(bound[2])
    # Never without a successor: an encoding begins with a tag, far below 0xff.
    return successor_of_prefix(edge) or edge if bound[1] else edge


def _id_range(prefix: bytes, number: TableNumber, lower: Bound | None, upper: Bound | None) -> KeyRange:
    """A range over internal ids, from bounds that may be any value: ids compare as their strings."""
    end_of_all = successor_of_prefix(prefix)
    start: bytes | None = prefix
    if lower is not None:
        start = _id_edge(prefix, number, lower[1], lower[2])
        if start is None:
            return KeyRange(b"", b"")
    end = end_of_all
    if upper is not None:
        end = _id_edge(prefix, number, upper[1], upper[2])
        end = end_of_all if end is None else end
    assert start is not None
    return KeyRange(start, end)


def _id_edge(prefix: bytes, number: TableNumber, after: bool, value: Any) -> bytes | None:
    """The key of the first possible id of the table at or (`after`) above `value`; None when there is none.

    Ids of one table sort alike as strings and as bytes, so a search by halves finds it.
    """
    low, high = 0, _INTERNAL_IDS
    while low < high:
        middle = (low + high) // 2
        order = compare(str(DocumentId(number, middle.to_bytes(16, "big"))), value)
        if order > 0 or (order == 0 and not after):
            high = middle
        else:
            low = middle + 1
    return None if low == _INTERNAL_IDS else prefix + low.to_bytes(16, "big")
