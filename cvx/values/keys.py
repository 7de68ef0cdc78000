"""A tuple of values → bytes that sort, byte by byte, as Convex sorts the tuple; ranges of such keys.

One tag byte per value says its type; tags sort as the types do, and all are above 0, which ends arrays and
objects, so a shorter one sorts first. Strings and bytes end with 0 as well: inside them 0 is written 1 1 and
1 is written 1 2. No value's encoding is the beginning of another's; so `encode_key(prefix)` is a prefix of
`encode_key(full)`, and of no other key.

Rule: these bytes are stored on disk. A change here needs a migration in every store.

Source: reference/values-and-sync.md §1.6, §3.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from cvx.errors import CvxError
from cvx.values.value import (
    COMMIT_TS,
    UNDEFINED,
    CommitTs,
    MaybeValue,
    check_int64,
    float_order,
    print_kind,
)

_END: Final = b"\x00"
_UNDEFINED: Final = b"\x01"
_NULL: Final = b"\x02"
_INT64: Final = 0x03
_FLOAT64: Final = 0x04
_FALSE: Final = b"\x05"
_TRUE: Final = b"\x06"
_STRING: Final = b"\x07"
_BYTES: Final = b"\x08"
_ARRAY: Final = b"\x09"
_OBJECT: Final = b"\x0a"

_tagged: Final = struct.Struct(">BQ").pack
_untagged: Final = struct.Struct(">Q").unpack_from
_unpack_float: Final = struct.Struct(">d").unpack
_SIGN: Final = 1 << 63
_COMMIT_TS_KEY: Final = _tagged(_INT64, (1 << 64) - 1)


def encode_key(values: Sequence[Any]) -> bytes:
    """The key of a tuple of values: their encodings, one after the other."""
    return b"".join([encode_value(value) for value in values])


def encode_value(value: Any) -> bytes:
    """The self-delimiting encoding of one value. UNDEFINED sorts lowest, COMMIT_TS as the largest int64."""
    kind = type(value)
    if kind is str:
        return _STRING + _escaped(value.encode()) + _END
    if kind is float:
        return _tagged(_FLOAT64, float_order(value))
    if value is UNDEFINED:
        return _UNDEFINED
    if value is None:
        return _NULL
    if kind is bool:
        return _TRUE if value else _FALSE
    if kind is int:
        check_int64(value)
        return _tagged(_INT64, value + _SIGN)
    if kind is bytes:
        return _BYTES + _escaped(value) + _END
    if kind is list:
        return _ARRAY + encode_key(value) + _END
    if kind is dict:
        return _OBJECT + b"".join(_pairs(value)) + _END
    if kind is CommitTs:
        return _COMMIT_TS_KEY
    raise CvxError("InvalidValue", f"{print_kind(value)} cannot be part of an index key.")


def _pairs(fields: dict[str, Any]) -> list[bytes]:
    # The name carries a tag too: an empty name would otherwise look like the end of the object.
    return [
        _STRING + _escaped(name.encode()) + _END + encode_value(fields[name])
        for name in sorted(fields)
        if fields[name] is not UNDEFINED
    ]


def _escaped(data: bytes) -> bytes:
    if b"\x00" in data or b"\x01" in data:
        return data.replace(b"\x01", b"\x01\x02").replace(b"\x00", b"\x01\x01")
    return data


# --------------------------------------------------------------------------------------------------- decoding


def decode_key(raw: bytes) -> list[MaybeValue]:
    """The values of a key (COMMIT_TS comes back as the largest int64). Raises CvxError "InvalidKey"."""
    values: list[MaybeValue] = []
    at = 0
    try:
        while at < len(raw):
            value, at = _decode_value(raw, at)
            values.append(value)
    except (IndexError, ValueError, struct.error):
        raise CvxError("InvalidKey", f"Not an index key: {raw[:64].hex()}.", kind="internal") from None
    return values


def _decode_value(raw: bytes, at: int) -> tuple[MaybeValue, int]:
    tag = raw[at : at + 1]
    at += 1
    if tag == _STRING:
        data, at = _unescaped(raw, at)
        return data.decode(), at
    if tag == _BYTES:
        return _unescaped(raw, at)
    if tag in _CONSTANTS:
        return _CONSTANTS[tag], at
    if tag == b"\x03":
        return _untagged(raw, at)[0] - _SIGN, at + 8
    if tag == b"\x04":
        bits = _untagged(raw, at)[0]
        bits = bits ^ _SIGN if bits & _SIGN else bits ^ (1 << 64) - 1
        return float(_unpack_float(bits.to_bytes(8, "big"))[0]), at + 8
    if tag == _ARRAY:
        items: list[MaybeValue] = []
        while raw[at] != 0:
            item, at = _decode_value(raw, at)
            items.append(item)
        return items, at + 1
    if tag == _OBJECT:
        fields: dict[str, Any] = {}
        while raw[at] != 0:
            name, at = _decode_value(raw, at)
            fields[str(name)], at = _decode_value(raw, at)
        return fields, at + 1
    raise ValueError(tag)


_CONSTANTS: Final[dict[bytes, MaybeValue]] = {_UNDEFINED: UNDEFINED, _NULL: None, _FALSE: False, _TRUE: True}


def _unescaped(raw: bytes, at: int) -> tuple[bytes, int]:
    end = raw.index(b"\x00", at)
    data = raw[at:end]
    if b"\x01" in data:
        data = data.replace(b"\x01\x01", b"\x00").replace(b"\x01\x02", b"\x01")
    return data, end + 1


# ----------------------------------------------------------------------------------------------------- ranges


@dataclass(frozen=True, slots=True, order=True)
class KeyRange:
    """All keys from `start` on and below `end`; `end` None means without bound."""

    start: bytes
    end: bytes | None

    def contains(self, key: bytes) -> bool:
        """Whether `key` lies in the range."""
        return self.start <= key and (self.end is None or key < self.end)

    @property
    def is_empty(self) -> bool:
        """Whether no key can lie in the range."""
        return self.end is not None and self.start >= self.end

    def intersects(self, other: KeyRange) -> bool:
        """Whether some key could lie in both."""
        return not self.intersection(other).is_empty

    def intersection(self, other: KeyRange) -> KeyRange:
        """The keys in both; may be empty."""
        end = self.end if other.end is None else other.end if self.end is None else min(self.end, other.end)
        return KeyRange(max(self.start, other.start), end)


FULL_RANGE: Final = KeyRange(b"", None)


def prefix_range(prefix: bytes) -> KeyRange:
    """All keys that begin with `prefix`."""
    return KeyRange(prefix, successor_of_prefix(prefix))


def successor_of_prefix(prefix: bytes) -> bytes | None:
    """The smallest byte string above everything that begins with `prefix`; None when there is none."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,)) if kept else None


def key_after(key: bytes) -> bytes:
    """The smallest byte string above `key`."""
    return key + b"\x00"


assert encode_value(COMMIT_TS) == encode_value((1 << 63) - 1)
