"""With the npm packages in place nothing needs a network: a day's work in a namespace that has only loopback.

`make test-offline` runs the whole suite of the toolchain and the command line that way.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.toolchain.dev_process import environment, notes_project

ROOT = Path(__file__).resolve().parents[2]
OFFLINE = [sys.executable, str(ROOT / "scripts" / "offline.py")]

DAY = f"""
set -e
cvx() {{ "{sys.executable}" -m cvx "$@"; }}
if "{sys.executable}" -c "import socket; socket.create_connection(('192.0.2.1', 80), 3)" 2>/dev/null; then exit 70; fi
cvx init --template blank --yes
cvx dev --once
cvx run notes:add '{{"text": "offline"}}'
cvx run notes:count
cvx codegen --dry-run
cvx typecheck
cvx env set NAME value
cvx env list
cvx data show notes
cvx functions > /dev/null
cvx deploy --yes
cvx logs --history 5 --no-follow > /dev/null
cvx doctor
cvx backend status
"""


@pytest.mark.deno
@pytest.mark.node
@pytest.mark.skipif(sys.platform != "linux", reason="LOUD: network namespaces are Linux's")
def test_a_day_without_a_network(tmp_path: Path) -> None:
    app = notes_project(tmp_path / "app")
    done = subprocess.run(
        [*OFFLINE, "sh", "-c", DAY],
        cwd=app,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode == 75:
        pytest.skip("LOUD: this machine does not let us make a network namespace")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "offline" in done.stdout and "NAME=value" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="LOUD: network namespaces are Linux's")
def test_there_is_really_no_network() -> None:
    probe = "import socket; socket.create_connection(('192.0.2.1', 80), 3)"
    done = subprocess.run(
        [*OFFLINE, sys.executable, "-c", probe], capture_output=True, text=True, check=False
    )
    if done.returncode == 75:
        pytest.skip("LOUD: this machine does not let us make a network namespace")
    assert done.returncode == 1 and "unreachable" in done.stderr
