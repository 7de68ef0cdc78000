"""Components: packages of the registry as npm has them, and one of our own, each pushed and driven through an official client."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.apps.driving import HERE, drive, pushed, running
from tests.apps.test_auth import set_variables
from tests.backend_process import BackendProcess
from tests.cli.command_line import cvx
from tests.node_env import node, npm_project

pytestmark = [pytest.mark.deno, pytest.mark.node]

APPS = HERE / "components"
PACKAGES = {
    "convex": "1.48.0",
    "convex-helpers": "0.1.124",
    "@convex-dev/action-cache": "0.3.1",
    "@convex-dev/aggregate": "0.3.1",
    "@convex-dev/better-auth": "0.12.5",
    "@convex-dev/crons": "0.2.2",
    "@convex-dev/migrations": "0.3.6",
    "@convex-dev/presence": "0.4.0",
    "@convex-dev/rate-limiter": "0.4.0",
    "@convex-dev/sharded-counter": "0.2.1",
    "@convex-dev/workflow": "0.4.8",
    "@convex-dev/workpool": "0.4.12",
    "better-auth": "1.6.34",
    "react": "19.2.0",
    "react-dom": "19.2.0",
    "typescript": "5.9.3",
    "@types/node": "20.19.25",
    "@types/react": "19.2.2",
}


def _site(backend: BackendProcess) -> str:
    return f"http://127.0.0.1:{backend.site_port}"


def test_a_component_of_our_own_with_another_one_in_it(tmp_path: Path) -> None:
    with running(APPS / "library", tmp_path, PACKAGES) as (backend, folder):
        print(drive(folder / "drive.mjs", backend, _site(backend)))
        data = cvx("data", "--component", "annex", *_to(backend), cwd=folder)
        assert data.code == 0 and data.out.split() == ["beats", "books"]
        rows = cvx(
            "data", "books", "--component", "annex", "--format", "jsonLines", *_to(backend), cwd=folder
        )
        assert rows.code == 0 and '"Ulysses"' in rows.out and "Emma" not in rows.out
        ran = cvx("run", "log:lines", "--component", "library/audit", *_to(backend), cwd=folder)
        assert ran.code == 0 and "added Emma" in ran.out
        asked = cvx(
            "run", "--inline-query", "ctx.db.query('books').first()", "--component", "annex", *_to(backend),
            cwd=folder,
        )  # fmt: skip
        assert asked.code == 0 and "Ulysses" in asked.out
        lost = cvx("run", "books:list", "--component", "attic", *_to(backend), cwd=folder)
        assert lost.code != 0 and "attic" in lost.err
        logs = cvx("logs", "--history", "200", "--once", *_to(backend), cwd=folder)
        assert "library/audit" in logs.out


def test_rate_limiter_sharded_counter_and_aggregate(tmp_path: Path) -> None:
    with running(APPS / "counting", tmp_path, PACKAGES) as (backend, folder):
        print(drive(folder / "drive.mjs", backend))


def test_workpool_workflow_crons_migrations_caches_and_presence(tmp_path: Path) -> None:
    """A workflow that waits outlives a killed backend."""
    with running(APPS / "working", tmp_path, PACKAGES) as (backend, folder):
        said = drive(folder / "drive.mjs", backend, _site(backend), "before")
        waiting = re.search(r"waiting: (\S+)", said)
        assert waiting is not None
        backend.kill()
        backend.start()
        print(said, drive(folder / "drive.mjs", backend, _site(backend), "after", waiting[1]))


def test_better_auth(tmp_path: Path) -> None:
    backend = BackendProcess(tmp_path / "data")
    backend.start()
    try:
        secrets: dict[str, str | None] = {
            "BETTER_AUTH_SECRET": "0123456789abcdef" * 2,
            "SITE_URL": "http://localhost:5173",
        }
        assert set_variables(backend, secrets).status_code == 200
        folder = pushed(backend, APPS / "better_auth", tmp_path / "app", PACKAGES)
        print(drive(folder / "drive.mjs", backend, _site(backend)))
    finally:
        backend.stop()


@pytest.mark.parametrize("app", ["library", "counting", "working", "better_auth"])
def test_the_types_of_components(tmp_path: Path, app: str) -> None:
    """Every app type-checks against what `cvx codegen` makes of the deployment's analysis."""
    with running(APPS / app, tmp_path, PACKAGES) as (_, folder):
        compiler = folder / "node_modules" / "typescript" / "bin" / "tsc"
        done = subprocess.run(
            [node(), str(compiler), "--project", "convex"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


def test_the_official_command_line_pushes_components(tmp_path: Path) -> None:
    """Its discovery, its bundles and its types; then ours finds nothing to change."""
    backend = BackendProcess(tmp_path / "data")
    backend.start()
    try:
        folder = tmp_path / "app"
        shutil.copytree(APPS / "counting", folder)
        (folder / "node_modules").symlink_to(npm_project("apps", PACKAGES) / "node_modules")
        done = subprocess.run(
            [
                node(), "node_modules/convex/bin/main.js", "dev", "--once", "--typecheck", "enable",
                "--url", backend.url, "--admin-key", backend.admin_key,
            ],
            cwd=folder, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "Installed component rateLimiter." in done.stderr
        shutil.copy(HERE / "harness.mjs", folder / "harness.mjs")
        print(drive(folder / "drive.mjs", backend))
        (folder / "convex" / "convex.config.ts").write_text(
            'import { defineApp } from "convex/server";\nexport default defineApp();\n'
        )
        for name in ("messages", "visits", "scores"):
            (folder / "convex" / f"{name}.ts").unlink()
        again = subprocess.run(
            [
                node(), "node_modules/convex/bin/main.js", "dev", "--once", "--typecheck", "disable",
                "--url", backend.url, "--admin-key", backend.admin_key,
            ],
            cwd=folder, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert again.returncode == 0, again.stderr
        assert "Unmounted component rateLimiter." in again.stderr
        states = {row["path"]: row["state"] for row in _components(backend)}
        assert set(states.values()) == {"unmounted"} and "aggregate/batchWorker" in states
    finally:
        backend.stop()


def _components(backend: BackendProcess) -> list[dict[str, Any]]:
    answer = httpx.post(
        f"{backend.url}/api/query",
        json={"path": "_system/frontend/components:list", "args": {}, "format": "json"},
        headers={"Authorization": f"Convex {backend.admin_key}"},
        timeout=30,
    ).json()
    found: list[dict[str, Any]] = answer["value"]
    return found


def _to(backend: BackendProcess) -> list[str]:
    return ["--url", backend.url, "--admin-key", backend.admin_key]
