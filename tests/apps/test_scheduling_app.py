"""The app of docs/guide/scheduling.md: scheduled functions and crons through the official client."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apps.driving import HERE, drive, running
from tests.apps.guides import blocks_missing

APP = HERE / "scheduling"


def test_the_guide_shows_the_app() -> None:
    assert blocks_missing("scheduling", APP) == []


@pytest.mark.deno
@pytest.mark.node
def test_scheduled_functions_and_crons(tmp_path: Path) -> None:
    with running(APP, tmp_path) as (backend, folder):
        print(drive(folder / "drive.mjs", backend))
