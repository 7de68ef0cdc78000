"""Fill `node_modules` with the project's package manager, saying how far it is.

Deno names each package it looks up and each one it has put in place. How many there will be it does not say, nor do
the other managers, so what is shown is what is known: packages done and seconds passed.

Rule: the manager ends with us: at the deadline, at Ctrl-C, whatever happens.
"""

from __future__ import annotations

import queue
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from cvx.errors import CvxError
from cvx.toolchain.progress import Finished, Reporter, Started, Step
from cvx.toolchain.project.node_tools import PackageManager, package_manager, tool_environment
from cvx.toolchain.project.project import Project

INSTALL_DEADLINE_S = 600.0
_TELL_S = 1.0
_DENO_LOOKED_UP, _DENO_IN_PLACE = "Download ", "Initialize "
_LAST_WORDS_CHARS = 2000


def install_packages(
    project: Project,
    reporter: Reporter,
    *,
    arguments: Sequence[str] = (),
    deadline_s: float = INSTALL_DEADLINE_S,
) -> PackageManager:
    """Fill `node_modules` from `package.json`. Raises `InstallFailed` with the manager's own last words."""
    manager = package_manager(project)
    begin = time.monotonic()
    reporter.report(Started("install", f"Installing npm packages with {manager.name}"))
    output, code = _run(
        (*manager.command, *arguments), project, _Progress(reporter, begin), begin + deadline_s, deadline_s
    )
    seconds = time.monotonic() - begin
    if code != 0:
        reporter.report(Finished("install", "Installing npm packages failed", seconds, ok=False))
        output = output.partition("\nStack backtrace:")[0]  # Deno's own, without names.
        last = "\n".join(line for line in output.splitlines() if line.strip())[-_LAST_WORDS_CHARS:]
        raise CvxError(
            "InstallFailed",
            f"{manager.name} could not install the packages of {project.root / 'package.json'}:\n{last}",
            hint=f"Run it yourself to see more: cd {project.root} && {' '.join(manager.command)}",
            retry_when="files",
        )
    reporter.report(Finished("install", "npm packages are installed", seconds))
    return manager


@dataclass
class _Progress:
    """What Deno's lines say; for the other managers only the time."""

    reporter: Reporter
    began: float
    looked_up: int = 0
    in_place: int = 0

    def take(self, line: str) -> bool:
        """Count a line; false for one that is no progress, which is what is shown when the manager fails."""
        if line.startswith(_DENO_LOOKED_UP):
            self.looked_up += not line.rstrip().endswith(".tgz")
        elif line.startswith(_DENO_IN_PLACE):
            self.in_place += 1
        else:
            return False
        self.tell()
        return True

    def tell(self) -> None:
        seconds = f"{time.monotonic() - self.began:.0f} s"
        if self.in_place:
            self.reporter.report(
                Step("install", self.in_place, None, f"{_packages(self.in_place)} in place ({seconds})")
            )
        elif self.looked_up:
            self.reporter.report(
                Step("install", self.looked_up, None, f"{_packages(self.looked_up)} looked up ({seconds})")
            )
        else:
            self.reporter.report(Step("install", detail=f"({seconds})"))


def _run(
    command: Sequence[str], project: Project, progress: _Progress, end: float, deadline_s: float
) -> tuple[str, int]:
    """What it said apart from its progress, and its exit status."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    said: list[str] = []
    process = subprocess.Popen(
        command,
        cwd=project.root,
        env=tool_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    threading.Thread(target=_read, args=(process, lines), daemon=True).start()
    try:
        while True:
            left = end - time.monotonic()
            if left <= 0:
                return f"no end after {deadline_s:.0f} s", 1
            try:
                line = lines.get(timeout=min(_TELL_S, left))
            except queue.Empty:
                progress.tell()
                continue
            if line is None:
                return "".join(said), process.wait(max(left, 1.0))
            if not progress.take(line):
                said.append(line)
    except subprocess.TimeoutExpired:
        return f"no end after {deadline_s:.0f} s", 1
    finally:
        process.kill()
        process.wait()


def _read(process: subprocess.Popen[str], lines: queue.SimpleQueue[str | None]) -> None:
    assert process.stdout is not None
    with process.stdout as stream:
        for line in stream:
            lines.put(line)
    lines.put(None)


def _packages(count: int) -> str:
    return "package" if count == 1 else "packages"
