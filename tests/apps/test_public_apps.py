"""Small apps as people write them, each driven through `ConvexClient` with live subscriptions."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apps.driving import HERE, drive, running

pytestmark = [pytest.mark.deno, pytest.mark.node]


@pytest.mark.parametrize("app", ["todo", "tracker", "threads", "shop", "lobby"])
def test_app(app: str, tmp_path: Path) -> None:
    with running(HERE / app, tmp_path) as (backend, folder):
        print(drive(folder / "drive.mjs", backend))
