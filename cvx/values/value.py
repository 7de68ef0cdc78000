"""The kinds of value a document holds, how big they are, and how they sort.

A Value is plain Python: None, bool, int (int64), float (float64), str, bytes, list and dict. The exact type
decides: bool is never an int64, and int64 and float64 never compare equal. Two sentinels stand beside the
values: UNDEFINED (a missing field, a removed field, an open comparison) and COMMIT_TS (the commit timestamp,
before it is known).

Rule: nothing in this room reads a clock, does I/O, or keeps a reference to a value it was given.

Source: reference/values-and-sync.md §1.1 (sizes), §1.2 (limits), §1.3 (names), §1.6 (order).
"""

from __future__ import annotations

import struct
from typing import Any, Final, TypeAlias, Union, final

from cvx.errors import CvxError

DOCUMENT_SIZE_BYTES_MAX: Final = 1 << 20
VALUE_SIZE_BYTES_MAX: Final = 1 << 25
DOCUMENT_NESTING_MAX: Final = 16
VALUE_NESTING_MAX: Final = 64
ARRAY_LENGTH_MAX: Final = 8192
OBJECT_FIELDS_MAX: Final = 1024
FIELD_NAME_LENGTH_MAX: Final = 1024
INT64_MIN: Final = -(1 << 63)
INT64_MAX: Final = (1 << 63) - 1

ABSENT_ID_SIZE_BYTES: Final = 38
"""What a document's `_id` is taken to weigh while it has none yet."""
ABSENT_CREATION_TIME_SIZE_BYTES: Final = 23
"""What `_creationTime` weighs: 13 for the name, 1 for its end, 9 for the float."""

SYSTEM_FIELDS: Final = frozenset({"_id", "_creationTime"})


@final
class Undefined:
    """The type of UNDEFINED: no value at all. There is one instance; compare with `is`."""

    __slots__ = ()
    _instance: Undefined | None = None

    def __new__(cls) -> Undefined:
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance

    def __repr__(self) -> str:
        return "UNDEFINED"

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> str:
        return "UNDEFINED"


@final
class CommitTs:
    """The type of COMMIT_TS: stands for the commit's timestamp until the commit gives it one."""

    __slots__ = ()
    _instance: CommitTs | None = None

    def __new__(cls) -> CommitTs:
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance

    def __repr__(self) -> str:
        return "COMMIT_TS"

    def __reduce__(self) -> str:
        return "COMMIT_TS"


UNDEFINED: Final = Undefined()
COMMIT_TS: Final = CommitTs()

# One level deep on purpose: `dict[str, Value]` would be invariant, and every literal would need a cast.
Value: TypeAlias = Union[bool, int, float, str, bytes, list[Any], dict[str, Any], CommitTs, None]  # noqa: UP007
MaybeValue: TypeAlias = Union[Value, Undefined]  # noqa: UP007


# ---------------------------------------------------------------------------------------------- size, nesting


def size_of(value: Any) -> int:
    """The weight of a value in bytes: the measure that every limit uses.

    UNDEFINED weighs 0 and COMMIT_TS as much as the int64 it becomes. Raises CvxError "InvalidValue" for
    anything that is not a Value.
    """
    kind = type(value)
    if kind is str:
        return 2 + utf8_length(value)
    if kind is float or kind is int or kind is CommitTs:
        return 9
    if value is None or kind is bool:
        return 1
    if kind is dict:
        size = 2
        for name, child in value.items():
            child_kind = type(child)
            if child_kind is str and child.isascii():  # Most fields, without a call.
                size += len(name) + 3 + len(child)
            elif child_kind is float:
                size += len(name) + 10
            elif child is not UNDEFINED:  # A field that is not there has no name either.
                size += len(name) + 1 + size_of(child)
        return size
    if kind is list:
        size = 2
        for child in value:
            size += size_of(child)
        return size
    if kind is bytes:
        return 2 + len(value)
    if value is UNDEFINED:
        return 0
    raise _not_a_value(value)


def utf8_length(text: str) -> int:
    """Length of `text` in UTF-8 bytes. Raises CvxError "InvalidValue" when it holds a lone surrogate."""
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise CvxError(
            "InvalidValue", "A string holds half of a surrogate pair, which is not text."
        ) from None


def nesting_of(value: Any) -> int:
    """How many arrays and objects deep a value goes: 0 for a scalar, 1 for an empty array or object."""
    if type(value) is dict:
        return 1 + max(map(nesting_of, value.values()), default=0)
    if type(value) is list:
        return 1 + max(map(nesting_of, value), default=0)
    return 0


# ---------------------------------------------------------------------------------------------------- limits


def check_value(value: Any) -> None:
    """Raise CvxError unless `value` is a Value within all limits.

    Codes: ArrayTooLong, TooManyFieldsError, TooNestedError, ValueTooLargeError, InvalidFieldName,
    InvalidValue (not a Value: UNDEFINED inside it, an int beyond 64 bits, a lone surrogate, a foreign type).
    """
    size = _checked_size(value, VALUE_NESTING_MAX)
    if size > VALUE_SIZE_BYTES_MAX:
        raise value_too_large(size)


