"""Value ⇄ Convex JSON, the one format documents are stored in and travel in.

null, booleans, strings, arrays and objects are themselves; every bare number is a float64; int64, special
floats and bytes are one-key objects: {"$integer": …}, {"$float": …}, {"$bytes": …}. Canonical bytes have
sorted keys, no white space, and a point or an exponent in every number, so equal values are equal bytes.

Rule: parsing and printing of JSON text happen in msgspec; the walks here only turn int into float, open the
one-key objects, and check the limits that any value obeys.

Source: reference/values-and-sync.md §1.4, §1.5.
"""

from __future__ import annotations

import binascii
import json
import math
import struct
from typing import Any, Final

import msgspec

from cvx.errors import CvxError
from cvx.values.value import (
    ARRAY_LENGTH_MAX,
    COMMIT_TS,
    DOCUMENT_NESTING_MAX,
    OBJECT_FIELDS_MAX,
    UNDEFINED,
    VALUE_NESTING_MAX,
    VALUE_SIZE_BYTES_MAX,
    CommitTs,
    MaybeValue,
    Undefined,
    Value,
    array_too_long,
    check_field_name,
    check_int64,
    document_size,
    good_names,
    print_kind,
    size_of,
    too_deep_for_a_document,
    too_many_fields,
    too_nested,
    utf8_length,
    value_too_large,
)

_parse = msgspec.json.Decoder().decode
_print = msgspec.json.Encoder(order="sorted").encode
_int64: Final = struct.Struct("<q")
_float64: Final = struct.Struct("<d")
_INFINITY: Final = math.inf

FORMATS: Final[dict[str, str]] = {
    "convex_encoded_json": "convex_encoded_json",
    "convex_json": "convex_encoded_json",
    "json": "json",
    "convex_clean_json": "json",
    "export_json": "export_json",
}
"""Every accepted spelling of an output format, and its one name."""


# --------------------------------------------------------------------------------------------------- decoding


def decode(raw: bytes | str, *, internal: bool = False) -> Value:
    """The value that JSON text stands for.

    With `internal`, the text comes from our own runner and may hold {"$undefined": null} and
    {"$commitTs": null}; the result may then be or hold UNDEFINED and COMMIT_TS. Raises CvxError:
    "InvalidValue" for text that is not Convex JSON, otherwise the codes of `check_value`.
    """
    box = [_parsed(raw)]
    _check_size(_open_array(box, VALUE_NESTING_MAX + 1, internal) - 2)
    return box[0]  # type: ignore[no-any-return]


def from_json(obj: Any, *, internal: bool = False) -> Value:
    """The value that already parsed JSON stands for; `obj` itself is left alone. Otherwise as `decode`."""
    box = [_copied(obj, VALUE_NESTING_MAX + 2)]
    _check_size(_open_array(box, VALUE_NESTING_MAX + 1, internal) - 2)
    return box[0]  # type: ignore[no-any-return]


def canonicalize(raw: bytes) -> tuple[bytes, Value, int]:
    """(canonical bytes, the value, its size in bytes) of a function's result, in as few passes as possible.

    COMMIT_TS is accepted, since a nested mutation may return it. Raises as `decode` does.
    """
    box = [_parsed(raw)]
    size = _open_array(box, VALUE_NESTING_MAX + 1, True) - 2
    _check_size(size)
    value = box[0]
    if b'"$' in raw or b"-0" in raw or b"\\u0024" in raw:
        canonical = encode(value)
        if b'{"$undefined":null}' in canonical:  # Not inside a string: its quotes would be escaped.
            raise CvxError("InvalidValue", "undefined is not a value that can be stored or sent.")
        return canonical, value, size
    return _printed(value), value, size  # Nothing in it is special, so the value is its own JSON.


def open_document(fields: dict[str, Any]) -> int:
    """Turn a parsed JSON object, in place, into the document it stands for; its weight, in which an absent `_id`
    or `_creationTime` counts with its usual size. Raises as `decode` and `check_document` do."""
    try:
        size = _open_object(fields, DOCUMENT_NESTING_MAX, False)
    except CvxError as error:
        raise too_deep_for_a_document() if error.code == "TooNestedError" else error from None
    return document_size(fields, size)


def print_document(fields: dict[str, Any], *, special: bool) -> bytes:
    """As `encode`, for a value made by `open_document`. `special`: it may hold an int64, bytes or a special float."""
    if not special:
        raw = _printed(fields)
        if (
            b"-0.0" not in raw
        ):  # Minus zero, the one number that plain JSON could hold and a value spells otherwise.
            return raw
    return encode(fields)


def _parsed(raw: bytes | str) -> Any:
    try:
        return _parse(raw)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise CvxError("InvalidValue", f"Not valid JSON: {why_not_json(raw, error)}.") from None
    except RecursionError:
        raise too_nested() from None


