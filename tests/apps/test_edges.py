"""What functions are told at every edge: limits, features that come later, who asks. Through the official clients."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apps.driving import HERE, drive, running

pytestmark = [pytest.mark.deno, pytest.mark.node]


def test_edges(tmp_path: Path) -> None:
    with running(HERE / "edges", tmp_path) as (backend, folder):
        print(drive(folder / "drive.mjs", backend, deadline_s=180))
