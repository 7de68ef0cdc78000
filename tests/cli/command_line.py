"""Runs `cvx` as a shell would, without a terminal and without the machine's own Convex variables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CVX = [sys.executable, "-m", "cvx"]


@dataclass(frozen=True)
class Outcome:
    """What a command line came to."""

    code: int
    out: str
    err: str

    def envelope(self) -> dict[str, Any]:
        """The one JSON object on standard output; fails when there is anything else."""
        lines = self.out.splitlines()
        assert len(lines) == 1, f"expected one line of JSON, got {self.out!r} (stderr: {self.err!r})"
        envelope: dict[str, Any] = json.loads(lines[0])
        assert envelope["v"] == 1
        assert set(envelope) == {"v", "ok", "data"} if envelope["ok"] else {"v", "ok", "error"}
        return envelope


def environment(**more: str) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if "CONVEX" not in name and name != "FORCE_COLOR"
    }
    return kept | {"PYTHONUNBUFFERED": "1"} | more


def cvx(
    *arguments: str,
    cwd: Path,
    stdin: str | None = None,
    deadline_s: float = 240,
    env: dict[str, str] | None = None,
) -> Outcome:
    """Run one command. Without `stdin` its standard input is closed."""
    done = subprocess.run(
        [*CVX, *arguments],
        cwd=cwd,
        env=environment(**(env or {})),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=deadline_s,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def empty_project(folder: Path) -> Path:
    """A folder that counts as a project and has nothing in it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"name": "app", "dependencies": {"convex": "^1.48.0"}}\n')
    return folder
