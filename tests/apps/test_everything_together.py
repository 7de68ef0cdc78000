"""Every kind of function in one chain, while 200 clients look on, the app is deployed again and the backend is killed.

Cron or client → mutation → scheduled action → its own HTTP action with a stored file → "use node" action → mutation that
searches. At the end nothing hangs, no process is left, and the memory is what it was.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.processes import descendants, still_alive
from tests.apps.driving import HERE, running
from tests.backend_process import BackendProcess
from tests.cli.command_line import cvx
from tests.node_env import node

pytestmark = [pytest.mark.deno, pytest.mark.node]
APP = HERE / "everything_together"


def test_everything_together(tmp_path: Path) -> None:
    with running(APP, tmp_path) as (backend, folder):
        command = [
            node(),
            "--no-warnings",
            "drive.mjs",
            backend.url,
            backend.admin_key,
            f"http://127.0.0.1:{backend.site_port}",
        ]
        before: set[int] = set()
        with subprocess.Popen(
            command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as driver:
            assert driver.stdin is not None and driver.stdout is not None
            said = []
            try:
                for line in driver.stdout:
                    said.append(line)
                    if line == "redeploy\n":
                        redeploy(backend, folder)
                    elif line == "restart\n":
                        assert backend.process is not None
                        before = descendants(backend.process.pid)
                        backend.kill()
                        backend.start()
                    else:
                        continue
                    driver.stdin.write("done\n")
                    driver.stdin.flush()
            finally:
                driver.kill()
        print("".join(said))
        assert driver.returncode == 0, "".join(said)
        assert len(before) > 3
        assert still_alive(before) == set(), "processes of the backend that was killed"
        assert backend.process is not None
        assert memory_mib(backend.process.pid) < 250
        last = descendants(backend.process.pid)
        backend.stop()
        assert still_alive(last) == set(), "processes of the backend that was stopped"


def redeploy(backend: BackendProcess, folder: Path) -> None:
    (folder / "convex" / "release.ts").write_text('export const RELEASE = "second";\n')
    pushed = cvx(
        "dev",
        "--once",
        "--typecheck",
        "disable",
        "--url",
        backend.url,
        "--admin-key",
        backend.admin_key,
        cwd=folder,
    )
    assert pushed.code == 0, pushed.err


def memory_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
