"""Releases of the npm package: each pushes with its own CLI, runs its own server half, and drives with its own clients.

1.28.0 is of October 2025, a year older than 1.48.0; 1.36.1 lies between them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.apps.driving import HERE as APPS
from tests.apps.driving import PACKAGES, drive
from tests.backend_process import BackendProcess
from tests.compat.official_cli import OfficialCli
from tests.node_env import npm_project

RELEASES = ["1.48.0", pytest.param("1.36.1", marks=pytest.mark.long), "1.28.0"]

pytestmark = [pytest.mark.deno, pytest.mark.node, pytest.mark.slow]


def app_of(source: Path, target: Path, release: str) -> Path:
    """A copy of an app whose node_modules hold this release."""
    shutil.copytree(source, target)
    shutil.copy(APPS / "harness.mjs", target)
    packages = {name: PACKAGES[name] for name in ("react", "react-dom", "jsdom", "typescript")}
    installed = npm_project(f"react-convex-{release}", {**packages, "convex": release})
    (target / "node_modules").symlink_to(installed / "node_modules")
    package = json.loads((target / "package.json").read_text())
    package["dependencies"]["convex"] = release
    (target / "package.json").write_text(json.dumps(package))
    return target


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("source", [Path(__file__).parent / "react", APPS / "threads"], ids=["react", "live"])
def test_release(source: Path, release: str, tmp_path: Path) -> None:
    backend = BackendProcess(tmp_path / "data")
    backend.start()
    try:
        app = app_of(source, tmp_path / "app", release)
        pushed = OfficialCli(app, backend)("dev", "--once", "--typecheck", "disable")
        assert "Convex functions ready!" in pushed.stderr
        assert (app / "convex" / "_generated" / "api.d.ts").exists()
        print(drive(app / "drive.mjs", backend))
    finally:
        backend.stop()
