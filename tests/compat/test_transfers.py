"""Imports and exports by the official CLI on our backend, and of each other's files; three releases of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backend_process import BackendProcess
from tests.compat.official_cli import OfficialCli, copied_app
from tests.jobs.transfer_client import TransferClient, lines

NEWEST = "1.48.0"
RELEASES = ("1.28.0", "1.38.0", NEWEST)

pytestmark = [pytest.mark.node, pytest.mark.deno, pytest.mark.slow]


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendProcess]:
    process = BackendProcess(tmp_path_factory.mktemp("data"))
    process.start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def client(backend: BackendProcess) -> Iterator[TransferClient]:
    client = TransferClient(backend.url, backend.admin_key)
    yield client
    client.close()


def cvx(backend: BackendProcess, cwd: Path, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cvx", "data", *words, "--url", backend.url, "--admin-key", backend.admin_key],
        cwd=cwd, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("release", RELEASES)
def test_import_in_every_format_and_mode_and_export(
    backend: BackendProcess, client: TransferClient, tmp_path: Path, release: str
) -> None:
    cli = OfficialCli(copied_app("guestbook", tmp_path / "app", release), backend)
    table = "t" + release.replace(".", "_")
    files = {
        "rows.jsonl": lines({"n": 1, "i": {"$integer": "BQAAAAAAAAA="}}, {"n": 2}),
        "rows.json": json.dumps([{"n": 3}]).encode(),
        "rows.csv": b"n,s\n4,x\n",
        "bad.jsonl": b'{"n":1}\n{"n":\n',
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    first = cli("import", "--table", table, str(tmp_path / "rows.jsonl"))
    assert "Import change summary:" in first.stderr and f"{table} | 2      | 0 of 0 |" in first.stderr
    assert f'Added 2 documents to table "{table}".' in first.stderr
    taken = cli("import", "--table", table, str(tmp_path / "rows.json"), code=1)
    assert "already exists" in taken.stderr
    assert (
        "Added 1 documents" in cli("import", "--table", table, "--append", str(tmp_path / "rows.json")).stderr
    )
    assert [row["n"] for row in client.rows(table)] == [1.0, 2.0, 3.0]
    cli("import", "--table", table, "--replace", "-y", str(tmp_path / "rows.csv"))
    assert [(row["n"], row["s"]) for row in client.rows(table)] == [(4.0, "x")]
    broken = cli("import", "--table", table, "--replace", "-y", str(tmp_path / "bad.jsonl"), code=1)
    assert "Hit an error while importing:" in broken.stderr and "Line 2" in broken.stderr
    assert client.size(table) == 1
    before = client.rows(table)
    exported = cli("export", "--path", str(tmp_path / "all.zip"), "--include-file-storage")
    assert "Created snapshot export at timestamp" in exported.stderr
    cli("import", "--table", table, "--append", str(tmp_path / "rows.json"))
    restored = cli("import", "--replace-all", "-y", str(tmp_path / "all.zip"))
    assert f"{table} | 1      | 2 of 2 |" in restored.stderr
    assert client.rows(table) == before
    occupied = cli("export", "--path", str(tmp_path / "all.zip"), code=1)
    assert "already exists" in occupied.stderr


def test_each_reads_what_the_other_wrote(
    backend: BackendProcess, client: TransferClient, tmp_path: Path
) -> None:
    """A ZIP that one command line exports is imported by the other, bit by bit."""
    cli = OfficialCli(copied_app("guestbook", tmp_path / "app", NEWEST), backend)
    rows = lines(
        {"i": {"$integer": "//////////8="}, "f": 1, "b": {"$bytes": "AP8="}, "x": {"$float": "AAAAAAAA8H8="}},
        {"deep": [{"a": {"$integer": "AQAAAAAAAAA="}}], "zero": {"$float": "AAAAAAAAAIA="}},
    )
    client.load(rows, "jsonLines", "shared", "replace")
    expected = client.http.get("/api/export/table?table=shared").content
    cvx(backend, tmp_path, "export", "--path", "ours.zip")
    cli("export", "--path", str(tmp_path / "theirs.zip"))
    spoil = lines({"n": 1})
    client.load(spoil, "jsonLines", "shared", "replace")
    cli("import", "--replace", "-y", str(tmp_path / "ours.zip"))
    assert client.http.get("/api/export/table?table=shared").content == expected
    client.load(spoil, "jsonLines", "shared", "replace")
    cvx(backend, tmp_path, "import", "--replace", "--yes", "theirs.zip")
    assert client.http.get("/api/export/table?table=shared").content == expected
