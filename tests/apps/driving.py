"""Run an app of this folder for real: a backend, the app pushed to it, its driver script under Node.

An app is a folder with `convex/` and a `drive.mjs`; the driver gets the deployment's URL and admin key, checks through
official clients only, and ends with code 0 if everything was as expected.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.backend_process import BackendProcess, pushed_app
from tests.cli.command_line import cvx
from tests.node_env import node, npm_project

HERE = Path(__file__).parent
PACKAGES = {
    "convex": "1.48.0",
    "convex-helpers": "0.1.124",
    "zod": "4.1.12",
    "typescript": "5.9.3",
    "react": "19.2.0",
    "react-dom": "19.2.0",
    "@types/node": "20.19.25",
    "@types/react": "19.2.2",
    "jsdom": "26.1.0",
    "hono": "4.10.4",
    "stripe": "19.2.0",
    "vite": "8.0.12",
}
"""What the apps here have in their `node_modules`: one folder for nearly all of them, since each is a hundred megabytes."""


@contextlib.contextmanager
def running(
    app: Path, folder: Path, packages: dict[str, str] | None = None, options: Sequence[str] = ()
) -> Iterator[tuple[BackendProcess, Path]]:
    """A backend with this app pushed to it, and the folder with the copy of the app. `options` of `backend serve`."""
    backend = BackendProcess(folder / "data")
    backend.start(*options)
    try:
        yield backend, pushed(backend, app, folder / "app", packages)
    finally:
        backend.stop()


def pushed(backend: BackendProcess, app: Path, target: Path, packages: dict[str, str] | None = None) -> Path:
    chosen = packages or PACKAGES
    target.mkdir(parents=True, exist_ok=True)
    if not (target / "node_modules").exists():
        (target / "node_modules").symlink_to(npm_project("apps", chosen) / "node_modules")
    shutil.copy(HERE / "harness.mjs", target / "harness.mjs")
    return pushed_app(backend, app, target, chosen)


def drive(
    script: Path,
    backend: BackendProcess,
    *arguments: str,
    deadline_s: float = 240,
    environment: dict[str, str] | None = None,
) -> str:
    """Run a driver to its end; what it printed. A failed check fails the test, with all that the driver said."""
    done = subprocess.run(
        [node(), "--no-warnings", str(script), backend.url, backend.admin_key, *arguments],
        cwd=script.parent,
        capture_output=True,
        text=True,
        timeout=deadline_s,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    assert done.returncode == 0, f"{script.name} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def type_check(folder: Path) -> None:
    """`cvx typecheck` finds nothing in an app that has been pushed."""
    checked = cvx("typecheck", cwd=folder)
    assert checked.code == 0, checked.err
