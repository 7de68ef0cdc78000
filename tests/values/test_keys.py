"""Index keys sort as values do, are self-delimiting, and can be read back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from cvx.errors import CvxError
from cvx.values import (
    COMMIT_TS,
    FULL_RANGE,
    UNDEFINED,
    KeyRange,
    compare,
    decode_key,
    encode_key,
    encode_value,
    equal,
    key_after,
    prefix_range,
    successor_of_prefix,
)
from tests.values.value_strategies import keys, values


def sign(left: bytes, right: bytes) -> int:
    return (left > right) - (left < right)


def compare_tuples(left: list[Any], right: list[Any]) -> int:
    for a, b in zip(left, right, strict=False):
        if compare(a, b):
            return compare(a, b)
    return (len(left) > len(right)) - (len(left) < len(right))


@given(values, values)
def test_single_values_sort_as_compare_says(left: Any, right: Any) -> None:
    assert sign(encode_value(left), encode_value(right)) == compare(left, right)


@given(keys, keys)
def test_tuples_sort_as_their_elements(left: list[Any], right: list[Any]) -> None:
    assert sign(encode_key(left), encode_key(right)) == compare_tuples(left, right)


@given(keys, keys)
def test_a_key_begins_with_another_only_if_its_values_do(left: list[Any], right: list[Any]) -> None:
    begins = len(left) <= len(right) and all(equal(a, b) for a, b in zip(left, right, strict=False))
    assert encode_key(right).startswith(encode_key(left)) == begins
    assert prefix_range(encode_key(left)).contains(encode_key(right)) == begins


@given(keys)
def test_keys_can_be_read_back(key: list[Any]) -> None:
    back = decode_key(encode_key(key))
    assert compare_tuples(back, key) == 0
    assert [type(value) for value in back] == [type(value) for value in key]


def test_order_across_types() -> None:
    ladder: list[Any] = [
        UNDEFINED, None, -(1 << 63), -1, 0, COMMIT_TS, float("-inf"), -1.0, -0.0, 0.0, 5e-324, float("inf"),
        float("nan"), False, True, "", "\x00", "\x00\x00", "\x01", "a", "a\x00", "ab", "\uffff", "😀",
        b"", b"\x00", b"\x00\xff", b"\x01", [], [UNDEFINED], [None], [None, None], [[]], {}, {"": None},
        {"": None, "a": 1.0}, {"a": 1.0}, {"a": 1.0, "b": 1.0}, {"a": 2.0}, {"b": 0.0},
    ]  # fmt: skip
    encoded = [encode_value(value) for value in ladder]
    assert encoded == sorted(encoded)
    assert len(set(encoded)) == len(encoded)


def test_negative_nan_sorts_below_everything_float() -> None:
    import struct

    negative_nan = struct.unpack(">d", b"\xff\xf8" + bytes(6))[0]
    assert encode_value(negative_nan) < encode_value(float("-inf"))
    assert compare(negative_nan, float("-inf")) == -1


def test_bytes_on_disk_do_not_change() -> None:
    """A store written by an older version must stay readable: these bytes are a promise."""
    assert encode_key([UNDEFINED, None, False, True]).hex() == "01020506"
    assert encode_key([1, -1]).hex() == "038000000000000001" + "037fffffffffffffff"
    assert encode_key([1.0, -1.0]).hex() == "04bff0000000000000" + "04400fffffffffffff"
    assert encode_key(["a\x00\x01b"]).hex() == "07" + "61" + "0101" + "0102" + "62" + "00"
    assert encode_key([b"\x00"]).hex() == "08010100"
    assert (
        encode_key([[None], {"b": None, "a": []}]).hex()
        == "090200" + "0a" + "076100" + "0900" + "076200" + "02" + "00"
    )


@pytest.mark.parametrize("raw", [b"\x00", b"\x0b", b"\x03\x00", b"\x07abc", b"\x09\x02", b"\x07\xff\x00"])
def test_damaged_keys_are_refused(raw: bytes) -> None:
    with pytest.raises(CvxError) as caught:
        decode_key(raw)
    assert caught.value.code == "InvalidKey"


def test_successor_of_prefix() -> None:
    assert successor_of_prefix(b"a") == b"b"
    assert successor_of_prefix(b"a\xff\xff") == b"b"
    assert successor_of_prefix(b"\xff") is None
    assert successor_of_prefix(b"") is None


def test_ranges() -> None:
    range_ = KeyRange(b"b", b"d")
    assert [range_.contains(key) for key in (b"a", b"b", b"c\xff", b"d")] == [False, True, True, False]
    assert FULL_RANGE.contains(b"") and FULL_RANGE.contains(b"\xff" * 9)
    assert KeyRange(b"b", b"b").is_empty and not range_.is_empty and not FULL_RANGE.is_empty
    assert range_.intersects(KeyRange(b"c", None)) and range_.intersects(FULL_RANGE)
    assert not range_.intersects(KeyRange(b"d", b"e")) and not range_.intersects(KeyRange(b"a", b"b"))
    assert not KeyRange(b"c", b"c").intersects(range_)
    assert range_.intersection(KeyRange(b"a", b"c")) == KeyRange(b"b", b"c")


@given(keys)
def test_key_after_is_the_next_key(key: list[Any]) -> None:
    encoded = encode_key(key)
    assert KeyRange(encoded, key_after(encoded)).contains(encoded)
    assert not KeyRange(key_after(encoded), None).contains(encoded)
    assert KeyRange(key_after(encoded), None).contains(encode_key([*key, UNDEFINED]))
