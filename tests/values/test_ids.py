"""Document ids: the reference's vectors, strictness, legacy spellings."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvx.errors import CvxError
from cvx.values import DocumentId, new_internal_id, parse_legacy

COUNTING = bytes(range(16))
VECTORS = {
    1: "040020g30g2gc1r81450p30d1r7qke8",
    127: "fw0020g30g2gc1r81450p30d1r7ze5r",
    128: "g00g00820c20a1g7104gm2rc1m70zyds",
    539: "kc2000820c20a1g7104gm2rc1m70y5yj",
    540: "kg2000820c20a1g7104gm2rc1m70y674",
    10001: "j57000820c20a1g7104gm2rc1m70ynr8",
    10002: "j97000820c20a1g7104gm2rc1m70yp0t",
    16384: "g2002001081g81860w40j2gb1g6gw3vs74",
    (1 << 32) - 1: "zzzzzzrf000g40r40m30e209185gr38e1y1nj",
}
ids = st.builds(DocumentId, st.integers(1, (1 << 32) - 1), st.binary(min_size=16, max_size=16))


@pytest.mark.parametrize(("table", "text"), VECTORS.items())
def test_vectors(table: int, text: str) -> None:
    assert str(DocumentId(table, COUNTING)) == text
    assert DocumentId.parse(text) == DocumentId(table, COUNTING)


def test_all_zero_id() -> None:
    assert str(DocumentId(10001, bytes(16))) == "j5700000000000000000000000001qv0"


@given(ids)
def test_round_trip(id: DocumentId) -> None:
    text = str(id)
    assert 31 <= len(text) <= 37
    back = DocumentId.parse(text)
    assert (back, hash(back), back.table, back.internal) == (id, hash(id), id.table, id.internal)


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_ids_of_one_table_sort_alike_as_text(a: bytes, b: bytes) -> None:
    left, right = DocumentId(10001, a), DocumentId(10001, b)
    assert (left < right) == (str(left) < str(right))


@given(ids, st.integers(0, 36), st.sampled_from("0123456789abcdefghjkmnpqrstvwxyz"))
def test_a_changed_character_is_noticed_or_is_another_id(id: DocumentId, at: int, digit: str) -> None:
    text = str(id)
    changed = text[:at] + digit + text[at + 1 :]
    back = DocumentId.try_parse(changed)
    assert back is None or str(back) == changed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "j57",
        "J57000820c20a1g7104gm2rc1m70ynr8",  # upper case
        "j57000820c20a1g7104gm2rc1m70ynr9",  # checksum
        "j57000820c20a1g71o4gm2rc1m70ynr8",  # o is not 0 here
        "j57000820c20a1g7_04gm2rc1m70ynr8",
        " 57000820c20a1g7104gm2rc1m70ynr8",
        "j57000820c20a1g7104gm2rc1m70ynr8 ",
        "j57000820c20a1g7104gm2rc1m70ynr80",
        "040020g30g2gc1r81450p30d1r7qke9",  # spare bits of the last group
        "é57000820c20a1g7104gm2rc1m70ynr8",
        "0" * 31,  # table 0
        "z" * 37,
    ],
)
def test_not_an_id(text: str) -> None:
    assert DocumentId.try_parse(text) is None
    with pytest.raises(CvxError) as caught:
        DocumentId.parse(text)
    assert caught.value.code == "InvalidId"


def test_things_that_are_not_text_are_no_ids() -> None:
    assert DocumentId.try_parse(None) is None  # type: ignore[arg-type]
    assert DocumentId.try_parse(1.0) is None  # type: ignore[arg-type]


def test_legacy_base64() -> None:
    text = base64.urlsafe_b64encode(bytes(range(240, 256))).decode().rstrip("=")
    assert len(text) == 22
    assert parse_legacy(text, 10001) == DocumentId(10001, bytes(range(240, 256)))
    assert parse_legacy(text[:-1], 10001) is None
    assert parse_legacy("", 10001) is None
    assert parse_legacy("!" * 22, 10001) is None
    assert parse_legacy("A" * 21 + "B", 10001) is None  # spare bits set


def test_legacy_base62_has_17_bytes() -> None:
    number, text = int.from_bytes(COUNTING[1:] + b"\x00\x07", "big"), ""
    while number:
        number, digit = divmod(number, 62)
        text = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[digit] + text
    text = text.rjust(23, "0")
    assert parse_legacy(text, 10001) == DocumentId(10001, COUNTING[1:] + b"\x00")
    assert parse_legacy("z" * 23, 10001) is None
    assert parse_legacy("-" * 23, 10001) is None
    assert parse_legacy("0" * 24, 10001) is None


def test_new_internal_ids_ascend_with_time_and_end_with_the_day() -> None:
    day_20000 = 20_000 * 86_400_000
    first = new_internal_id(day_20000, lambda n: b"\xff" * n)
    second = new_internal_id(day_20000 + 1, lambda n: bytes(n))
    assert len(first) == len(second) == 16
    assert first < second
    assert int.from_bytes(first[-2:], "big") == 20_000
    assert first[6:14] == b"\xff" * 8
