"""The app of these tests, bundled once per test process."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.functions.deployment import APP, App, bundle


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> App:
    folder: Path = tmp_path_factory.mktemp("functions-app")
    shutil.copytree(APP, folder / "convex")
    return bundle(folder / "convex", folder / "out")
