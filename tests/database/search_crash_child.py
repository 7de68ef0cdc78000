"""A process that writes documents with texts and vectors until it is killed: `python -m tests.database.search_crash_child FOLDER SEED`.

Indexes come and go meanwhile, recent texts are folded and gone ones purged in small steps.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from pathlib import Path
from typing import Any

from cvx.backend.config import Limits
from cvx.backend.database import Database, Transaction, definitions
from cvx.protocol.schema import Index, SearchIndex, VectorIndex

LIMITS = Limits(
    text_fold_rows=8, text_fold_rows_max=32, backfill_batch_rows=20, loop_commit_rows_max=8,
    checkpoint_wal_bytes=300_000, documents_read_max=1 << 30, read_bytes_max=1 << 40,
)  # fmt: skip
WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]
INDEXES: tuple[Index, ...] = (
    SearchIndex("by_body", "body", ("kind",)),
    VectorIndex("by_place", "place", 4, ("kind",)),
)


class SystemClock:
    def now_ns(self) -> int:
        return time.time_ns()


async def main(folder: Path, seed: int) -> None:
    r = random.Random(seed)
    async with await Database.open(folder, clock=SystemClock(), limits=LIMITS) as db:
        print("open", flush=True)

        def change(tx: Transaction) -> None:
            known = [document["_id"] for document in tx.all("things")]
            for _ in range(r.choice((1, 1, 3, 12))):
                fields: dict[str, Any] = {
                    "body": " ".join(r.choices(WORDS, k=r.randint(0, 9))),
                    "place": [r.gauss(0, 1) for _ in range(4)],
                    "kind": r.choice("ab"),
                }
                choice = r.random()
                if choice < 0.4 or len(known) < 30:
                    known.append(str(tx.insert("things", fields)))
                elif choice < 0.7:
                    tx.replace(r.choice(known), fields)
                else:
                    tx.delete(known.pop(r.randrange(len(known))))

        async def client() -> None:
            while True:
                await db.run(None, change)
                print("ack", flush=True)

        async def indexes() -> None:
            while True:
                for index in INDEXES:
                    await db.run(None, lambda tx, index=index: definitions.create_index(tx, "things", index))  # type: ignore[misc, arg-type]
                    await db.idle()
                await asyncio.sleep(0.05)

                def drop_old(tx: Transaction) -> None:
                    for name in ("by_body", "by_place"):
                        ready = [
                            i
                            for i in definitions.indexes(tx)
                            if i[1].name == name and i[1].state != "backfilling"
                        ]
                        for _, _, id in ready[:-1]:
                            definitions.drop_index(tx, id)

                await db.run(None, drop_old)

        await asyncio.gather(indexes(), *(client() for _ in range(4)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
