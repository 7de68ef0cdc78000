"""A real backend as its own process, as `cvx backend serve` starts it: for tests that kill, restart or measure it."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.node_env import npm_project
from tests.processes import children_of

PORTS = range(12_000, 32_000)  # Below those that outgoing connections take.
WORKERS_MAX = 8


def _ports_in_turn() -> Iterator[int]:
    """Each worker of pytest-xdist has a stretch of its own, so that no two are given the same port before either of
    their servers listens."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    stretch = int(worker) % WORKERS_MAX if worker else random.randrange(WORKERS_MAX)
    size = len(PORTS) // WORKERS_MAX
    ports = PORTS[stretch * size : (stretch + 1) * size]
    begin = random.randrange(size)
    return itertools.cycle([*ports[begin:], *ports[:begin]])


_ports = _ports_in_turn()


def free_port() -> int:
    """A port nobody listens on, and not given before: what is free now stays free while a backend starts, is killed
    and starts again."""
    for port in _ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("there is always another")


class BackendProcess:
    """`start`, `kill`, `start` again on the same folder and port; `stop` at the end."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.port, self.site_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[str] | None = None
        self._key: str | None = None

    @property
    def admin_key(self) -> str:
        if self._key is None:
            self.data.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "-m", "cvx", "backend", "key", "--data", str(self.data)]
            self._key = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        return self._key

    def start(self, *extra: str) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "cvx",
                "backend",
                "serve",
                "--port",
                str(self.port),
                "--site-port",
                str(self.site_port),
                "--data",
                str(self.data),
                *extra,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                assert self.process.stderr is not None
                raise AssertionError(
                    f"the backend stopped with {self.process.returncode}: {self.process.stderr.read()}"
                )
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/version", timeout=1).status_code == 200:
                    return
            time.sleep(0.02)
        raise AssertionError("the backend did not answer within 60 s")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(60)
        if self.process.stderr is not None:
            self.process.stderr.close()

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(60)
            raise AssertionError("the backend did not stop within 60 s of SIGTERM") from None
        finally:
            if self.process.stderr is not None:
                self.process.stderr.close()

    def children(self) -> list[int]:
        assert self.process is not None
        return sorted(children_of(self.process.pid))

    def call(self, kind: str, path: str, args: dict[str, Any]) -> Any:
        answer = httpx.post(
            f"{self.url}/api/{kind}", json={"path": path, "args": args, "format": "json"}, timeout=60
        ).json()
        assert answer["status"] == "success", answer
        return answer["value"]


def pushed_app(
    backend: BackendProcess, source: Path, target: Path, packages: dict[str, str] | None = None
) -> Path:
    """Copy an app, link its packages, push it to the backend."""
    shutil.copytree(source, target, dirs_exist_ok=True)
    if not (target / "node_modules").exists():
        installed = npm_project("apps", packages or {"convex": "1.48.0"})
        (target / "node_modules").symlink_to(installed / "node_modules")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "cvx",
            "dev",
            "--once",
            "--typecheck",
            "disable",
            "--url",
            backend.url,
            "--admin-key",
            backend.admin_key,
        ],
        cwd=target,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return target
