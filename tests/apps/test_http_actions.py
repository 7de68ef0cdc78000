"""HTTP actions through plain HTTP clients: routes, streams, failures, limits, and clients that go away."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apps.driving import HERE, drive, running

pytestmark = [pytest.mark.deno, pytest.mark.node]


def test_http_actions(tmp_path: Path) -> None:
    with running(HERE / "http_actions", tmp_path) as (backend, folder):
        site = f"http://127.0.0.1:{backend.site_port}"
        print(drive(folder / "drive.mjs", backend, site))