def why_not_json(raw: bytes | str, error: Exception) -> str:
    """What is wrong with this text, which msgspec refused with `error`: the one fault that JavaScript itself makes,
    half of a surrogate pair in a string, by its name; else the error's own words."""
    try:
        json.dumps(json.loads(raw), ensure_ascii=False).encode()
    except UnicodeEncodeError as found:
        half = ord(found.object[found.start])
        return f"a string holds half of a surrogate pair (\\u{half:04x}), as when an emoji is cut in two"
    except (ValueError, RecursionError):
        pass
    return str(error)


def _check_size(size: int) -> None:
    if size > VALUE_SIZE_BYTES_MAX:
        raise value_too_large(size)


def _copied(obj: Any, levels_left: int) -> Any:
    if levels_left < 0:
        raise too_nested()
    if isinstance(obj, dict):
        return {name: _copied(child, levels_left - 1) for name, child in obj.items()}
    if isinstance(obj, (list, tuple)):
        return [_copied(child, levels_left - 1) for child in obj]
    return obj


def _open_object(fields: dict[str, Any], levels_left: int, internal: bool) -> int:
    """Turn a parsed object's fields into values, in place; its size in bytes."""
    if levels_left == 0:
        raise too_nested()
    if len(fields) > OBJECT_FIELDS_MAX:
        raise too_many_fields(len(fields))
    size = 2
    for name, child in fields.items():
        if name not in good_names:
            check_field_name(name)
        kind = type(child)
        if kind is str:
            size += len(name) + 3 + (len(child) if child.isascii() else utf8_length(child))
        elif kind is float:
            size += len(name) + 10
        elif child is None or kind is bool:
            size += len(name) + 2
        elif kind is int:
            fields[name] = _as_float(child)
            size += len(name) + 10
        elif kind is list:
            size += len(name) + 1 + _open_array(child, levels_left - 1, internal)
        elif kind is not dict:
            raise CvxError("InvalidValue", f"{print_kind(child)} does not occur in JSON.")
        elif len(child) == 1 and next(iter(child))[:1] == "$":
            fields[name] = special = _open_special(child, internal)
            # A field that is not there has no name either.
            size += len(name) + 1 + size_of(special) if special is not UNDEFINED else 0
        else:
            size += len(name) + 1 + _open_object(child, levels_left - 1, internal)
    return size


def _open_array(items: list[Any], levels_left: int, internal: bool) -> int:
    """Turn the elements of a parsed array into values, in place; its size in bytes."""
    if levels_left == 0:
        raise too_nested()
    if len(items) > ARRAY_LENGTH_MAX:
        raise array_too_long(len(items))
    size = 2
    for index, child in enumerate(items):
        kind = type(child)
        if kind is str:
            size += 2 + (len(child) if child.isascii() else utf8_length(child))
        elif kind is float:
            size += 9
        elif child is None or kind is bool:
            size += 1
        elif kind is int:
            items[index] = _as_float(child)
            size += 9
        elif kind is list:
            size += _open_array(child, levels_left - 1, internal)
        elif kind is not dict:
            raise CvxError("InvalidValue", f"{print_kind(child)} does not occur in JSON.")
        elif len(child) == 1 and next(iter(child))[:1] == "$":
            items[index] = special = _open_special(child, internal)
            size += size_of(special)
        else:
            size += _open_object(child, levels_left - 1, internal)
    return size


