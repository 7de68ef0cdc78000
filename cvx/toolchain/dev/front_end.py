"""The front end's own dev server beside `cvx dev` (`--start CMD`).

The command runs in a shell with the project's `node_modules/.bin` first on PATH. Where there is no Node, Deno
runs it: `deno task` finds the same programs and runs JavaScript ones itself.

Source: reference/cli-and-deploy.md §1.7 (`--start`).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress

from cvx.toolchain.project import Project, deno_binary

STOP_DEADLINE_S = 0.3


class FrontEnd:
    """One command, running with everything it starts in a process group of its own."""

    def __init__(self, project: Project, command: str, variables: dict[str, str]) -> None:
        self.command = command
        bin_folder = project.root / "node_modules" / ".bin"
        path = os.pathsep.join([str(bin_folder), os.environ.get("PATH", "")])
        self._process = subprocess.Popen(
            front_end_command(command),
            cwd=project.root,
            env={**os.environ, **variables, "PATH": path, "DENO_NO_UPDATE_CHECK": "1"},
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),  # It is talk: standard output belongs to data.
            start_new_session=True,
        )

    def poll(self) -> int | None:
        """Its exit code once it has ended."""
        return self._process.poll()

    def stop(self) -> None:
        """End the whole group."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)
            try:
                self._process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                continue
            if number == signal.SIGTERM and not self._group_lives():
                return

    def _group_lives(self) -> bool:
        try:
            os.killpg(self._process.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True


def front_end_command(command: str) -> list[str]:
    """The argument list that runs a shell command with Node, or without it through Deno."""
    if shutil.which("node") is not None:
        return ["/bin/sh", "-c", command]
    return [str(deno_binary()), "task", "--quiet", "--eval", command]
