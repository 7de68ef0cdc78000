"""The app of docs/guide/scheduling.md: scheduled mutations and crons through the official client."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apps.driving import HERE, drive, running

pytestmark = [pytest.mark.deno, pytest.mark.node]


def test_scheduled_mutations_and_crons(tmp_path: Path) -> None:
    with running(HERE / "scheduling", tmp_path) as (backend, folder):
        print(drive(folder / "drive.mjs", backend))
