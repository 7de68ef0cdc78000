"""One golden script per property of the engine: who does what, and what comes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvx.backend.config import Limits
from tests import script
from tests.database.script_player import Player

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.txt"))
LIMITS = {
    "limits": Limits(
        documents_read_max=5,
        read_bytes_max=5_000,
        read_intervals_max=8,
        documents_written_max=4,
        written_bytes_max=5_000,
        tables_max=2,
        query_operators_max=3,
    ),
    "old_snapshots": Limits(snapshot_age_s=1.0, retention_interval_s=0.1, write_log_s=1.0),
}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path, tmp_path: Path, update_scripts: bool) -> None:
    player = Player(tmp_path, LIMITS.get(path.stem, Limits()))
    try:
        script.check(path, player.play, together="\x00", alone="> ", update=update_scripts)
    finally:
        player.close()
