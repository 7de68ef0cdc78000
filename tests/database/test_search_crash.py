"""kill -9 while texts and vectors are written, indexes built and dropped: afterwards they say what the documents say.

`CVX_KILL_CYCLES` makes it longer.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from cvx.backend.database import Database, definitions
from cvx.backend.database.text import text_of
from cvx.backend.database.vectors import vector_of
from cvx.backend.store import occurrences
from cvx.values import DocumentId
from tests.database.search_crash_child import LIMITS, SystemClock
from tests.store.test_search_mirror import texts_of

CYCLES = int(os.environ.get("CVX_KILL_CYCLES", "4"))
SEED = int(os.environ.get("CVX_SEED", "1"))


def run_and_kill(folder: Path, seed: int, after_s: float) -> int:
    """How many commits were acknowledged before the kill."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.database.search_crash_child", str(folder), str(seed)],
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == "open\n"
    time.sleep(after_s)
    child.kill()
    acknowledged = child.stdout.read().count("ack\n")
    child.wait()
    child.stdout.close()
    return acknowledged


async def check(folder: Path) -> int:
    """Every index against the documents; how many indexes there were."""
    async with await Database.open(folder, clock=SystemClock(), limits=LIMITS) as db:
        await db.idle()
        with db.snapshot() as snapshot:
            tx = db.begin(None, snapshot=snapshot)
            documents = {DocumentId.parse(str(d["_id"])).internal: d for d in tx.all("things")}
            checked = 0
            for _, index, _ in definitions.indexes(tx):
                assert index.state != "backfilling", "what was cut off is finished"
                checked += 1
                if index.is_text:
                    texts = {internal: text_of(index, d) for internal, d in documents.items()}
                    assert texts_of(snapshot.view, index.index_id) == {
                        internal: (text.created, text.length, dict(occurrences(text.terms)))
                        for internal, text in texts.items()
                        if text is not None
                    }
                else:
                    rows = snapshot.view.vectors(index.index_id, b"", 1 << 30)
                    found = {row.internal: (row.vector, row.filters) for row in rows}
                    assert found == {internal: vector_of(index, d) for internal, d in documents.items()}
            return checked


def test_indexes_say_what_documents_say(tmp_path: Path) -> None:
    rand = random.Random(SEED)
    acknowledged = checked = 0
    for cycle in range(CYCLES):
        acknowledged += run_and_kill(tmp_path, SEED + cycle, rand.uniform(0.1, 1.0))
        checked += asyncio.run(check(tmp_path))
    assert acknowledged > 5 * CYCLES, "the load was a load"
    assert checked >= CYCLES
