"""A process that commits pairs of rows until it is killed, and says which commits were acknowledged.

Every transaction writes the same number into two rows of different tables, moves a hot counter, and inserts one
row; so a half-applied or lost commit shows. Run as `python -m tests.database.crash_child FOLDER SEED kill|power`.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from dataclasses import replace
from pathlib import Path

from cvx.backend.config import Limits
from cvx.backend.database import Database, Transaction, definitions
from cvx.backend.store import durability
from cvx.backend.store.open import DATABASE_FILE
from cvx.protocol.schema import DatabaseIndex

LIMITS = Limits(
    checkpoint_wal_bytes=300_000, restart_wal_bytes=1_000_000, log_retention_s=0.3, retention_interval_s=0.1,
    backfill_batch_rows=20, loop_commit_rows_max=8,
)  # fmt: skip
CLIENTS = 16


class SystemClock:
    def now_ns(self) -> int:
        return time.time_ns()


async def main(folder: Path, seed: int) -> None:
    rand = random.Random(seed)
    async with await Database.open(folder, clock=SystemClock(), limits=LIMITS) as db:
        first = db.latest_ts
        print("open", flush=True)

        async def client(number: int) -> None:
            for n in range(1_000_000):
                value = f"{first}.{number}.{n}"
                rows = rand.choice((1, 1, 1, 10))

                def body(tx: Transaction, value: str = value, rows: int = rows) -> None:
                    for k in range(rows):
                        tx.insert("left", {"value": value, "k": float(k)})
                        tx.insert("right", {"value": value, "k": float(k)})
                    counter = tx.first("counters")
                    if counter is None:
                        tx.insert("counters", {"transactions": 1.0})
                    else:
                        tx.patch(counter["_id"], {"transactions": counter["transactions"] + 1.0})

                await db.run(None, body)
                print(f"ack {value} {rows}", flush=True)

        async def indexes() -> None:
            for n in range(1_000_000):
                name = f"by_value_{first}_{n}"
                index = DatabaseIndex(name, ("value", "k"))
                await db.run(None, lambda tx, index=index: definitions.create_index(tx, "left", index))  # type: ignore[misc, arg-type]
                await db.idle()
                await asyncio.sleep(0.05)

                def drop_old(tx: Transaction) -> None:
                    ready = [i for i in definitions.indexes(tx) if i[1].state == "backfilled"]
                    for _, _, id in ready[:-1]:
                        definitions.drop_index(tx, id)

                await db.run(None, drop_old)

        await asyncio.gather(indexes(), *(client(n) for n in range(CLIENTS)))


def remember_what_is_synced(folder: Path) -> None:
    """From here on `synced-wal` is the log as the last finished sync found it: what a power loss would leave.

    A sync covers what was written before it began, so the copy is made then, and counts when it has returned.
    """
    sync = durability._sync
    wal, copy, kept = folder / f"{DATABASE_FILE}-wal", folder / "syncing-wal", folder / "synced-wal"

    kept.write_bytes(b"")  # What an earlier process left is no longer true.

    def recording(fd: int) -> None:
        copy.write_bytes(wal.read_bytes())
        sync(fd)
        copy.replace(kept)

    durability._sync = recording


if __name__ == "__main__":
    where = Path(sys.argv[1])
    if sys.argv[3] == "power":
        where.mkdir(exist_ok=True)
        # Without checkpoints, so that the database file itself stays what the last start made of it.
        LIMITS = replace(LIMITS, checkpoint_wal_bytes=1 << 40, log_retention_s=1e6)
        remember_what_is_synced(where)
    asyncio.run(main(where, int(sys.argv[2])))
