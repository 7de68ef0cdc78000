"""Convex JSON: vectors recorded from the npm package, round trips, canonical bytes, refusals."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from cvx.errors import CvxError
from cvx.values import (
    COMMIT_TS,
    UNDEFINED,
    canonicalize,
    compare,
    decode,
    encode,
    encode_clean,
    encode_format,
    from_json,
    reformat,
    size_of,
    to_json,
)
from tests.values.value_strategies import values

VECTORS = json.loads((Path(__file__).parent / "npm_vectors.json").read_text())


def refused(raw: bytes | str, **options: Any) -> str:
    with pytest.raises(CvxError) as caught:
        decode(raw, **options)
    return caught.value.code


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (math.nan, '{"$float":"AAAAAAAA+H8="}'),
        (math.inf, '{"$float":"AAAAAAAA8H8="}'),
        (-math.inf, '{"$float":"AAAAAAAA8P8="}'),
        (-0.0, '{"$float":"AAAAAAAAAIA="}'),
        (1, '{"$integer":"AQAAAAAAAAA="}'),
        (-1, '{"$integer":"//////////8="}'),
        ((1 << 63) - 1, '{"$integer":"/////////38="}'),
        (-(1 << 63), '{"$integer":"AAAAAAAAAIA="}'),
        (b"\x00\x01\xff", '{"$bytes":"AAH/"}'),
        (b"", '{"$bytes":""}'),
        (1.0, "1.0"),
        (0.0, "0.0"),
        (1e21, "1e21"),
        (5e-324, "5e-324"),
        (COMMIT_TS, '{"$commitTs":null}'),
        (UNDEFINED, '{"$undefined":null}'),
        ({"b": 1.0, "a": [True, None]}, '{"a":[true,null],"b":1.0}'),
        (
            {"b": 1, "a": {"d": b"", "c": 2.0}},
            '{"a":{"c":2.0,"d":{"$bytes":""}},"b":{"$integer":"AQAAAAAAAAA="}}',
        ),
    ],
)
def test_vectors(value: Any, text: str) -> None:
    assert encode(value).decode() == text
    back = decode(text, internal=True)
    assert type(back) is type(value)
    assert compare(back, value) == 0


@pytest.mark.parametrize("text", [v["json"] for v in VECTORS["values"]], ids=lambda text: text[:30])
def test_what_npm_writes_comes_back_as_the_same_value(text: str) -> None:
    canonical = encode(decode(text))
    assert json.loads(canonical) == json.loads(text, parse_int=float)
    assert encode(decode(canonical)) == canonical
    again, value, size = canonicalize(text.encode())
    assert again == canonical
    assert compare(value, decode(text)) == 0
    assert size == size_of(value)


@given(values)
def test_round_trip(value: Any) -> None:
    raw = encode(value)
    assert compare(decode(raw), value) == 0
    assert compare(from_json(json.loads(raw)), value) == 0
    again, back, size = canonicalize(raw)
    assert again == raw
    assert compare(back, value) == 0
    assert size == size_of(value)


@given(values, values)
def test_equal_values_are_equal_bytes_and_no_others(left: Any, right: Any) -> None:
    assert (encode(left) == encode(right)) == (compare(left, right) == 0)


@given(values)
def test_to_json_and_from_json_leave_their_input_alone(value: Any) -> None:
    before = repr(value)
    obj = to_json(value)
    assert repr(value) == before
    before = repr(obj)
    from_json(obj)
    assert repr(obj) == before


def test_every_bare_number_is_a_float() -> None:
    for text in (
        "1",
        "1.0",
        "1e0",
        "[1]",
        '{"a":1}',
        "18446744073709551615",
        "123456789012345678901234567890",
    ):
        assert "int" not in {type(x).__name__ for x in _leaves(decode(text))}
    assert decode("9007199254740993") == 9007199254740992.0


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for child in value.values() for leaf in _leaves(child)]
    if isinstance(value, list):
        return [leaf for child in value for leaf in _leaves(child)]
    return [value]


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"nul", b"[1,]", b"[1]x", b"NaN", b"1e400", b'"\xff"', b'"\xed\xa0\x80"', b'"\\ud800"',
        b'"\\ud800 tail"', b'"\\udc00"', b'{"a":"\\ud83d"}', b"9" * 400,
        b'{"$integer":"AQ=="}', b'{"$integer":1}', b'{"$integer":"AQAAAAAAAAA"}', b'{"$integer":"!"}',
        b'{"$float":"AAAAAAAA8D8="}', b'{"$float":"AAAAAAAAAAA="}', b'{"$bytes":"AAH"}', b'{"$bytes":"AAH="}',
        b'{"$bytes":"AA H/"}', b'{"$bytes":"AB=="}', b'{"$bytes":"AA=="," "}', b'{"$bytes":null}',
        b'{"$set":[]}', b'{"$map":[]}', b'{"$undefined":null}', b'{"$commitTs":null}', b'{"$":1}',
    ],
)  # fmt: skip
def test_what_is_not_convex_json(raw: bytes) -> None:
    assert refused(raw) == "InvalidValue"


def test_a_dollar_key_among_others_is_a_bad_name() -> None:
    assert refused(b'{"$integer":"AQAAAAAAAAA=","a":1}') == "InvalidFieldName"
    assert refused(b'{"a":1,"$x":1}') == "InvalidFieldName"


def test_an_escaped_dollar_is_a_dollar() -> None:
    assert decode(rb'{"\u0024integer":"AQAAAAAAAAA="}') == 1
    assert canonicalize(rb'{"\u0024integer":"AQAAAAAAAAA="}')[0] == b'{"$integer":"AQAAAAAAAAA="}'


def test_sentinels_only_from_our_own_runner() -> None:
    undefined: object = decode(b'{"$undefined":null}', internal=True)
    assert undefined is UNDEFINED
    assert decode(b'{"a":{"$commitTs":null}}', internal=True) == {"a": COMMIT_TS}
    assert refused(b'{"$commitTs":1}', internal=True) == "InvalidValue"
    assert from_json({"a": {"$undefined": None}}, internal=True) == {"a": UNDEFINED}


def test_canonicalize_takes_the_placeholder_but_not_undefined() -> None:
    assert canonicalize(b'[{"$commitTs":null}]') == (b'[{"$commitTs":null}]', [COMMIT_TS], 11)
    with pytest.raises(CvxError):
        canonicalize(b'{"a":{"$undefined":null}}')
    assert canonicalize(rb'"{\"$undefined\":null}"')[1] == '{"$undefined":null}'


def test_canonicalize_sorts_and_points() -> None:
    raw, value, size = canonicalize(b' { "b" : 1 , "a" : [ -0.0, 2e3 ] } ')
    assert raw == b'{"a":[{"$float":"AAAAAAAAAIA="},2000.0],"b":1.0}'
    assert value == {"b": 1.0, "a": [-0.0, 2000.0]}
    assert size == size_of(value)


MIXED = {
    "i": 7,
    "b": b"\x00\xff",
    "n": math.nan,
    "p": math.inf,
    "m": -math.inf,
    "z": -0.0,
    "f": 1.0,
    "s": "x",
}


def test_clean_format() -> None:
    assert encode_clean(MIXED) == (
        b'{"b":"AP8=","f":1.0,"i":"7","m":"-Infinity","n":"NaN","p":"Infinity","s":"x","z":-0.0}'
    )
    assert encode_format(MIXED, "json") == encode_format(MIXED, "convex_clean_json") == encode_clean(MIXED)


def test_export_format() -> None:
    assert encode_format(MIXED, "export_json") == (
        b'{"b":{"$bytes":"AP8="},"f":1.0,"i":7,"m":{"$float":"AAAAAAAA8P8="},"n":{"$float":"AAAAAAAA+H8="},'
        b'"p":{"$float":"AAAAAAAA8H8="},"s":"x","z":-0.0}'
    )


def test_encoded_format_and_its_alias() -> None:
    for name in (None, "convex_encoded_json", "convex_json"):
        assert encode_format(MIXED, name) == encode(MIXED)


def test_unknown_format() -> None:
    with pytest.raises(CvxError) as caught:
        encode_format(1.0, "xml")
    assert caught.value.code == "BadFormat"


@given(values)
def test_reformat_is_decode_and_encode(value: Any) -> None:
    for name in ("json", "convex_encoded_json", "export_json"):
        if name == "export_json" and b"AAAAAAAAAIA=" in encode(value):
            continue  # -0 and int64 min share their payload; tested above.
        assert reformat(encode(value), name) == encode_format(value, name)


def test_commit_ts_never_leaves_in_a_clean_format() -> None:
    with pytest.raises(CvxError):
        encode_clean([COMMIT_TS])


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (rb'{"a":"\ud83d"}', r"half of a surrogate pair (\ud83d)"),
        (rb'["\ude00 and more"]', r"half of a surrogate pair (\ude00)"),
        (rb'"\\ud83d', "Input data was truncated"),
    ],
)
def test_text_that_is_no_json_says_why(raw: bytes, why: str) -> None:
    with pytest.raises(CvxError) as caught:
        decode(raw)
    assert why in caught.value.message