def value_too_large(size: int) -> CvxError:
    """The error for a value over the limit on any single value."""
    return CvxError(
        "ValueTooLargeError",
        f"Value is too large ({size} bytes, and the maximum is {VALUE_SIZE_BYTES_MAX} bytes).",
        hint="Split it over several documents, or keep it in file storage.",
    )


def check_document(fields: dict[str, Any]) -> int:
    """The weight of a document; raises CvxError unless `fields` may be stored as one.

    `_id` and `_creationTime` may be present or absent; absent ones count with their usual size. Codes: those
    of `check_value`, ValueTooLargeError above 1 MiB, InvalidDocumentError for deeper nesting than 16 and for
    other top-level names that start with an underscore.
    """
    if type(fields) is not dict:
        raise CvxError("InvalidDocumentError", f"A document must be an object, not {print_kind(fields)}.")
    try:
        size = _checked_size(fields, DOCUMENT_NESTING_MAX)
    except CvxError as error:
        if error.code != "TooNestedError":
            raise
        raise too_deep_for_a_document() from None
    return document_size(fields, size)


def document_size(fields: dict[str, Any], size: int) -> int:
    """The weight of a document whose fields weigh `size`. Raises as `check_document` does, but for its nesting."""
    if "_id" not in fields:
        size += ABSENT_ID_SIZE_BYTES
    if "_creationTime" not in fields:
        size += ABSENT_CREATION_TIME_SIZE_BYTES
    check_document_size(size)
    for name in fields:
        if name[:1] == "_":
            check_system_field(name)
    return size


def check_document_size(size: int) -> None:
    """Raise CvxError "ValueTooLargeError" for a document that weighs too much."""
    if size > DOCUMENT_SIZE_BYTES_MAX:
        raise CvxError(
            "ValueTooLargeError",
            f"Document is too large ({size} bytes, and the maximum is {DOCUMENT_SIZE_BYTES_MAX} bytes).",
            hint="Split it over several documents, or keep the large part in file storage.",
        )


def check_system_field(name: str) -> None:
    """Raise CvxError "InvalidDocumentError" for a top-level name with an underscore that is not the backend's."""
    if name not in SYSTEM_FIELDS:
        raise CvxError(
            "InvalidDocumentError",
            f"Field '{name}' starts with an underscore, which is reserved for system fields.",
            hint="Rename the field.",
        )


def too_deep_for_a_document() -> CvxError:
    """The error for a document that is nested more than documents may be."""
    return CvxError(
        "InvalidDocumentError",
        f"Document is nested too deeply: more than {DOCUMENT_NESTING_MAX} levels.",
        hint="Store the inner objects in a table of their own.",
    )


def _checked_size(value: Any, levels_left: int) -> int:
    """`size_of` and all limits except size, in one walk: this runs on every write."""
    kind = type(value)
    if kind is str:
        return 2 + utf8_length(value)
    if kind is float or value is None or kind is bool or kind is bytes:
        return size_of(value)
    if kind is dict:
        return _checked_object_size(value, levels_left)
    if kind is list:
        if levels_left == 0:
            raise too_nested()
        if len(value) > ARRAY_LENGTH_MAX:
            raise array_too_long(len(value))
        size = 2
        for child in value:
            size += _checked_size(child, levels_left - 1)
        return size
    if kind is int:
        check_int64(value)
        return 9
    if kind is CommitTs:
        return 9
    raise _not_a_value(value)


def _checked_object_size(fields: dict[str, Any], levels_left: int) -> int:
    if levels_left == 0:
        raise too_nested()
    if len(fields) > OBJECT_FIELDS_MAX:
        raise too_many_fields(len(fields))
    size = 2
    for name, child in fields.items():
        if name not in good_names:
            check_field_name(name)
        child_kind = type(child)
        if child_kind is str and child.isascii():
            size += len(name) + 3 + len(child)
        elif child_kind is float:
            size += len(name) + 10
        else:
            size += len(name) + 1 + _checked_size(child, levels_left - 1)
    return size


# Names that passed `check_field_name` once: the same few hundred come back on every request, so walks look
# here first. Bounded, since clients choose them.
good_names: set[str] = set()
_GOOD_NAMES_MAX: Final = 20_000


def check_field_name(name: object) -> None:
    """Raise CvxError "InvalidFieldName" unless `name` may be an object's key. The empty name is legal."""
    if type(name) is not str:
        raise CvxError("InvalidFieldName", f"Object keys must be strings, not {type(name).__name__}.")
    if name[:1] == "$":
        raise CvxError("InvalidFieldName", f"Field name '{name[:64]}' starts with '$', which is reserved.")
    if len(name) > FIELD_NAME_LENGTH_MAX:
        raise CvxError(
            "InvalidFieldName",
            f"Field name '{name[:32]}…' is too long ({len(name)} characters; maximum {FIELD_NAME_LENGTH_MAX}).",
        )
    if not (name.isascii() and name.isprintable()):
        raise CvxError(
            "InvalidFieldName",
            f"Field name {name[:64]!a} has a character outside printable ASCII.",
            hint="Keep such keys in values: an array of {key, value} objects.",
        )
    if len(good_names) < _GOOD_NAMES_MAX and len(name) <= 64:
        good_names.add(name)


