"""Small apps as people write them, each driven through `ConvexClient` with live subscriptions."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.apps.driving import HERE, PACKAGES, drive, running
from tests.node_env import node, npm_project

pytestmark = [pytest.mark.deno, pytest.mark.node]


@pytest.mark.parametrize("app", ["todo", "tracker", "threads", "shop", "lobby"])
def test_app(app: str, tmp_path: Path) -> None:
    with running(HERE / app, tmp_path) as (backend, folder):
        print(drive(folder / "drive.mjs", backend))


@pytest.mark.slow
@pytest.mark.parametrize("app", ["tracker", "shop"])
def test_app_type_checks_against_what_we_generate(app: str, tmp_path: Path) -> None:
    """With `strict`, and without a backend: `cvx codegen`, then the project's own TypeScript."""
    folder = tmp_path / app
    shutil.copytree(HERE / app, folder)
    (folder / "node_modules").symlink_to(npm_project("apps", PACKAGES) / "node_modules")
    subprocess.run([sys.executable, "-m", "cvx", "codegen"], cwd=folder, check=True, capture_output=True)
    compiler = folder / "node_modules" / "typescript" / "bin" / "tsc"
    checked = subprocess.run(
        [node(), str(compiler), "--noEmit", "-p", "convex"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
