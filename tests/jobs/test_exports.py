"""Exports: the official layout, one moment, round trips; and imports of ZIPs with everything in them."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import sqlite3
import threading
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from cvx.backend.auth import SYSTEM
from cvx.backend.database import Transaction
from cvx.backend.store.open import DATABASE_FILE
from cvx.values import DocumentId
from tests.jobs.transfer_client import TransferClient, lines, zipped
from tests.live_backend import LiveBackend

pytestmark = [pytest.mark.deno]

EVERY_TYPE = lines(
    {"null": None, "bool": True, "int": {"$integer": "//////////8="}, "big": {"$integer": "AAAAAAAAAIA="}},
    {"float": 1, "tiny": 5e-324, "huge": 1e21, "minus_zero": {"$float": "AAAAAAAAAIA="}},
    {"nan": {"$float": "AQAAAAAA+H8="}, "inf": {"$float": "AAAAAAAA8H8="}, "bytes": {"$bytes": "AP8="}},
    {
        "deep": {"a": [{"b": [{"$integer": "AQAAAAAAAAA="}, 1.5, "1"]}], "": "empty name"},
        "text": '"\\\n\u2028',
    },
)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveBackend]:
    with LiveBackend(tmp_path / "data", limits={"export_batch_rows": 50, "exports_kept_max": 2}) as backend:
        yield backend


@pytest.fixture
def client(live: LiveBackend) -> Iterator[TransferClient]:
    client = TransferClient(live.url, live.admin_key)
    yield client
    client.close()


def raw(client: TransferClient, table: str) -> bytes:
    return client.http.get("/api/export/table", params={"table": table}).content


def test_the_layout_and_the_round_trip(live: LiveBackend, client: TransferClient, tmp_path: Path) -> None:
    client.load(EVERY_TYPE, "jsonLines", "types")
    client.load(lines(*({"n": n} for n in range(333))), "jsonLines", "rows")
    client.load(b"", "jsonLines", "empty")
    archive = client.export()
    assert archive.testzip() is None
    assert archive.namelist() == [
        "README.md", "_tables/documents.jsonl", "empty/documents.jsonl", "empty/generated_schema.jsonl",
        "rows/documents.jsonl", "rows/generated_schema.jsonl", "types/documents.jsonl",
        "types/generated_schema.jsonl", "_storage/documents.jsonl",
    ]  # fmt: skip
    assert archive.read("types/generated_schema.jsonl") == b'"uniform"\n'
    first = json.loads(archive.read("types/documents.jsonl").splitlines()[0])
    assert first["int"] == -1 and first["big"] == -(1 << 63), "int64s are bare integers"
    assert b'"float":1.0' in archive.read("types/documents.jsonl")
    numbers = [json.loads(line) for line in archive.read("_tables/documents.jsonl").splitlines()]
    assert {row["name"] for row in numbers} == {"empty", "rows", "types"}
    packed = io.BytesIO()
    archive.fp.seek(0)  # type: ignore[union-attr]
    packed.write(archive.fp.read())  # type: ignore[union-attr]
    with LiveBackend(tmp_path / "other") as second:
        other = TransferClient(second.url, second.admin_key)
        other.load(lines({"x": 1}), "jsonLines", "in_the_way")
        other.load(lines({"x": 1}), "jsonLines", "rows")
        clash = other.load(packed.getvalue(), "zip", None, "replace")
        assert clash["error_code"] == "TableNumberConflict", "a number is in use by a table that stays"
        done = other.load(packed.getvalue(), "zip", None, "replaceAll")
        assert done["num_rows_written"] == 337, done
        assert other.tables() == ["empty", "rows", "types"]
        for table in ("rows", "types"):
            assert raw(other, table) == raw(client, table), "bit by bit: ids, times, numbers"
        refused = other.load(packed.getvalue(), "zip", None)
        assert refused["error_code"] == "TableExists"
        other.close()


def test_a_folder_that_somebody_zipped_and_what_is_not_ours(client: TransferClient) -> None:
    ids = [str(DocumentId(10_044, bytes([n]) * 16)) for n in (1, 2)]
    state = client.load(
        zipped(
            {
                "backup/README.md": b"hello",
                "backup/__MACOSX": b"x",
                "backup/a/documents.jsonl": b'{"n":1}\n',
                "backup/_tables/documents.jsonl": b'{"name":"b","id":10045}\n',
                "backup/b/documents.jsonl": b"",
                "backup/_scheduled_functions/documents.jsonl": b'{"x":1}\n',
                "backup/c/documents.jsonl": lines({"_id": ids[0]}, {"_id": ids[1]}),
                "../../etc/documents.jsonl": b'{"n":1}\n',
                "/abs/documents.jsonl": b'{"n":1}\n',
            }
        ),
        "zip",
        None,
    )
    assert state["num_rows_written"] == 3, state
    assert client.tables() == ["a", "b", "c"]
    assert type(client.rows("a")[0]["n"]) is float, "without a generated schema, numbers are numbers"
    client.load(lines({"n": 1}), "jsonLines", "b", "append")
    assert DocumentId.parse(client.rows("b")[0]["_id"]).table == 10_045


def test_damaged_and_hostile_zips(live: LiveBackend, client: TransferClient, tmp_path: Path) -> None:
    good = zipped({"t/documents.jsonl": lines(*({"n": n} for n in range(500)))})
    at = good.index(b'{"n": 400}')
    flipped = good[:at] + b'{"n": 401}' + good[at + 10 :]
    for data in (
        good[:-30],
        good[: len(good) // 2],
        flipped,
        good[40:],
        b"PK\x05\x06" + bytes(18) + b"x",
        b"",
    ):
        state = client.load(data, "zip", None)
        if data == b"PK\x05\x06" + bytes(18) + b"x":
            continue  # An empty archive with a tail: nothing to import, or refused; no crash.
        assert (state["state"], state["error_code"]) == ("failed", "InvalidZip"), state
    assert client.tables() == []
    with LiveBackend(
        tmp_path / "small", limits={"import_expanded_bytes_max": 100_000, "import_zip_entries_max": 10}
    ) as small:
        other = TransferClient(small.url, small.admin_key)
        bomb = io.BytesIO()
        with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("t/documents.jsonl", b" " * 1_000_000)
        assert "unpacks to more" in other.load(bomb.getvalue(), "zip", None)["error_message"]
        many = zipped({f"t{n}/documents.jsonl": b"" for n in range(11)})
        assert "more than 10 entries" in other.load(many, "zip", None)["error_message"]
        other.close()


def test_stored_files_travel(live: LiveBackend, client: TransferClient, tmp_path: Path) -> None:
    contents = [b"", b"hello" * 1_000, bytes(range(256)) * 5_000]
    kinds = [None, "text/plain", "image/png"]
    ids = [store(live, data, kind) for data, kind in zip(contents, kinds, strict=True)]
    without = client.export()
    assert len(without.read("_storage/documents.jsonl").splitlines()) == 3
    assert [name for name in without.namelist() if name.startswith("_storage/")] == [
        "_storage/documents.jsonl"
    ]
    archive = client.export(storage=True)
    assert archive.testzip() is None
    for id, data, extension in zip(ids, contents, ("", ".txt", ".png"), strict=True):
        assert archive.read(f"_storage/{id}{extension}") == data
    rows = [json.loads(line) for line in archive.read("_storage/documents.jsonl").splitlines()]
    assert {row["_id"]: row["sha256"] for row in rows} == {
        id: base64.b64encode(hashlib.sha256(data).digest()).decode()
        for id, data in zip(ids, contents, strict=True)
    }
    archive.fp.seek(0)  # type: ignore[union-attr]
    packed = archive.fp.read()  # type: ignore[union-attr]
    with LiveBackend(tmp_path / "other", limits={"import_files_per_commit": 2}) as second:
        other = TransferClient(second.url, second.admin_key)
        id = other.submit(packed, "zip", None)
        assert (
            "_storage | 3      | 0 of 0 files |"
            in other.wait(id, "waiting_for_confirmation")["message_to_confirm"]
        )
        other.confirm(id)
        state = other.wait(id, "completed")
        assert state["state"] == "completed" and state["num_rows_written"] == 0, state
        for id, data in zip(ids, contents, strict=True):
            assert stored(second, id) == data
        extra = store(second, b"extra", None)
        assert other.load(packed, "zip", None)["error_code"] == "TableExists"
        assert other.load(packed, "zip", None, "append")["state"] == "completed", "the same files again"
        assert other.load(packed, "zip", None, "replace")["state"] == "completed"
        assert stored(second, ids[1]) == contents[1] and stored(second, extra) is None
        spoilt = packed.replace(b"hello", b"hallo", 1)
        assert other.load(spoilt, "zip", None, "replace")["error_code"] in ("InvalidZip", "Sha256Mismatch")
        assert stored(second, ids[1]) == contents[1]
        other.close()


def store(live: LiveBackend, data: bytes, kind: str | None) -> str:
    async def chunks() -> Any:
        yield data

    async def save() -> str:
        return await live.backend.services.files.save(chunks(), kind)

    return live.run(save)


def stored(live: LiveBackend, id: str) -> bytes | None:
    async def read() -> bytes | None:
        files = live.backend.services.files
        record = await files.record_of(id, "test")
        if record is None:
            return None
        opened = await files.open(record)
        try:
            return b"".join([chunk async for chunk in opened.chunks()])
        finally:
            await opened.close()

    return live.run(read)


def test_an_export_is_one_moment(live: LiveBackend, client: TransferClient) -> None:
    """Pairs of rows are written together all the time; no export shows half a pair."""
    client.load(lines(*({"n": n} for n in range(4_000))), "jsonLines", "left")
    client.load(lines({"n": -1}), "jsonLines", "right")
    stop = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written

        def pair(tx: Transaction) -> None:
            tx.insert("left", {"pair": float(written)})
            tx.insert("right", {"pair": float(written)})

        async def once() -> None:
            await live.backend.services.db.run(SYSTEM, pair)

        while not stop.is_set():
            live.run(once)
            written += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            archive = client.export()
            left, right = (
                {
                    row["pair"]
                    for row in map(json.loads, archive.read(f"{t}/documents.jsonl").splitlines())
                    if "pair" in row
                }
                for t in ("left", "right")
            )
            assert left == right
    finally:
        stop.set()
        writer.join()
    assert written > 10 and len(left) > 0


def test_one_table_in_every_format(client: TransferClient) -> None:
    client.load(lines({"a": 1, "b": "x,y"}, {"a": {"$integer": "BQAAAAAAAAA="}, "c": [1]}), "jsonLines", "t")

    def get(**parameters: str) -> Any:
        return client.http.get("/api/export/table", params=parameters)

    rows = get(table="t").text.splitlines()
    assert len(rows) == 2 and json.loads(rows[1])["a"] == {"$integer": "BQAAAAAAAAA="}
    assert [row["b"] for row in json.loads(get(table="t", format="json").text) if "b" in row] == ["x,y"]
    table = get(table="t", format="csv").text.splitlines()
    assert table[0] == "_id,_creationTime,a,b,c"
    assert table[1].endswith(',1,"x,y",') and table[2].endswith(",5,,[1.0]")
    assert (get(table="nope").status_code, get(table="nope").json()["code"]) == (404, "TableNotFound")
    assert get(table="_modules").json()["code"] == "TableNotFound"
    assert get(table="t", format="xml").json()["code"] == "InvalidExport"
    client.load(b"", "jsonLines", "none")
    assert get(table="none").text == "" and json.loads(get(table="none", format="json").text) == []


def test_a_table_that_cannot_be_read_to_its_end_is_not_taken_for_whole(
    live: LiveBackend, client: TransferClient, capfd: pytest.CaptureFixture[str]
) -> None:
    client.load(lines(*({"n": n, "text": "x" * 100} for n in range(20_000))), "jsonLines", "t")
    with closing(sqlite3.connect(live.config.data_dir / DATABASE_FILE)) as file, file:
        file.execute(
            "UPDATE documents SET checksum = checksum + 1 WHERE id = (SELECT max(id) - 500 FROM documents)"
        )
    with pytest.raises(httpx.RemoteProtocolError):
        raw(client, "t")
    told = capfd.readouterr().err
    assert "damaged" in told and "Traceback" not in told, told


def test_exports_come_to_an_end(live: LiveBackend, client: TransferClient) -> None:
    http = client.http
    client.load(lines(*({"n": n} for n in range(20_000))), "jsonLines", "rows")
    first = http.post("/api/export/request/zip?includeStorage=false").json()["exportId"]
    second = http.post("/api/export/request/zip?includeStorage=false")
    assert (second.status_code, second.json()["code"]) == (400, "ExportInProgress")
    assert http.get(f"/api/export/zip/{first}").json()["code"] == "ExportNotReady"
    assert http.post(f"/api/export/cancel/{first}").status_code == 200
    assert client.query("_system/cli/exports:getLatest")["state"] == "canceled"
    kept = [client.export(table="rows") for _ in range(3)]
    assert len(kept[0].read("rows/documents.jsonl").splitlines()) == 20_000
    folder = live.config.data_dir / "transfers" / "exports"
    assert len(list(folder.iterdir())) == 2, "only the newest are kept"
    row = client.query("_system/cli/exports:getLatest")
    answer = http.post(f"/api/export/set_expiration/{row['_id']}", json={"expirationTsNs": 1})
    assert answer.status_code == 200
    client.export()
    assert http.get(f"/api/export/zip/{row['_id']}").json()["code"] == "ExportNotFound"
    assert http.post("/api/export/request/zip?table=nope").json()["code"] == "TableNotFound"
    assert http.post("/api/export/request/zip?component=x").json()["code"] == "ComponentNotFound"
    for path in ("/api/export/request/zip", "/api/export/cancel/x", "/api/export/set_expiration/x"):
        assert http.post(path, headers={"Authorization": "Convex nonsense"}).status_code in (401, 403)
    for path in ("/api/export/zip/1", "/api/export/table?table=rows"):
        assert http.get(path, headers={"Authorization": "Convex nonsense"}).status_code in (401, 403)
