"""How much memory a large import and its export take, measured on whole processes.

`benchmarks/transfers.py --rows 25000000` does the same for 5 GB; what that gave is in docs/PERFORMANCE.md.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backend_process import BackendProcess
from tests.processes import children_of
from tests.waiting import until

pytestmark = [pytest.mark.deno, pytest.mark.long]

ROWS = 1_500_000
RISE_MAX_MB = 150
LEFT_MAX_MB = 30
"""What may stay in the backend after it; without giving any back, 45 MB did, of which the page cache is 32."""


def memory_mb(pid: int) -> float:
    """Of a process and those below it; what they share is counted once."""
    total = 0
    for process in (pid, *children_of(pid)):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1024


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[BackendProcess]:
    process = BackendProcess(tmp_path / "data")
    assert process.admin_key
    process.start()
    yield process
    process.stop()


def watched(backend: BackendProcess, *arguments: str, output: Path) -> tuple[float, float]:
    """Run `cvx data …`; the peaks of the backend with its children and of the command, in MB."""
    assert backend.process is not None
    command = [sys.executable, "-m", "cvx", "data", *arguments]
    command += ["--url", backend.url, "--admin-key", backend.admin_key, "-q"]
    ours = theirs = 0.0
    with output.open("wb") as out, subprocess.Popen(command, stdout=out, cwd=output.parent) as process:
        while process.poll() is None:
            theirs = max(theirs, memory_mb(backend.process.pid))
            ours = max(ours, memory_mb(process.pid))
            time.sleep(0.1)
    assert process.returncode == 0
    return theirs, ours


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="counts shared memory as Linux does")
def test_memory_does_not_grow_with_the_file(backend: BackendProcess, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    with rows.open("w") as file:
        for n in range(ROWS):
            file.write(json.dumps({"name": f"user {n}", "n": n, "active": True, "text": "x" * 140}) + "\n")
    assert backend.process is not None
    idle = memory_mb(backend.process.pid)
    _, bare = watched(backend, "list", output=tmp_path / "listed")
    server, client = watched(backend, "import", "--table", "t", str(rows), output=tmp_path / "said")
    assert server - idle <= RISE_MAX_MB, f"the backend rose from {idle:.0f} to {server:.0f} MB"
    assert client - bare <= RISE_MAX_MB
    pid = backend.process.pid
    until(lambda: memory_mb(pid) - idle <= LEFT_MAX_MB, "giving memory back")
    for format in ("jsonl", "zip"):
        output = tmp_path / f"out.{format}"
        server, client = watched(backend, "export", "--table", "t", "--format", format, output=output)
        assert server - idle <= RISE_MAX_MB, f"{format}: the backend rose from {idle:.0f} to {server:.0f} MB"
        assert client - bare <= RISE_MAX_MB
    with (tmp_path / "out.jsonl").open("rb") as lines:
        assert sum(1 for _ in lines) == ROWS