def check_int64(number: int) -> None:
    """Raise CvxError "InvalidValue" unless `number` fits in a signed 64-bit integer."""
    if not INT64_MIN <= number <= INT64_MAX:
        raise CvxError("InvalidValue", f"Integer {number} does not fit in a signed 64-bit integer.")


def array_too_long(length: int) -> CvxError:
    """The error for an array over the limit."""
    return CvxError(
        "ArrayTooLong", f"Array has {length} elements, and the maximum is {ARRAY_LENGTH_MAX}.",
        hint="Keep the elements as documents in a table.",
    )  # fmt: skip


def too_many_fields(count: int) -> CvxError:
    """The error for an object over the limit."""
    return CvxError(
        "TooManyFieldsError", f"Object has {count} fields, and the maximum is {OBJECT_FIELDS_MAX}.",
        hint="Keep the entries as documents in a table.",
    )  # fmt: skip


def too_nested() -> CvxError:
    """The error for a value that goes deeper than any value may."""
    return CvxError("TooNestedError", f"Value is nested more than {VALUE_NESTING_MAX} levels deep.")


def print_kind(value: object) -> str:
    """The kind of a value in Convex's words: "int64", "array" …; a foreign type by its Python name."""
    return _KIND_NAMES.get(type(value), type(value).__name__)


def _not_a_value(value: object) -> CvxError:
    return CvxError("InvalidValue", f"{print_kind(value)} is not a value that can be stored or sent.")


_KIND_NAMES: Final[dict[type, str]] = {
    Undefined: "undefined",
    type(None): "null",
    int: "int64",
    CommitTs: "commit timestamp",
    float: "float64",
    bool: "boolean",
    str: "string",
    bytes: "bytes",
    list: "array",
    dict: "object",
}


# ----------------------------------------------------------------------------------------------------- order


_RANKS: Final[dict[type, int]] = {
    Undefined: 0,
    type(None): 1,
    int: 2,
    CommitTs: 2,
    float: 3,
    bool: 4,
    str: 5,
    bytes: 6,
    list: 7,
    dict: 8,
}
_pack_float: Final = struct.Struct(">d").pack
_unpack_u64: Final = struct.Struct(">Q").unpack


def float_order(number: float) -> int:
    """An unsigned 64-bit integer that sorts as IEEE 754 totalOrder sorts `number`: -NaN first, +NaN last."""
    bits: int = _unpack_u64(_pack_float(number))[0]
    return bits ^ 0xFFFF_FFFF_FFFF_FFFF if bits >> 63 else bits | 0x8000_0000_0000_0000


def compare(a: Any, b: Any) -> int:
    """-1, 0 or 1: the one total order of indexes, bounds and filters.

    Types sort undefined < null < int64 < float64 < boolean < string < bytes < array < object. Strings sort by
    code point (the same as by UTF-8 bytes, not as JavaScript sorts), floats by totalOrder (so -0 < 0, and NaN
    equals itself), objects as their list of (name, value) pairs in name order.
    """
    kind = type(a)
    if kind is not type(b):
        return _compare_ranks(a, b)
    if kind is float:
        if a < b:
            return -1
        if a > b:
            return 1
        left, right = float_order(a), float_order(b)
        return (left > right) - (left < right)
    if kind is list:
        for x, y in zip(a, b, strict=False):
            order = compare(x, y)
            if order:
                return order
        return (len(a) > len(b)) - (len(a) < len(b))
    if kind is dict:
        return _compare_objects(a, b)
    if a is b:
        return 0
    return int(a > b) - int(a < b)


def _compare_ranks(a: Any, b: Any) -> int:
    left, right = _RANKS[type(a)], _RANKS[type(b)]
    if left == right:  # An int64 and a COMMIT_TS, which sorts as the largest int64.
        x = INT64_MAX if type(a) is CommitTs else a
        y = INT64_MAX if type(b) is CommitTs else b
        return (x > y) - (x < y)
    return -1 if left < right else 1


def _compare_objects(a: dict[str, Any], b: dict[str, Any]) -> int:
    for x, y in zip(sorted(a), sorted(b), strict=False):
        if x != y:
            return -1 if x < y else 1
        order = compare(a[x], b[y])
        if order:
            return order
    return (len(a) > len(b)) - (len(a) < len(b))


def equal(a: Any, b: Any) -> bool:
    """Whether two values are the same in the total order: 1 is not 1.0, -0 is not 0, NaN is NaN."""
    if type(a) is str:
        return type(b) is str and a == b
    return compare(a, b) == 0


def field_at(value: Any, path: tuple[str, ...]) -> MaybeValue:
    """The value at a path of field names, or UNDEFINED where there is none."""
    for name in path:
        if type(value) is not dict:
            return UNDEFINED
        value = value.get(name, UNDEFINED)
    return value  # type: ignore[no-any-return]
