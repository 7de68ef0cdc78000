"""The unmodified npm clients, three releases of them, against a real backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.backend_process import BackendProcess, pushed_app
from tests.node_env import node_run, npm_project

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
