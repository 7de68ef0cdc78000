"""kill -9 under load: every acknowledged commit is there, none is half there, and indexes say what documents say.

`CVX_KILL_CYCLES` makes it longer (a full run is 2,000).
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from cvx.backend.database import Database, definitions
from cvx.backend.store.open import DATABASE_FILE
from cvx.values import FULL_RANGE
from tests.database.crash_child import LIMITS, SystemClock

CYCLES = int(os.environ.get("CVX_KILL_CYCLES", "4"))
SEED = int(os.environ.get("CVX_SEED", "1"))


def run_and_kill(folder: Path, seed: int, after_s: float, mode: str = "kill") -> list[tuple[str, int]]:
    """(value, rows) of every commit that was acknowledged before the kill."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.database.crash_child", str(folder), str(seed), mode],
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == "open\n"
    time.sleep(after_s)
    child.kill()
    # Only whole lines count: the last may have been cut off by the kill.
    lines = [line.split() for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    child.wait()
    child.stdout.close()
    return [(value, int(rows)) for _, value, rows in lines]


async def check(folder: Path, acknowledged: list[tuple[str, int]]) -> None:
    async with await Database.open(folder, clock=SystemClock(), limits=LIMITS) as db:
        await db.idle()
        with db.snapshot() as snapshot:
            tx = db.begin(None, snapshot=snapshot)
            with tx.budget({}):
                tx._meter.documents_max = tx._meter.bytes_max = 1 << 40
                left = Counter(row["value"] for row in tx.all("left"))
                right = Counter(row["value"] for row in tx.all("right"))
                counter = tx.first("counters")
                for value, rows in acknowledged:
                    assert left[value] == rows, f"acknowledged, and lost: {value}"
                assert left == right, "a commit is there by half"
                transactions = 0.0 if counter is None else counter["transactions"]
                assert transactions == len(left), "a commit is there by half"
                for table, index, _ in definitions.indexes(tx):
                    if index.state != "backfilling":
                        rows_ = snapshot.view.scan(
                            index.index_id, FULL_RANGE, descending=False, limit=1 << 40
                        )
                        assert len(rows_) == snapshot.view.count(table.table_id), index.name


def test_kill_under_load(tmp_path: Path) -> None:
    rand = random.Random(SEED)
    acknowledged: list[tuple[str, int]] = []
    for cycle in range(CYCLES):
        acknowledged += run_and_kill(tmp_path, SEED + cycle, rand.uniform(0.05, 1.0))
        asyncio.run(check(tmp_path, acknowledged))
    assert len(acknowledged) > 50 * CYCLES, "the load was a load"


def test_power_loss_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    """As a kill, but everything that was not synced is gone: the log is cut back to its last sync."""
    rand = random.Random(SEED)
    acknowledged: list[tuple[str, int]] = []
    for cycle in range(max(2, CYCLES // 4)):
        acknowledged += run_and_kill(tmp_path, SEED + cycle, rand.uniform(0.2, 0.6), "power")
        synced = tmp_path / "synced-wal"
        (tmp_path / f"{DATABASE_FILE}-wal").write_bytes(synced.read_bytes())
        asyncio.run(check(tmp_path, acknowledged))
    assert len(acknowledged) > 10
