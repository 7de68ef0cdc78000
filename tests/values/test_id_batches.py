"""Many ids at once are spelled and read as one by one."""

from __future__ import annotations

import os

import pytest

from cvx.errors import CvxError
from cvx.values import DocumentId, open_document, parse_ids, print_document, spell_ids


@pytest.mark.parametrize("table", [1, 127, 128, 540, 10_001, 16_383, 16_384, 1 << 31])
@pytest.mark.parametrize("count", [0, 1, 2, 57])
def test_batches_agree_with_single_ids(table: int, count: int) -> None:
    internals = [os.urandom(16) for _ in range(count)]
    texts = [str(DocumentId(table, internal)) for internal in internals]
    assert spell_ids(table, internals) == texts
    assert parse_ids(table, texts) == internals


def test_one_wrong_id_spoils_the_batch() -> None:
    good = spell_ids(10_001, [os.urandom(16) for _ in range(3)])
    for wrong in (
        good[0][:-1] + ("0" if good[0][-1] != "0" else "1"),
        good[0].upper(),
        good[0][:-1] + "é",
        good[0][:-1],
        str(DocumentId(10_002, bytes(16))),
        "",
    ):
        assert parse_ids(10_001, [good[1], wrong, good[2]]) is None
    assert parse_ids(10_001, [good[0] + good[1][:1], good[1][1:], good[2]]) is None


def test_documents_from_parsed_json() -> None:
    fields = {"b": 1, "a": [{"$integer": "BQAAAAAAAAA="}], "_id": "x" * 31}
    size = open_document(fields)
    assert fields == {"b": 1.0, "a": [5], "_id": "x" * 31} and size > 0
    assert print_document(
        fields, special=True
    ) == b'{"_id":"%s","a":[{"$integer":"BQAAAAAAAAA="}],"b":1.0}' % (b"x" * 31)
    assert print_document({"a": -0.0}, special=False) == b'{"a":{"$float":"AAAAAAAAAIA="}}'
    assert print_document({"a": -0.05}, special=False) == b'{"a":-0.05}'
    deep: dict[str, object] = {}
    for _ in range(16):
        deep = {"a": deep}
    for bad, code in (
        (deep, "InvalidDocumentError"),
        ({"_x": 1}, "InvalidDocumentError"),
        ({"a": "x" * (1 << 20)}, "ValueTooLargeError"),
    ):
        with pytest.raises(CvxError) as raised:
            open_document(bad)
        assert raised.value.code == code
