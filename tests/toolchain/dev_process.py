"""A real `cvx dev` on a real project, seen through its JSON lines."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.backend_process import free_port
from tests.node_env import npm_project

CVX = [sys.executable, "-m", "cvx"]
DEADLINE_S = 120.0
PACKAGES = {"convex": "1.48.0", "typescript": "7.0.2"}

SCHEMA = """\
import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  notes: defineTable({ text: v.string()%s }).index("by_text", ["text"]),
});
"""

TSCONFIG = """\
{
  "compilerOptions": { "target": "ESNext", "lib": ["ES2023", "dom"], "module": "ESNext",
    "moduleResolution": "Bundler", "strict": true, "skipLibCheck": true, "noEmit": true },
  "include": ["./**/*"], "exclude": ["./_generated"]
}
"""

NOTES = """\
import { v } from "convex/values";
import { mutation, query } from "./_generated/server";

export const version = query({ args: {}, handler: async () => "%s" });

export const add = mutation({
  args: { text: v.string() },
  handler: async (ctx, { text }) => await ctx.db.insert("notes", { text }),
});

export const clear = mutation({
  args: {},
  handler: async (ctx) => {
    for (const note of await ctx.db.query("notes").collect()) await ctx.db.delete(note._id);
  },
});

export const count = query({
  args: {},
  handler: async (ctx) => (await ctx.db.query("notes").collect()).length,
});
"""


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if "CONVEX" not in name}
    return kept | {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}


def notes_project(folder: Path) -> Path:
    """A small app with packages of its own folder, so that a test may add to them."""
    (folder / "convex").mkdir(parents=True)
    packages = npm_project("cvx-dev", PACKAGES) / "node_modules"
    (folder / "node_modules").mkdir()
    for package in packages.iterdir():
        (folder / "node_modules" / package.name).symlink_to(package)
    (folder / "package.json").write_text(
        json.dumps({"name": "notes", "type": "module", "dependencies": {"convex": "1.48.0"}})
    )
    (folder / "convex" / "tsconfig.json").write_text(TSCONFIG)
    write_schema(folder)
    write_notes(folder, "one")
    return folder


def write_schema(folder: Path, more: str = "") -> None:
    (folder / "convex" / "schema.ts").write_text(SCHEMA % more)


def write_notes(folder: Path, version: str) -> None:
    (folder / "convex" / "notes.ts").write_text(NOTES % version)


class Dev:
    """`with Dev(project) as dev`: started; at the end interrupted, and everything it started is gone."""

    def __init__(
        self,
        project: Path,
        *arguments: str,
        typecheck: str = "disable",
        env: dict[str, str] | None = None,
        own_port: bool = True,
    ) -> None:
        """`own_port`: a new backend does not look from 3210 on, where another test's takes its place while it is away."""
        if own_port and not list(project.glob(".cvx/local/*/data")):
            arguments = (*arguments, "--port", str(free_port()))
        self.project = project
        self.errors: list[str] = []
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.process = subprocess.Popen(
            [*CVX, "dev", "--json", "--typecheck", typecheck, *arguments],
            cwd=project,
            env=environment() | (env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for pump in (self._read_events, self._read_errors):
            threading.Thread(target=pump, daemon=True).start()

    def __enter__(self) -> Dev:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()

    def event(self, name: str, accept: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        """The next event of this name that is acceptable; others are passed over."""
        deadline = time.monotonic() + DEADLINE_S
        seen: list[dict[str, Any]] = []
        while time.monotonic() < deadline:
            try:
                event = self._events.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                break
            if event is None:
                break
            seen.append(event)
            if event.get("event") == name and accept(event):
                return event
        raise AssertionError(f"no event {name!r}; seen {seen}; stderr:\n{''.join(self.errors)}")

    def ready(self) -> dict[str, Any]:
        return self.event("ready")

    def failed(self, code: str | None = None) -> dict[str, Any]:
        return self.event("failed", lambda event: code is None or event["error"]["code"] == code)

    def stop(self, number: signal.Signals = signal.SIGINT) -> tuple[int, float]:
        """Interrupt it; its exit code and how long it took to end."""
        begin = time.monotonic()
        os.kill(self.process.pid, number)
        code = self.process.wait(60)
        return code, time.monotonic() - begin

    def state(self) -> dict[str, Any]:
        """What is noted about the running backend."""
        noted: dict[str, Any] = json.loads((self.project / ".cvx/local/default/backend.json").read_text())
        return noted

    def call(self, function: str, args: dict[str, Any] | None = None) -> Any:
        """Call a function as a client does. (`run_cvx(…, "run", …)` is what a user beside `cvx dev` does.)"""
        url = f"http://127.0.0.1:{self.state()['cloudPort']}/api/run/{function.replace(':', '/')}"
        answer = httpx.post(url, json={"args": args or {}, "format": "json"}).json()
        assert answer["status"] == "success", answer
        return answer["value"]

    def _read_events(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            envelope = json.loads(line)
            event = envelope["data"] if envelope["ok"] else {"event": "end", "error": envelope["error"]}
            self._events.put(event)
        self._events.put(None)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors.append(line)


def run_cvx(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One command beside a running `cvx dev`."""
    return subprocess.run(
        [*CVX, *arguments],
        cwd=project,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
