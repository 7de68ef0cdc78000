"""The unmodified official CLI, driven as a user would drive it: in an app's folder, with the self-hosted variables."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from tests.backend_process import BackendProcess
from tests.node_env import node, npm_project

APPS = Path(__file__).parent.parent / "apps"
_colours = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def copied_app(name: str, target: Path, version: str) -> Path:
    """A copy of an app with this release of the npm package, and TypeScript, in its node_modules."""
    shutil.copytree(APPS / name, target)
    installed = npm_project(f"convex-{version}", {"convex": version, "typescript": "5.9.3"})
    (target / "node_modules").symlink_to(installed / "node_modules")
    package = json.loads((target / "package.json").read_text())
    package["dependencies"]["convex"] = version
    (target / "package.json").write_text(json.dumps(package, indent=2))
    return target


class OfficialCli:
    """`npx convex` of one app against one backend."""

    def __init__(self, app: Path, backend: BackendProcess) -> None:
        self.app = app
        self.backend = backend
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(app / ".home"),
            "NO_COLOR": "1",
            "CI": "1",  # The CLI's own switch for not reporting to its makers.
            "CONVEX_SELF_HOSTED_URL": backend.url,
            "CONVEX_SELF_HOSTED_ADMIN_KEY": backend.admin_key,
        }
        (app / ".home").mkdir(exist_ok=True)

    def __call__(
        self, *arguments: str, code: int = 0, stdin: str | None = None, deadline_s: float = 300
    ) -> Ran:
        """Run a command to its end and expect this exit code."""
        done = subprocess.run(
            self._command(arguments),
            cwd=self.app,
            env=self.environment,
            capture_output=True,
            text=True,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            timeout=deadline_s,
            check=False,
        )
        ran = Ran(_colours.sub("", done.stdout), _colours.sub("", done.stderr))
        assert done.returncode == code, f"convex {' '.join(arguments)} ended with {done.returncode}\n{ran}"
        return ran

    def start(self, *arguments: str) -> Running:
        """Start a command that goes on until it is stopped."""
        return Running(
            subprocess.Popen(
                self._command(arguments),
                cwd=self.app,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        return [node(), str(self.app / "node_modules/convex/bin/main.js"), *arguments]


class Ran:
    """What a command printed."""

    def __init__(self, stdout: str, stderr: str) -> None:
        self.stdout = stdout
        self.stderr = stderr

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)

    def __str__(self) -> str:
        return f"--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


class Running:
    """A command under way; its output, both streams, line by line. Also a context manager that stops it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, text: str, *, times: int = 1, deadline_s: float = 180) -> None:
        """Return once `text` was printed this many times."""
        deadline = time.monotonic() + deadline_s
        while self.text.count(text) < times:
            assert time.monotonic() < deadline, f"{text!r} was not printed {times} times:\n{self.text}"
            assert self._process.poll() is None or self.text.count(text) >= times, f"it ended:\n{self.text}"
            time.sleep(0.05)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(60)
        self._reader.join(60)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.text += _colours.sub("", line)