def _as_float(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        raise CvxError("InvalidValue", "A number is too large for a float64.") from None


def _open_special(obj: dict[str, Any], internal: bool) -> MaybeValue:
    """The value of a one-key object whose key starts with "$"."""
    ((key, payload),) = obj.items()
    if key == "$integer":
        return int(_int64.unpack(_payload(key, payload, 8))[0])
    if key == "$bytes":
        return _payload(key, payload, None)
    if key == "$float":
        number = float(_float64.unpack(_payload(key, payload, 8))[0])
        if (number and number - number == 0.0) or (number == 0.0 and math.copysign(1.0, number) > 0):
            raise CvxError("InvalidValue", f"$float holds {number}, which must be written as a plain number.")
        return number
    if internal and payload is None:
        if key == "$undefined":
            return UNDEFINED
        if key == "$commitTs":
            return COMMIT_TS
    raise CvxError("InvalidValue", f"An object has the key '{key[:64]}', which is not a known kind of value.")


def _payload(key: str, payload: object, length: int | None) -> bytes:
    if type(payload) is not str:
        raise CvxError("InvalidValue", f"{key} must hold a base64 string, not {print_kind(payload)}.")
    try:
        # Not `validate=True`, which some versions of Python read loosely about padding: compare instead.
        data = binascii.a2b_base64(payload)
        exact = binascii.b2a_base64(data, newline=False).decode() == payload
    except (binascii.Error, ValueError):
        exact = False
    if not exact:
        raise CvxError("InvalidValue", f"{key} does not hold standard base64.")
    if length is not None and len(data) != length:
        raise CvxError("InvalidValue", f"{key} must hold {length} bytes, not {len(data)}.")
    return data


# --------------------------------------------------------------------------------------------------- encoding


def encode(value: Any) -> bytes:
    """Canonical Convex JSON: the same value always gives the same bytes.

    Raises CvxError "InvalidValue" for what is not a value.
    """
    return _printed(to_json(value))


def to_json(value: Any) -> Any:
    """The JSON-able object of a value; shares every part of `value` that JSON holds as it is.

    Sentinels become {"$commitTs": null} and {"$undefined": null}, which only our own runner understands.
    """
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return value
    if kind is float:
        # A normal number minus itself is 0; for NaN and the infinities it is NaN. Zero needs its sign looked at.
        if (value and value - value == 0.0) or (value == 0.0 and math.copysign(1.0, value) > 0):
            return value
        return {"$float": _base64(_float64.pack(value))}
    if kind is dict:
        return _object_to_json(value)
    if kind is list:
        return _array_to_json(value)
    if kind is int:
        check_int64(value)
        return {"$integer": _base64(_int64.pack(value))}
    if kind is bytes:
        return {"$bytes": _base64(value)}
    if kind is CommitTs:
        return {"$commitTs": None}
    if kind is Undefined:
        return {"$undefined": None}
    raise CvxError("InvalidValue", f"{print_kind(value)} is not a value that can be stored or sent.")


def _object_to_json(fields: dict[str, Any]) -> dict[str, Any]:
    changed: dict[str, Any] | None = None
    for name, child in fields.items():
        kind = type(child)
        if kind is str or child is None or kind is bool:
            continue
        if kind is float and child and child - child == 0.0:
            continue
        new = to_json(child)
        if new is not child:
            if changed is None:
                changed = dict(fields)
            changed[name] = new
    return fields if changed is None else changed


def _array_to_json(items: list[Any]) -> list[Any]:
    changed: list[Any] | None = None
    for index, child in enumerate(items):
        kind = type(child)
        if kind is str or child is None or kind is bool:
            continue
        if kind is float and child and child - child == 0.0:
            continue
        new = to_json(child)
        if new is not child:
            if changed is None:
                changed = list(items)
            changed[index] = new
    return items if changed is None else changed


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()


def _printed(obj: Any) -> bytes:
    try:
        return _print(obj)
    except (UnicodeError, TypeError) as error:
        raise CvxError("InvalidValue", f"Value cannot be written as JSON: {error}.") from None
    except RecursionError:
        raise too_nested() from None


# ---------------------------------------------------------------------------------------------- other formats


def encode_clean(value: Value) -> bytes:
    """Format `json`: int64 as a decimal string, bytes as base64, NaN and infinities by name. Loses types."""
    return _printed(_clean(value))


def encode_format(value: Value, format: str | None) -> bytes:
    """`value` in an output format by any of its spellings; None means `convex_encoded_json`.

    Raises CvxError "BadFormat" for an unknown one.
    """
    name = format_name(format)
    if name == "json":
        return encode_clean(value)
    if name == "export_json":
        return _printed(_exported(value))
    return encode(value)


def reformat(raw: bytes, format: str | None) -> bytes:
    """Canonical bytes in another output format. Nothing is parsed when no value differs between formats."""
    name = format_name(format)
    if name == "convex_encoded_json" or b'"$' not in raw:
        return raw
    return encode_format(decode(raw), name)


def format_name(format: str | None) -> str:
    """The one name of an output format. Raises CvxError "BadFormat"."""
    if format is None:
        return "convex_encoded_json"
    name = FORMATS.get(format)
    if name is None:
        raise CvxError(
            "BadFormat", f"'{format[:64]}' is not an output format.",
            hint="Use json or convex_encoded_json.",
        )  # fmt: skip
    return name


def _clean(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return {name: _clean(child) for name, child in value.items()}
    if kind is list:
        return [_clean(child) for child in value]
    if kind is int:
        return str(value)
    if kind is bytes:
        return _base64(value)
    if kind is float and value - value != 0.0:
        return "NaN" if value != value else "Infinity" if value == _INFINITY else "-Infinity"
    if kind is CommitTs or kind is Undefined:
        raise CvxError("InvalidValue", f"{print_kind(value)} is not a value that can be sent.")
    return value


def _exported(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return {name: _exported(child) for name, child in value.items()}
    if kind is list:
        return [_exported(child) for child in value]
    if kind is int or (kind is float and value - value == 0.0):  # -0 too: text keeps its sign.
        return value
    return to_json(value)
