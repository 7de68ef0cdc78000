"""The unmodified npm clients, three releases of them, against a real backend."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.backend_process import BackendProcess, pushed_app
from tests.node_env import node, node_run, npm_project

HERE = Path(__file__).parent
APP = HERE.parent / "apps" / "wire"
VERSIONS = ["1.48.0", "1.29.3", "1.17.4"]

pytestmark = [pytest.mark.deno, pytest.mark.node]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    backend = BackendProcess(tmp_path_factory.mktemp("data"))
    backend.start()
    try:
        pushed_app(backend, APP, tmp_path_factory.mktemp("app"))
        yield backend
    finally:
        backend.stop()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("script", ["http_client", "live_client"])
def test_official_client(served: BackendProcess, script: str, version: str) -> None:
    project = npm_project(f"convex-{version}", {"convex": version})
    out = node_run(HERE / "js" / f"{script}.mjs", project, served.url, served.admin_key, version)
    assert out.endswith("ok\n")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_backend_dies_and_comes_back(tmp_path: Path, version: str) -> None:
    """Nothing that was asked is lost or done twice, and what is shown never goes back."""
    backend = BackendProcess(tmp_path / "data")
    backend.start()
    try:
        pushed_app(backend, APP, tmp_path / "app")
        project = npm_project(f"convex-{version}", {"convex": version})
        script = shutil.copy(HERE / "js" / "reconnect.mjs", project / f"reconnect-{backend.port}.mjs")
        client = subprocess.Popen(
            [node(), str(script), backend.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=project,
        )
        assert client.stdin is not None and client.stdout is not None
        with client:
            try:
                assert client.stdout.readline() == "ready\n"
                backend.kill()
                client.stdin.write("gone\n")
                client.stdin.flush()
                assert client.stdout.readline() == "asked\n"
                backend.start()
                client.stdin.write("back\n")
                client.stdin.flush()
                assert client.stdout.readline() == "ok\n"
            finally:
                client.kill()
                Path(script).unlink()
    finally:
        backend.stop()
