"""SIGKILL during imports and exports: the table is the old one or the new one, never a mix, and nothing stays behind.

The whole server is killed at a random moment of an import that replaces a table (while it reads the file, while it waits
for the answer, while it loads, at the switch), and started again on the same folder. `CVX_KILL_CYCLES` sets the number of
cycles (6 by default); the seed is printed, and `CVX_SEED` repeats it.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.backend_process import BackendProcess
from tests.jobs.transfer_client import TransferClient, lines
from tests.waiting import until

CYCLES = max(int(os.environ.get("CVX_KILL_CYCLES", "6")) // 10, 4)
ROWS = 12_000
LIMITS = ("--limit", "import_run_rows=500")
"""Many runs: what is loaded, and noted, while the file is still being read."""

pytestmark = [pytest.mark.deno, pytest.mark.slow]


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[BackendProcess]:
    process = BackendProcess(tmp_path / "data")
    process.start(*LIMITS)
    yield process
    process.stop()


def versions(client: TransferClient, table: str) -> dict[float, int]:
    found: dict[float, int] = {}
    for row in client.rows(table):
        found[row["v"]] = found.get(row["v"], 0) + 1
    return found


def data(version: int) -> bytes:
    return lines(*({"v": version, "n": n, "text": "x" * 150} for n in range(ROWS)))


def children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(p) for f in Path(f"/proc/{pid}/task").glob("*/children") for p in f.read_text().split()]
    return []


def test_a_replaced_table_is_old_or_new(backend: BackendProcess) -> None:
    seed = int(os.environ.get("CVX_SEED", random.randrange(1 << 30)))
    print(f"CVX_SEED={seed}")
    chance = random.Random(seed)
    client = TransferClient(backend.url, backend.admin_key)
    assert client.load(data(0), "jsonLines", "t")["state"] == "completed"
    current = 0
    outcomes = set()
    for version in range(1, CYCLES + 1):
        # The file is staged before or after the answer: both orders are to be hit.
        id = client.submit(data(version), "jsonLines", "t", "replace", confirmed=version % 2 == 0)
        deadline = time.monotonic() + chance.uniform(0.05, 1.5)
        with contextlib.suppress(httpx.HTTPError):
            while time.monotonic() < deadline:
                state = client.row(id)["state"]["state"]
                if state == "waiting_for_confirmation":
                    client.confirm(id)
                time.sleep(0.01)
        assert backend.process is not None
        family = [backend.process.pid, *children(backend.process.pid)]
        backend.kill()
        backend.start(*LIMITS)
        client = TransferClient(backend.url, backend.admin_key)
        found = versions(client, "t")
        assert found in ({current: ROWS}, {version: ROWS}), f"a mix after a kill in state {state}: {found}"
        outcomes.add(state)
        # It goes on by itself: to its question, or to its end.
        last = client.wait(id, "waiting_for_confirmation", "completed")
        if last["state"] == "waiting_for_confirmation":
            assert versions(client, "t") == {current: ROWS}
            if version % 3:
                client.confirm(id)
                last = client.wait(id, "completed")
            else:
                client.cancel(id)
        if last["state"] == "completed":
            assert last["num_rows_written"] == ROWS
            current = version
        assert versions(client, "t") == {current: ROWS}
        assert not [
            pid for pid in family if Path(f"/proc/{pid}/cmdline").exists() and "bulk" in _command(pid)
        ]
    folder = backend.data / "transfers" / "imports"
    until(lambda: not list(folder.glob("*/*.run")), "bulk files are removed")
    assert client.tables() == ["t"]


def grown(client: TransferClient, before: int) -> bool:
    return client.size("t") > before


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def test_an_append_goes_on_where_it_was(backend: BackendProcess) -> None:
    """Its rows land commit by commit; a kill loses none of them and brings none twice."""
    client = TransferClient(backend.url, backend.admin_key)
    client.load(lines({"v": -1, "n": -1}), "jsonLines", "t")
    id = client.submit(data(7), "jsonLines", "t", "append")
    client.wait(id, "waiting_for_confirmation")
    client.confirm(id)
    for _ in range(3):
        before = client.size("t")
        until(partial(grown, client, before), "rows land")
        backend.kill()
        backend.start(*LIMITS)
        client = TransferClient(backend.url, backend.admin_key)
    assert client.wait(id, "completed")["state"] == "completed"
    rows = client.rows("t")
    assert sorted(row["n"] for row in rows) == [float(n) for n in range(-1, ROWS)]


def test_an_export_begins_again(backend: BackendProcess) -> None:
    client = TransferClient(backend.url, backend.admin_key)
    client.load(data(1), "jsonLines", "t")
    client.http.post("/api/export/request/zip?includeStorage=false")
    time.sleep(0.1)
    backend.kill()
    backend.start(*LIMITS)
    client = TransferClient(backend.url, backend.admin_key)

    def complete() -> bool:
        return bool(client.query("_system/cli/exports:getLatest")["state"] == "completed")

    until(complete, "the export is completed after all")
    ts = client.query("_system/cli/exports:getLatest")["start_ts"]
    assert client.http.get(f"/api/export/zip/{ts}").status_code == 200
    assert not list((backend.data / "transfers" / "exports").glob("*.partial"))
