"""Imports: what files become, what each mode does, and that whatever is wrong leaves everything as it was."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cvx.backend.auth import SYSTEM
from cvx.backend.database import Transaction, definitions
from cvx.protocol.schema import DatabaseIndex
from cvx.values import DocumentId
from tests.jobs.transfer_client import TransferClient, lines, zipped
from tests.live_backend import LiveBackend

pytestmark = [pytest.mark.deno]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBackend]:
    limits = {"import_run_rows": 300, "import_step_rows": 50, "import_block_bytes": 2_000}
    with LiveBackend(tmp_path_factory.mktemp("data"), limits=limits) as backend:
        yield backend


@pytest.fixture(scope="module")
def client(live: LiveBackend) -> Iterator[TransferClient]:
    client = TransferClient(live.url, live.admin_key)
    yield client
    client.close()


@pytest.fixture(autouse=True)
def nothing_is_left(live: LiveBackend, client: TransferClient) -> Iterator[None]:
    """No hidden table and no file of an import survives it."""
    yield
    deadline = time.monotonic() + 60
    db = live.backend.services.db
    imports = live.config.data_dir / "transfers" / "imports"
    while db.catalog.hidden() or any(imports.glob("*/*.run")):
        assert time.monotonic() < deadline, "hidden tables or bulk files stay behind"
        time.sleep(0.02)


def fields(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if not k.startswith("_")} for row in rows]


def transact(live: LiveBackend, body: Any) -> Any:
    async def run() -> Any:
        return (await live.backend.services.db.run(SYSTEM, body))[0]

    return live.run(run)


# ---------------------------------------------------------------------------------------------------- formats


def test_json_lines_keep_types_ids_and_times(client: TransferClient) -> None:
    number = 10_777
    ids = [str(DocumentId(number, bytes([n]) * 16)) for n in range(3)]
    data = (
        lines(
            {"_id": ids[0], "_creationTime": 1700000000000.5, "n": 1, "i": {"$integer": "BQAAAAAAAAA="}},
            {
                "_id": ids[1],
                "_creationTime": 1700000000001,
                "b": {"$bytes": "AAE="},
                "f": {"$float": "AAAAAAAA+H8="},
            },
            {"_id": ids[2], "nested": {"a": [1, {"b": None}]}, "text": "ü\u2028"},
        ).replace(b"\n", b"\r\n")
        + b"\n  \n"
    )
    assert client.load(data, "jsonLines", "typed")["num_rows_written"] == 3
    rows = {row["_id"]: row for row in client.rows("typed")}
    assert list(rows) == ids
    assert rows[ids[0]]["n"] == 1.0 and type(rows[ids[0]]["n"]) is float and rows[ids[0]]["i"] == 5
    assert rows[ids[0]]["_creationTime"] == 1700000000000.5
    assert rows[ids[1]]["b"] == b"\x00\x01" and rows[ids[1]]["f"] != rows[ids[1]]["f"]
    assert rows[ids[2]]["nested"] == {"a": [1.0, {"b": None}]} and rows[ids[2]]["text"] == "ü\u2028"
    assert abs(rows[ids[2]]["_creationTime"] - time.time() * 1000) < 60_000


def test_csv(client: TransferClient) -> None:
    data = b'name, amount ,note\n"a ""b""\nc",1e3,\nx,-.5,1_000\ny,nan,007\n'
    assert client.load(data, "csv", "sheet")["num_rows_written"] == 3
    rows = fields(client.rows("sheet"))
    assert rows[:2] == [
        {"name": 'a "b"\nc', "amount": 1000.0, "note": ""},
        {"name": "x", "amount": -0.5, "note": "1_000"},
    ]
    assert rows[2]["amount"] != rows[2]["amount"] and rows[2]["note"] == 7.0


def test_a_json_array_of_any_length(client: TransferClient) -> None:
    data = json.dumps([{"n": n, "deep": {"x": [n]}} for n in range(1_500)]).encode()
    assert client.load(data, "jsonArray", "array", part=7_000)["num_rows_written"] == 1_500
    assert fields(client.rows("array"))[7] == {"n": 7.0, "deep": {"x": [7.0]}}
    assert client.load(b" [ ] ", "jsonArray", "empty_array")["num_rows_written"] == 0
    assert client.size("empty_array") == 0


def test_many_rows_in_small_parts_and_in_order(client: TransferClient) -> None:
    """Lines cut by parts, blocks and runs; creation times rise with the lines."""
    data = lines(*({"n": n, "text": "x" * (n % 50)} for n in range(2_000)))
    assert client.load(data, "jsonLines", "many", part=1_003)["num_rows_written"] == 2_000
    rows = client.rows("many")
    assert [row["n"] for row in rows] == list(range(2_000)), "ids rise with the lines too"
    times = [row["_creationTime"] for row in rows]
    assert times == sorted(set(times))


# ------------------------------------------------------------------------------------------------------ modes


def test_an_empty_table_is_needed_unless_one_says_otherwise(client: TransferClient) -> None:
    assert client.load(lines({"n": 1}), "jsonLines", "modes")["state"] == "completed"
    refused = client.load(lines({"n": 2}), "jsonLines", "modes")
    assert (refused["state"], refused["error_code"]) == ("failed", "TableExists")
    assert client.load(lines({"n": 3}), "jsonLines", "modes", "append")["num_rows_written"] == 1
    assert [row["n"] for row in client.rows("modes")] == [1.0, 3.0]
    first = client.rows("modes")[0]["_id"]
    assert client.load(lines({"n": 4}), "jsonLines", "modes", "replace")["num_rows_written"] == 1
    (row,) = client.rows("modes")
    assert row["n"] == 4.0
    assert DocumentId.parse(row["_id"]).table == DocumentId.parse(first).table, "the table keeps its number"


def test_the_preview_counts_exactly(client: TransferClient) -> None:
    client.load(lines(*({"n": n} for n in range(1_234))), "jsonLines", "counted")
    id = client.submit(lines({"n": 1}, {"n": 2}), "jsonLines", "counted", "replace")
    state = client.wait(id, "waiting_for_confirmation")
    assert "counted | 2      | 1,234 of 1,234 |" in state["message_to_confirm"]
    assert state["require_manual_confirmation"] is True
    assert client.row(id)["preview"] == [
        {"component": "", "table": "counted", "create": 2.0, "delete": 1234.0, "existing": 1234.0}
    ]
    assert client.size("counted") == 1_234
    assert client.cancel(id).status_code == 200
    assert client.row(id)["state"] == {
        "state": "failed", "error_message": "Import canceled", "error_code": "ImportCanceled",
    }  # fmt: skip
    assert client.size("counted") == 1_234
    assert client.confirm(id).json()["code"] == "ImportNotReady"


def test_a_dry_run_cannot_be_performed(client: TransferClient) -> None:
    id = client.submit(lines({"n": 1}), "jsonLines", "dry", dryRun=True)
    assert client.wait(id, "waiting_for_confirmation")["state"] == "waiting_for_confirmation"
    assert client.confirm(id).json()["code"] == "ImportNotReady"
    client.cancel(id)
    assert "dry" not in client.tables()


def test_a_table_changes_all_at_once(live: LiveBackend, client: TransferClient) -> None:
    """Whoever looks sees the old rows or the new ones; a subscription hears of it once."""
    client.load(lines(*({"v": "old"} for _ in range(50))), "jsonLines", "swapped")
    db = live.backend.services.db
    heard: list[int] = []

    async def watch() -> None:
        with db.snapshot() as snapshot:
            tx = db.begin(SYSTEM, snapshot=snapshot, read_only=True)
            tx.all("swapped")
            db.subscribe(tx.reads, snapshot.ts, heard.append)

    live.run(watch)
    id = client.submit(lines(*({"v": "new"} for _ in range(3_000))), "jsonLines", "swapped", "replace")
    client.wait(id, "waiting_for_confirmation")
    assert heard == []
    client.confirm(id)
    seen = set()
    while client.row(id)["state"]["state"] == "in_progress":
        seen.add(client.size("swapped"))
    seen.add(client.size("swapped"))
    assert seen <= {50, 3_000} and 3_000 in seen
    assert len(heard) == 1


def test_replace_all_ends_other_tables(live: LiveBackend, client: TransferClient, tmp_path: Any) -> None:
    with LiveBackend(tmp_path / "own") as own:
        mine = TransferClient(own.url, own.admin_key)
        for table in ("keep", "drop", "known"):
            mine.load(lines({"n": 1}), "jsonLines", table)
        activate_schema(own, {"tables": [table_schema("known", "any")], "schemaValidation": True})
        number = DocumentId.parse(mine.rows("known")[0]["_id"]).table
        done = mine.load(zipped({"keep/documents.jsonl": b""}), "zip", None, "replaceAll")
        assert done["state"] == "completed", done
        assert mine.tables() == ["keep", "known"], "what the schema names is emptied, the rest is gone"
        assert mine.size("keep") == 0 and mine.size("known") == 0
        mine.load(lines({"n": 2}), "jsonLines", "known")
        assert DocumentId.parse(mine.rows("known")[0]["_id"]).table == number
        mine.close()


def test_the_same_file_again_changes_nothing(live: LiveBackend, client: TransferClient) -> None:
    def load(data: bytes) -> dict[str, Any]:
        return client.load(data, "jsonLines", "same", "replace", skipUnchanged=True)

    data = lines(*({"n": n} for n in range(600)))
    assert "unchanged" not in load(data)
    ids = [row["_id"] for row in client.rows("same")]
    again = load(data)
    assert again["unchanged"] is True and again["num_rows_written"] == 600
    assert [row["_id"] for row in client.rows("same")] == ids
    assert "unchanged" not in client.load(data, "jsonLines", "same", "replace"), "only for who asks"
    assert load(data).get("unchanged") is None, "the newest import of it took no digest"
    assert load(data)["unchanged"] is True
    transact(live, lambda tx: tx.patch(tx.all("same")[5]["_id"], {"n": -5.0}))
    assert load(data).get("unchanged") is None, "a document was changed"
    transact(live, lambda tx: tx.delete(tx.all("same")[5]["_id"]))
    assert load(data).get("unchanged") is None and client.size("same") == 600
    assert load(data + b'{"n":600}\n').get("unchanged") is None and client.size("same") == 601
    assert load(data).get("unchanged") is None and client.size("same") == 600


def test_append_goes_on_in_pieces(live: LiveBackend, client: TransferClient) -> None:
    client.load(lines({"n": -1}), "jsonLines", "grown")
    data = lines(*({"n": n} for n in range(9_000)))
    state = client.load(data, "jsonLines", "grown", "append")
    assert state["num_rows_written"] == 9_000 and client.size("grown") == 9_001
    ids = [row["_id"] for row in client.rows("grown")][:3]
    again = client.load(lines({"_id": ids[0], "n": 5}), "jsonLines", "grown", "append")
    assert (again["error_code"], client.size("grown")) == ("DuplicateId", 9_001)


# --------------------------------------------------------------------------------------------- what is refused


def _ids(number: int, *ns: int) -> list[str]:
    return [str(DocumentId(number, n.to_bytes(16, "big"))) for n in ns]


BAD: list[tuple[str, bytes, str, str, int | None]] = [
    ("jsonLines", b'{"a":1}\n\n{"a":\n', "JsonInvalidRow", "Line 3", 3),
    ("jsonLines", b'{"a":1}\n[1]\n', "NotAnObject", "Row 2", 2),
    ("jsonLines", b"\xef\xbb\xbf{}\n", "Utf8BomNotSupported", "byte order mark", 1),
    ("jsonLines", b'{"a":"\xff"}\n', "NotUtf8", "Line 1", 1),
    ("jsonLines", b'{"a":1}\n{"$x":1,"b":2}\n', "InvalidConvexValue", "'$x'", 2),
    ("jsonLines", b'{"a":{"$integer":"x"}}\n', "InvalidConvexValue", "base64", 1),
    ("jsonLines", b'{"_secret":1}\n', "InvalidConvexValue", "_secret", 1),
    ("jsonLines", b'{"a":' + b"[" * 17 + b"]" * 17 + b"}\n", "InvalidConvexValue", "nested", 1),
    ("jsonLines", b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "JsonInvalidRow", "deep", 1),
    ("jsonLines", b'{"a":"' + b"x" * (1 << 20) + b'"}', "InvalidConvexValue", "too large", 1),
    ("jsonLines", b'{"_creationTime":"x"}\n', "InvalidConvexValue", "_creationTime", 1),
    ("jsonLines", b'{"_id":"nonsense"}\n', "InvalidId", "nonsense", 1),
    ("jsonLines", lines({"_id": _ids(10_900, 1)[0]}, {"_id": _ids(10_901, 1)[0]}), "InvalidId", "10901", 2),
    ("jsonLines", lines(*({"_id": i} for i in _ids(10_902, 1, 2, 1))), "DuplicateId", "Row 3", 3),
    ("jsonLines", lines(*({"_id": i} for i in _ids(10_902, *range(500), 7))), "DuplicateId", "Row 501", 501),
    ("jsonLines", lines({"_id": _ids(540, 1)[0]}), "TableNumberConflict", "540", None),
    ("jsonArray", b'{"a":1}', "NotJsonArray", "array", None),
    ("jsonArray", b'[{"a":1},{"a":}]', "NotJson", "row 2", 2),
    ("jsonArray", b'[{"a":1},3]', "NotAnObject", "Row 2", 2),
    ("jsonArray", b'[{"a":1}', "NotJson", "row 2", 2),
    ("csv", b"", "CsvMissingHeaders", "header", 1),
    ("csv", b"a,$b\n1,2\n", "CsvInvalidHeader", "$b", 1),
    ("csv", b"a,a\n1,2\n", "CsvInvalidHeader", "twice", 1),
    ("csv", b"a,b\n1,2\n3\n", "CsvRowMissingFields", "Line 3", 3),
    ("csv", b"a,b\n1,2,3\n", "CsvInvalidRow", "Line 2", 2),
    ("csv", b"a\n\xff\n", "NotUtf8", "UTF-8", None),
    ("zip", b"PK\x03\x04 not a zip at all", "InvalidZip", "not a ZIP", None),
    ("zip", zipped({"t/documents.jsonl": b'{"a":\n'}), "JsonInvalidRow", "Line 1", 1),
]  # fmt: skip


@pytest.mark.parametrize(
    ("format", "data", "code", "says", "line"), BAD, ids=[f"{b[0]}-{b[2]}-{n}" for n, b in enumerate(BAD)]
)
def test_what_cannot_be_imported_says_where_and_why(
    client: TransferClient, format: str, data: bytes, code: str, says: str, line: int | None
) -> None:
    before = client.tables()
    state = client.load(data, format, None if format == "zip" else "refused")
    assert state["state"] == "failed", state
    assert state["error_code"] == code, state
    assert (
        state["error_message"].startswith("Hit an error while importing:\n")
        and says in state["error_message"]
    )
    if line is not None:
        assert state["error_line"] == line
    if format == "zip" and code == "JsonInvalidRow":
        assert state["error_file"] == "t/documents.jsonl"
    assert client.tables() == before


def test_requests_that_make_no_sense(live: LiveBackend, client: TransferClient) -> None:
    http = client.http

    def code(path: str, **body: Any) -> str:
        answer = http.post(path, **body)
        assert 400 <= answer.status_code < 500, answer.text
        return str(answer.json()["code"])

    token = http.post("/api/import/start_upload").json()["uploadToken"]
    part = f"/api/import/upload_part?uploadToken={token}&partNumber="
    assert code(part + "0", content=b"x") == "InvalidPartNumber"
    assert code(part + "10001", content=b"x") == "InvalidPartNumber"
    assert code(part + "x", content=b"x") == "InvalidPartNumber"
    for other in ("../../etc", "0" * 32, "..", ""):
        assert (
            code(f"/api/import/upload_part?uploadToken={other}&partNumber=1", content=b"x")
            == "UploadNotFound"
        )
    assert code("/api/import/upload_part?partNumber=1", content=b"x") == "MissingParameter"
    good = http.post(part + "1", content=b'{"a":1}').json()

    def finish(**import_: Any) -> str:
        order = {"format": "jsonLines", "mode": "requireEmpty", "tableName": "x"} | import_
        return code(
            "/api/import/finish_upload", json={"import": order, "uploadToken": token, "partTokens": [good]}
        )

    assert finish(tableName="_x") == "InvalidName"
    assert finish(tableName=None) == "InvalidImport"
    assert finish(format="zip") == "InvalidImport"
    assert finish(format="xml") == "BadJsonBody"
    wrong = {"import": {"format": "csv", "mode": "append", "tableName": "x"}, "uploadToken": token}
    assert code("/api/import/finish_upload", json={**wrong, "partTokens": ["../x-1"]}) == "InvalidPartToken"
    assert (
        code("/api/import/finish_upload", json={**wrong, "partTokens": [f"{token}-2"]}) == "InvalidPartToken"
    )
    assert code("/api/perform_import", json={"importId": "nothing"}) == "ImportNotFound"
    assert code("/api/cancel_import", json={"importId": "nothing"}) == "ImportNotFound"
    assert client.query("_system/cli/queryImport", importId="nothing") is None
    missing = client.submit(lines({"a": 1}), "jsonLines", "x", componentPath="no/such")
    assert client.wait(missing, "waiting_for_confirmation")["error_code"] == "ComponentNotFound"
    for path in ("/api/import/start_upload", "/api/perform_import", "/api/cancel_import", "/api/import"):
        assert http.post(path, headers={"Authorization": "Convex nonsense"}).status_code in (401, 403)


def test_one_request_does_it_all(client: TransferClient) -> None:
    answer = client.http.post(
        "/api/import",
        params={"tableName": "oneshot", "format": "csv", "mode": "replace"},
        content=b"a\n1\n2\n",
    )
    assert answer.json() == {"numWritten": 2}
    failed = client.http.post(
        "/api/import",
        params={"tableName": "oneshot", "format": "csv", "mode": "replace"},
        content=b"a\n1,2\n",
    )
    assert failed.status_code == 400 and failed.json()["code"] == "CsvInvalidRow"
    assert client.size("oneshot") == 2
    assert client.http.post("/api/import", params={"format": "csv"}).json()["code"] == "MissingParameter"


# ------------------------------------------------------------------------------------------- schemas and indexes


def table_schema(table: str, kind: str, **fields: dict[str, Any]) -> dict[str, Any]:
    validator: dict[str, Any] = {"type": "any"} if kind == "any" else {"type": "object", "value": fields}
    return {
        "tableName": table, "indexes": [], "searchIndexes": [], "vectorIndexes": [], "documentType": validator,
    }  # fmt: skip


def required(validator: dict[str, Any], optional: bool = False) -> dict[str, Any]:
    return {"fieldType": validator, "optional": optional}


def activate_schema(live: LiveBackend, schema: dict[str, Any]) -> None:
    def change(tx: Transaction) -> None:
        id = definitions.submit_schema(tx, json.dumps(schema))
        definitions.mark_validated(tx, id)
        definitions.activate_schema(tx, id)

    transact(live, change)


def test_the_schema_holds_and_indexes_are_complete(tmp_path: Any) -> None:
    with LiveBackend(tmp_path / "data", limits={"import_run_rows": 100}) as live:
        client = TransferClient(live.url, live.admin_key)

        def index(tx: Transaction) -> None:
            id = definitions.create_index(tx, "people", DatabaseIndex("by_name", ("name",)))
            definitions.enable_index(tx, id)

        transact(live, index)
        people = table_schema(
            "people", "object",
            name=required({"type": "string"}), boss=required({"type": "id", "tableName": "people"}, True),
        )  # fmt: skip
        activate_schema(live, {"tables": [people], "schemaValidation": True})
        bad = client.load(lines({"name": "a"}, {"name": 5}), "jsonLines", "people")
        assert (bad["error_code"], bad["error_line"]) == ("SchemaEnforcementError", 2)
        assert "name" in bad["error_message"]
        state = client.load(lines(*({"name": f"p{n:04}"} for n in range(950, -1, -1))), "jsonLines", "people")
        assert state["num_rows_written"] == 951
        db = live.backend.services.db

        def by_name(tx: Transaction) -> list[str]:
            return [row["name"] for row in tx.all("people", "by_name")]

        assert transact(live, by_name) == [f"p{n:04}" for n in range(951)]
        boss = client.rows("people")[0]["_id"]
        assert (
            client.load(lines({"name": "z", "boss": boss}), "jsonLines", "people", "append")["state"]
            == "completed"
        )
        wrong = client.load(lines({"name": "z", "boss": "x"}), "jsonLines", "people", "append")
        assert wrong["error_code"] == "SchemaEnforcementError"
        assert client.load(b"name,boss\nq,\n", "csv", "people", "append")["state"] == "completed"
        with db.snapshot() as snapshot:
            table = snapshot.catalog.table("", "people")
            assert table is not None and [(i.name, i.state) for i in table.indexes] == [
                ("by_name", "enabled")
            ]
        client.close()


def test_a_schema_that_changes_meanwhile_ends_the_import(tmp_path: Any) -> None:
    with LiveBackend(tmp_path / "data") as live:
        client = TransferClient(live.url, live.admin_key)
        id = client.submit(lines({"n": 1}), "jsonLines", "things")
        client.wait(id, "waiting_for_confirmation")
        activate_schema(
            live,
            {
                "tables": [table_schema("things", "object", s=required({"type": "string"}))],
                "schemaValidation": True,
            },
        )
        client.confirm(id)
        assert client.wait(id, "completed")["error_code"] == "ImportSchemaChanged"
        assert client.tables() == []
        client.close()


def test_a_push_under_way_is_told_about_the_replaced_table(live: LiveBackend, client: TransferClient) -> None:
    client.load(lines({"n": 1}), "jsonLines", "pushed")
    id = client.submit(lines({"n": 2}), "jsonLines", "pushed", "replace")
    client.wait(id, "waiting_for_confirmation")

    def submit(tx: Transaction) -> DocumentId:
        schema = {"tables": [table_schema("pushed", "any")], "schemaValidation": True}
        found = definitions.submit_schema(tx, json.dumps(schema))
        definitions.mark_validated(tx, found)
        return found

    schema = transact(live, submit)
    client.confirm(id)
    assert client.wait(id, "completed")["state"] == "completed"
    info = live.backend.services.db.catalog.schema(schema)
    assert info is not None and info.state == "failed" and "push again" in str(info.error)


def test_ids_that_others_hold_must_not_dangle(tmp_path: Any) -> None:
    with LiveBackend(tmp_path / "data") as live:
        client = TransferClient(live.url, live.admin_key)
        client.load(lines({"n": 1}), "jsonLines", "owners")
        owner = client.rows("owners")[0]["_id"]
        activate_schema(
            live,
            {
                "tables": [
                    table_schema("pets", "object", owner=required({"type": "id", "tableName": "owners"})),
                    table_schema("owners", "any"),
                ],
                "schemaValidation": True,
            },
        )
        assert client.load(lines({"owner": owner}), "jsonLines", "pets")["state"] == "completed"
        stranger = lines({"_id": _ids(12_345, 1)[0]})
        refused = client.load(stranger, "jsonLines", "owners", "replace")
        assert refused["error_code"] == "ImportForeignKey"
        assert client.rows("owners")[0]["_id"] == owner
        both = zipped(
            {"owners/documents.jsonl": stranger, "pets/documents.jsonl": lines({"owner": _ids(12_345, 1)[0]})}
        )
        done = client.load(both, "zip", None, "replace")
        assert done["state"] == "completed", done
        client.close()


def test_a_number_of_another_table_is_refused(client: TransferClient) -> None:
    client.load(lines({"n": 1}), "jsonLines", "taken")
    number = DocumentId.parse(client.rows("taken")[0]["_id"]).table
    state = client.load(lines({"_id": _ids(number, 1)[0]}), "jsonLines", "taker")
    assert state["error_code"] == "TableNumberConflict" and "taken" in state["error_message"]


def test_rows_can_be_changed_after_an_import(live: LiveBackend, client: TransferClient) -> None:
    client.load(lines(*({"n": n} for n in range(700))), "jsonLines", "alive")

    def change(tx: Transaction) -> int:
        rows = tx.all("alive")
        tx.patch(rows[0]["_id"], {"n": -1.0})
        tx.delete(rows[1]["_id"])
        tx.insert("alive", {"n": 700.0})
        return tx.count("alive")

    assert transact(live, change) == 700
    assert client.size("alive") == 700 and sorted(row["n"] for row in client.rows("alive"))[:2] == [-1.0, 2.0]


def test_a_disk_that_fills_up_ends_the_import_and_gets_its_space_back(tmp_path: Path) -> None:
    with LiveBackend(tmp_path / "data", limits={"import_run_rows": 300}) as first:
        client = TransferClient(first.url, first.admin_key)
        client.load(lines(*({"n": n} for n in range(1_000))), "jsonLines", "t")
        client.close()
    with LiveBackend(tmp_path / "data", limits={"import_disk_reserve_bytes": 1 << 60}) as full:
        client = TransferClient(full.url, full.admin_key)
        token = client.http.post("/api/import/start_upload").json()["uploadToken"]
        where = {"uploadToken": token, "partNumber": 1}
        answer = client.http.post("/api/import/upload_part", params=where, content=b'{"n":1}\n')
        assert answer.status_code >= 400 and answer.json()["code"] == "DiskFull", answer.text
        assert not list((tmp_path / "data" / "transfers" / "imports").iterdir()), "its parts fill the disk"
        assert client.size("t") == 1_000
        client.close()


def test_an_import_that_would_fill_the_disk_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LiveBackend(tmp_path / "data", limits={"import_run_rows": 300}) as live:
        client = TransferClient(live.url, live.admin_key)
        client.load(lines({"n": -1}), "jsonLines", "t")
        id = client.submit(lines(*({"n": n} for n in range(3_000))), "jsonLines", "t", "replace")
        client.wait(id, "waiting_for_confirmation")
        usage = shutil.disk_usage(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
            client.confirm(id)
            state = client.wait(id, "completed")
        assert (state["state"], state["error_code"]) == ("failed", "DiskFull"), state
        assert "1 MiB are free" in state["error_message"]
        assert [row["n"] for row in client.rows("t")] == [-1.0]
        again = client.load(lines({"n": 2}), "jsonLines", "t", "replace")
        assert again["num_rows_written"] == 1
        client.close()
