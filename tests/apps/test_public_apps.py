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


@pytest.mark.parametrize("app", ["todo", "tracker", "threads", "shop", "lobby", "bank"])
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


def test_npm_packages_in_functions(tmp_path: Path) -> None:
    packages = {
        "convex": "1.48.0",
        "date-fns": "4.1.0",
        "decimal.js": "10.6.0",
        "immer": "10.2.0",
        "immutable": "5.1.4",
        "jose": "6.1.0",
        "lodash": "4.17.21",
        "marked": "16.4.1",
        "mobx": "6.15.0",
        "nanoid": "5.1.6",
        "qs": "6.14.0",
        "reflect-metadata": "0.2.2",
        "rxjs": "7.8.2",
        "superjson": "2.2.5",
        "uuid": "13.0.0",
    }
    with running(HERE / "packages", tmp_path, packages) as (backend, folder):
        print(drive(folder / "drive.mjs", backend))
