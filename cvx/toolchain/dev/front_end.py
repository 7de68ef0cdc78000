"""The front end's own dev server beside `cvx dev` (`--start CMD`).

The command runs in a shell with the project's `node_modules/.bin` first on PATH. Where there is no Node, Deno
runs it: `deno task` finds the same programs and runs JavaScript ones itself.

Its output comes through a pipe, line by line: a front end that believes it has the terminal to itself clears
the screen (Vite does), and with it what the functions' errors were.

Source: reference/cli-and-deploy.md §1.7 (`--start`).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from cvx.toolchain.project import Project, deno_binary

STOP_DEADLINE_S = 0.3


class FrontEnd:
    """One command, running with everything it starts in a process group of its own."""

    def __init__(
        self, project: Project, command: str, variables: dict[str, str], show: Callable[[str], object]
    ) -> None:
        """Start it. `show` receives each line it writes, on a thread of its own."""
        self.command = command
        colors = {"FORCE_COLOR": "1"} if sys.stderr.isatty() and "NO_COLOR" not in os.environ else {}
        bin_folder = project.root / "node_modules" / ".bin"
        path = os.pathsep.join([str(bin_folder), os.environ.get("PATH", "")])
        self._process = subprocess.Popen(
            front_end_command(command),
            cwd=project.root,
            env={**colors, **os.environ, **variables, "PATH": path, "DENO_NO_UPDATE_CHECK": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(show,), name="front end", daemon=True)
        self._reader.start()

    def _read(self, show: Callable[[str], object]) -> None:
        assert self._process.stdout is not None, "a pipe"
        with self._process.stdout as lines, suppress(RuntimeError):  # The loop has closed: nobody looks.
            for line in lines:
                show(line.decode(errors="replace").rstrip())

    def poll(self) -> int | None:
        """Its exit code once it has ended."""
        return self._process.poll()

    def drain(self) -> None:
        """Wait until its last words have been shown."""
        self._reader.join(STOP_DEADLINE_S)

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
