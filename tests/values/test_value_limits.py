"""Sizes, nesting and every limit on values and documents, at the limit and one beyond it."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cvx.errors import CvxError
from cvx.values import (
    COMMIT_TS,
    UNDEFINED,
    check_document,
    check_value,
    compare,
    decode,
    encode,
    equal,
    field_at,
    nesting_of,
    size_of,
)

VECTORS = json.loads((Path(__file__).parent / "npm_vectors.json").read_text())


def code_of(check: Any, value: Any) -> str:
    with pytest.raises(CvxError) as caught:
        check(value)
    return caught.value.code


def nested_arrays(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def nested_objects(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize("vector", VECTORS["values"], ids=lambda v: v["json"][:30])
def test_sizes_are_those_of_the_npm_package(vector: dict[str, Any]) -> None:
    assert size_of(decode(vector["json"])) == vector["size"]


@pytest.mark.parametrize("vector", VECTORS["documents"], ids=lambda v: v["json"][:30])
def test_document_limit_counts_absent_system_fields_as_npm_does(vector: dict[str, Any]) -> None:
    fields: Any = decode(vector["json"])
    room = (1 << 20) - vector["size"] - len("fill") - 1 - 2
    check_document({**fields, "fill": "x" * room})
    assert code_of(check_document, {**fields, "fill": "x" * (room + 1)}) == "ValueTooLargeError"


def test_document_limit_counts_present_system_fields_by_their_own_size() -> None:
    fields = {"_id": "j57000820c20a1g7104gm2rc1m70ynr8", "_creationTime": 1.0, "fill": ""}
    room = (1 << 20) - size_of(fields)
    check_document({**fields, "fill": "x" * room})
    assert code_of(check_document, {**fields, "fill": "x" * (room + 1)}) == "ValueTooLargeError"


def test_sentinels_have_sizes() -> None:
    assert size_of(UNDEFINED) == 0
    assert size_of(COMMIT_TS) == 9
    assert size_of({"a": UNDEFINED}) == 2


def test_nesting_counts_the_container_itself() -> None:
    values: list[Any] = [1.0, [], {}, [1.0], [[]], {"a": [{}]}]
    assert [nesting_of(v) for v in values] == [0, 1, 1, 1, 2, 3]


@pytest.mark.parametrize("nested", [nested_arrays, nested_objects])
def test_values_nest_64_deep_and_no_deeper(nested: Any) -> None:
    check_value(nested(64))
    assert decode(encode(nested(64))) == nested(64)
    assert code_of(check_value, nested(65)) == "TooNestedError"
    assert code_of(decode, encode(nested(65))) == "TooNestedError"


def test_mixed_nesting_counts_both_kinds() -> None:
    value: Any = []
    for level in range(63):
        value = [value] if level % 2 else {"a": value}
    assert nesting_of(value) == 64
    assert decode(encode(value)) == value
    assert code_of(decode, encode([value])) == "TooNestedError"


def test_absurd_nesting_is_an_error_and_not_a_crash() -> None:
    assert code_of(decode, b"[" * 100_000 + b"]" * 100_000) == "TooNestedError"


def test_documents_nest_16_deep() -> None:
    check_document(nested_objects(16))
    assert code_of(check_document, nested_objects(17)) == "InvalidDocumentError"


@pytest.mark.parametrize("check", [check_value, lambda value: decode(encode(value))])
def test_array_and_object_lengths(check: Any) -> None:
    check([None] * 8192)
    check({f"f{i}": None for i in range(1024)})
    assert code_of(check, [None] * 8193) == "ArrayTooLong"
    assert code_of(check, {f"f{i}": None for i in range(1025)}) == "TooManyFieldsError"


def test_value_size_limit() -> None:
    check_value("x" * ((1 << 25) - 2))
    assert code_of(check_value, "x" * ((1 << 25) - 1)) == "ValueTooLargeError"


@pytest.mark.parametrize("name", ["", "a", "with space", "~", "9", "a" * 1024, "_nested"])
def test_field_names_that_are_legal(name: str) -> None:
    check_value({name: None})
    assert decode(encode({name: None})) == {name: None}


@pytest.mark.parametrize("name", ["$a", "$", "é", "a\nb", "a\x7f", "a" * 1025])
def test_field_names_that_are_not(name: str) -> None:
    assert code_of(check_value, {name: None}) == "InvalidFieldName"
    assert code_of(decode, json.dumps({name: 1, "other": 2})) == "InvalidFieldName"


def test_top_level_underscores_are_reserved_in_documents_only() -> None:
    check_document({"_id": "x", "_creationTime": 1.0, "a": {"_b": 1.0}})
    assert code_of(check_document, {"_other": 1.0}) == "InvalidDocumentError"


@pytest.mark.parametrize(
    "value", [UNDEFINED, [UNDEFINED], {"a": UNDEFINED}, 1 << 63, -(1 << 63) - 1, (1,), "\ud800"]
)
def test_what_is_not_a_value(value: Any) -> None:
    assert code_of(check_value, value) == "InvalidValue"


def test_order_is_that_of_the_npm_package() -> None:
    values = [decode(text) for text in VECTORS["sorted"]]
    for left, right in pairwise(values):
        assert compare(left, right) == -1
        assert compare(right, left) == 1
    for value in values:
        assert equal(value, value)


def test_types_are_exact() -> None:
    assert not equal(1, 1.0)
    assert not equal(True, 1)
    assert not equal(0.0, -0.0)
    assert equal(float("nan"), float("nan"))
    assert compare(UNDEFINED, None) == -1
    assert compare(COMMIT_TS, (1 << 63) - 1) == 0
    assert compare(COMMIT_TS, 5) == 1
    assert compare(5, COMMIT_TS) == -1
    assert compare(COMMIT_TS, 0.0) == -1


def test_field_at_follows_a_path() -> None:
    assert field_at({"a": {"b": 1.0}}, ("a", "b")) == 1.0
    assert field_at({"a": {"b": 1.0}}, ("a", "c")) is UNDEFINED
    assert field_at({"a": [1.0]}, ("a", "b")) is UNDEFINED
