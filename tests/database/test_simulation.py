"""Seeded simulation: many clients, random transactions, every interleaving the seed picks; is it serialisable?

`CVX_SIMULATION_SEEDS` makes it longer; a failure prints the seed that repeats it.
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import Any

import pytest

from cvx.backend.config import Limits
from cvx.backend.database import Database, ReadSet, Transaction, definitions
from cvx.errors import ConflictError
from cvx.protocol.schema import DatabaseIndex
from cvx.values import DocumentId
from tests.database.checker import Txn, anomalies, serial_complaints
from tests.database.script_player import FakeClock

SEEDS = range(int(os.environ.get("CVX_SIMULATION_SEEDS", "8")))
GROUPS = ("g0", "g1", "g2")


class Simulation:
    """Clients that take turns, operation by operation, as the seed says."""

    def __init__(self, db: Database, seed: int) -> None:
        self.db = db
        self.random = random.Random(seed)
        self.history: list[Txn] = []
        self.ids: dict[str, DocumentId] = {}
        self.values = 0
        self.notified: list[tuple[int, int | None, ReadSet]] = []

    async def run(self, clients: int, transactions: int) -> None:
        await asyncio.gather(*(self.client(n, transactions) for n in range(clients)))

    async def client(self, number: int, transactions: int) -> None:
        for n in range(transactions):
            for attempt in range(20):
                if await self.attempt(f"{number}.{n}.{attempt}"):
                    break

    async def pause(self) -> None:
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)

    async def attempt(self, name: str) -> bool:
        txn = Txn(name, committed=False)
        self.history.append(txn)
        tx = self.db.begin(None, write_source=name)
        created: dict[str, DocumentId] = {}
        scan_first = self.random.random() < 0.3
        if scan_first:  # Scans come first, so that the replay needs no order among kinds of operation.
            self.scan(tx, txn, self.random.choice(GROUPS))
            await self.pause()
        for _ in range(self.random.randint(1, 4)):
            self.operate(tx, txn, created)
            await self.pause()
        if self.random.random() < 0.1:
            tx.close()
            return True  # It changed its mind: nothing of it may be seen.
        self.watch(tx)
        try:
            txn.ts = await self.db.commit(tx)
        except ConflictError:
            return False
        txn.committed = True
        self.ids |= created
        await self.db.durable(txn.ts)
        return True

    def operate(self, tx: Transaction, txn: Txn, created: dict[str, DocumentId]) -> None:
        choice = self.random.random()
        key = self.random.choice(sorted(self.ids)) if self.ids else None
        if choice < 0.1 or key is None:
            key, group = f"k{len(self.ids)}-{txn.name}-{len(created)}", self.random.choice(GROUPS)
            created[key] = tx.insert("lists", {"key": key, "group": group, "values": []})
            txn.creates.append((key, group))
            return
        id = self.ids[key]
        if choice < 0.55:
            document = tx.get_value(id)
            if document is not None:  # None: created after our snapshot.
                txn.ops.append(("read", key, tuple(int(v) for v in document["values"])))
            return
        document = tx.get_value(id)
        if document is None:
            return
        self.values += 1
        if self.random.random() < 0.2:  # Written twice in a sub-transaction that is taken back.
            savepoint = tx.savepoint()
            tx.patch(id, {"values": [*document["values"], float(-self.values)]})
            tx.rollback_to(savepoint)
            tx.release(savepoint)
        txn.ops.append(("read", key, tuple(int(v) for v in document["values"])))
        tx.patch(id, {"values": [*document["values"], float(self.values)]})
        txn.ops.append(("append", key, self.values))

    def scan(self, tx: Transaction, txn: Txn, group: str) -> None:
        found = tx.all("lists", "by_group", [group])
        txn.scans.append((group, tuple(sorted(document["key"] for document in found))))

    def watch(self, tx: Transaction) -> None:
        """Subscribe to what it read: it must be told of the first commit that overlaps, and of no other."""
        if self.random.random() > 0.2:
            return
        reads = tx.reads.copy()
        position = len(self.notified)
        self.notified.append((tx.snapshot.ts, None, reads))

        def told(ts: int) -> None:
            since, before, _ = self.notified[position]
            assert before is None, "told twice"
            self.notified[position] = (since, ts, reads)

        self.db.subscribe(reads, tx.snapshot.ts, told)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_interleaving_is_serialisable(tmp_path: Path, seed: int) -> None:
    async def body() -> None:
        # Small enough for commits to go both ways: on the loop, and (many rows) on a thread.
        limits = Limits(loop_commit_rows_max=2, checkpoint_wal_bytes=200_000)
        async with await Database.open(tmp_path, clock=FakeClock(), limits=limits) as db:
            index = DatabaseIndex("by_group", ("group",))
            await db.run(None, lambda tx: definitions.create_index(tx, "lists", index))
            await db.idle()
            id = definitions.indexes(db.begin(None))[0][2]
            await db.run(None, lambda tx: definitions.enable_index(tx, id))
            simulation = Simulation(db, seed)
            changes = _recorded_changes(db)
            await simulation.run(clients=12, transactions=25)
            committed = [txn for txn in simulation.history if txn.committed]
            assert len(committed) > 200, "the simulation gets somewhere"
            assert any(not txn.committed for txn in simulation.history), "and meets conflicts on its way"
            assert serial_complaints(simulation.history) == []
            assert anomalies(simulation.history) == set()
            for since, told, reads in simulation.notified:
                overlapping = [c.ts for c in changes if c.ts > since and reads.overlaps(c) is not None]
                assert told == (overlapping[0] if overlapping else None)

    asyncio.run(asyncio.wait_for(body(), 120))


def _recorded_changes(db: Database) -> list[Any]:
    """Every commit's changes, as they are published."""
    found: list[Any] = []
    log = db._committer.log
    append = log.append

    def recording(changes: Any) -> None:
        found.append(changes)
        append(changes)

    log.append = recording  # type: ignore[method-assign]
    return found
