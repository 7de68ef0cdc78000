"""Files with random damage: each is imported, or refused with one of the documented codes; never anything else.

The reading half of an import alone, without a backend: hundreds of files take seconds.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import shutil
import time
from pathlib import Path

import pytest

from cvx.backend.bulk.messages import ImportOrder, ImportPlan, TablePlan
from cvx.backend.bulk.upload_reader import UploadReader
from cvx.errors import CvxError
from cvx.values import DocumentId
from tests.jobs.transfer_client import zipped

NUMBER = 10_001
REFUSALS = {
    "CsvInvalidHeader", "CsvInvalidRow", "CsvMissingHeaders", "CsvRowMissingFields", "DuplicateId", "InvalidConvexValue",
    "InvalidId", "InvalidName", "InvalidZip", "JsonInvalidRow", "NotAnObject", "NotJson", "NotJsonArray", "NotUtf8",
    "Sha256Mismatch", "Utf8BomNotSupported",
}  # fmt: skip
SPLINTERS = [
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b"\n", b'"', b"{", b"}", b"[", b"]", b",", b"\\", b"\\ud800",
    b"\xed\xa0\x80", b"1e999", b"-0.0", b"NaN", b"9" * 400, b'{"$integer":"zz"}', b'{"$foo":1}', b'"_id":5,',
    b'"_id":null,', b'"_creationTime":"x",', b'"_creationTime":-1,', b"[" * 300, b'{"a":' * 3_000, b"null", b" " * 900,
]  # fmt: skip


def rows(count: int) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for n in range(count):
        id = str(DocumentId(NUMBER, bytes([n + 1]) * 16))
        row = {"_id": id, "n": n, "s": "xü\u2028", "a": [1, {"b": None}], "i": {"$integer": "BQAAAAAAAAA="}}
        found.append(row | ({"_creationTime": 1.7e12 + n} if n % 2 else {}))
    return found


def json_lines(count: int = 30) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows(count))


def broken(data: bytes, chance: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        at, end = sorted((chance.randrange(len(found) + 1), chance.randrange(len(found) + 1)))
        match chance.randrange(5):
            case 0:
                del found[at:]
            case 1:
                found[at:at] = chance.choice(SPLINTERS)
            case 2 if found:
                found[min(at, len(found) - 1)] = chance.randrange(256)
            case 3:
                del found[at : at + 30]
            case _:
                found[at:at] = found[at:end]
    return bytes(found)


def damaged_zip(chance: random.Random) -> bytes:
    """Damage to the archive itself, or to one of its entries."""
    file = str(DocumentId(540, b"\x05" * 16))
    digest = base64.b64encode(hashlib.sha256(b"hello").digest()).decode()
    stored = {"_id": file, "_creationTime": 1.7e12, "sha256": digest, "size": 5, "internalId": "x"}
    entries = {
        "t/documents.jsonl": json_lines(20),
        "t/generated_schema.jsonl": b'"uniform"\n',
        "_tables/documents.jsonl": b'{"name":"t","id":10001}\n',
        "_storage/documents.jsonl": json.dumps(stored).encode() + b"\n",
        f"_storage/{file}.txt": b"hello",
    }
    if chance.random() < 0.3:
        return broken(zipped(entries), chance)
    name = chance.choice(sorted(entries))
    if chance.random() < 0.2:
        entries[chance.choice(["../", "/", "a\\b/", "", "x/y/"]) + name] = entries.pop(name)
    else:
        entries[name] = broken(entries[name], chance)
    return zipped(entries)


def damaged(format: str, chance: random.Random) -> bytes:
    if format == "zip":
        return damaged_zip(chance)
    if format == "csv":
        return broken(b"name,amount,note\n" + b'"a ""b""",1.5,x\n' * 30, chance)
    return broken(json_lines() if format == "jsonLines" else json.dumps(rows(30)).encode(), chance)


@pytest.mark.parametrize("format", ["jsonLines", "jsonArray", "csv", "zip"])
def test_damage_is_refused_by_name(tmp_path: Path, format: str) -> None:
    chance = random.Random(f"{format} 1")
    refused: set[str] = set()
    for case in range(150):
        folder = tmp_path / str(case)
        folder.mkdir()
        (folder / "part-00001").write_bytes(damaged(format, chance))
        (folder / "parts").write_text("part-00001")
        limits = {"import_block_bytes": chance.choice([100, 2_000, 1 << 18]), "import_line_bytes_max": 5_000}
        order = ImportOrder(str(folder), format, None if format == "zip" else "t", "", 1.7e12, limits, True)
        begun = time.process_time()
        try:
            reader = UploadReader(order, lambda report: None)
            survey = reader.survey()
            plans = [
                TablePlan(table.component, table.name, table.number or NUMBER, 3, [(4, [["n"]])])
                for table in survey.tables
            ]
            reader.read(ImportPlan(plans, {"": {str(NUMBER): "t"}}, {}))
        except CvxError as error:
            assert error.code in REFUSALS, (case, error.code, error.message)
            assert len(error.message) < 3_000, "a message repeats the file"
            refused.add(error.code)
        assert time.process_time() - begun < 20, f"case {case} does not end"
        shutil.rmtree(folder)
    assert len(refused) >= 2, refused
