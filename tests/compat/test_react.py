"""React 19 with the official hooks, rendered into jsdom under Node, on a real backend."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apps.driving import drive, running

pytestmark = [pytest.mark.deno, pytest.mark.node]


def test_hooks(tmp_path: Path) -> None:
    with running(Path(__file__).parent / "react", tmp_path) as (backend, app):
        print(drive(app / "drive.mjs", backend))
