"""Random operations on the SQLite store and on the model: they must never differ."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from cvx.backend.config import Limits
from cvx.backend.store import CommitRecord, EntryChange, Revision, Store, StoreView, open_store
from cvx.values import KeyRange
from tests.store.memory_store import MemoryStore

SEEDS = range(int(os.environ.get("CVX_MIRROR_SEEDS", "6")))
TABLES, INDEXES = (1, 3), {1: (2, 5), 3: (4,)}


def fail(error: BaseException) -> None:
    raise AssertionError(f"fatal: {error}")


class Mirror:
    """One state of affairs in two stores, and what is known of it to make up sensible commits."""

    def __init__(self, path: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.path = path
        self.real: Store = open_store(path, Limits(), fail)
        self.model = MemoryStore()
        self.ts = 0
        self.rows: dict[tuple[int, bytes], tuple[int, dict[int, bytes]]] = {}
        self.views: list[tuple[StoreView, StoreView]] = []

    def commit(self) -> CommitRecord:
        self.ts += self.random.randint(1, 5)
        revisions, entries, touched = [], [], set()
        for _ in range(self.random.randint(1, 4)):
            table = self.random.choice(TABLES)
            known = [internal for t, internal in self.rows if t == table]
            fresh = not known or self.random.random() < 0.5
            internal = self.random.randbytes(16) if fresh else self.random.choice(known)
            if (table, internal) in touched:
                continue
            touched.add((table, internal))
            previous, keys = self.rows.pop((table, internal), (None, {}))
            if previous is not None and self.random.random() < 0.3:
                revisions.append(Revision(table, internal, None, 0, previous))
                entries += [EntryChange(table, index, key, None) for index, key in keys.items()]
                continue
            document = self.random.randbytes(self.random.choice((1, 50, 5_000)))
            revisions.append(Revision(table, internal, document, len(document), previous))
            new = {index: self.random.randbytes(2) + internal for index in INDEXES[table]}
            for index, key in new.items():
                if index in keys:
                    entries.append(EntryChange(table, index, keys[index], None))
                entries.append(EntryChange(table, index, key, internal))
            self.rows[table, internal] = (self.ts, new)
        return CommitRecord(self.ts, revisions, entries)

    def step(self) -> None:
        choice = self.random.random()
        if choice < 0.55:
            records = [self.commit() for _ in range(self.random.choice((1, 1, 3)))]
            self.real.append_many(records)
            self.model.append_many(records)
        elif choice < 0.8:
            detached = self.random.random() < 0.3
            self.compare(self.real.view(detached=detached), self.model.view(), close=True)
        elif choice < 0.9:
            if len(self.views) < 5:
                self.views.append((self.real.view(), self.model.view()))
            else:
                real, model = self.views.pop(self.random.randrange(5))
                self.compare(real, model, close=True)
        elif choice < 0.95:
            before, limit = self.random.randint(0, self.ts + 1), self.random.randint(1, 10)
            assert self.real.trim(before, limit) == self.model.trim(before, limit)
        else:
            since, limit = self.random.randint(0, self.ts), self.random.randint(1, 10)
            assert self.real.log(since, limit) == self.model.log(since, limit)

    def compare(self, real: StoreView, model: StoreView, *, close: bool) -> None:
        assert real.ts == model.ts
        for table in TABLES:
            assert real.count(table) == model.count(table)
            for internal in [i for t, i in self.rows if t == table][:5]:
                assert real.get(table, internal) == model.get(table, internal)
        a, b = sorted((self.random.randbytes(1), self.random.randbytes(1)))
        range = KeyRange(a, self.random.choice((None, b)))
        options: dict[str, Any] = {
            "descending": self.random.random() < 0.5,
            "limit": self.random.choice((1, 3, 1000)),
        }
        for table in TABLES:
            assert real.scan_table(table, range, **options) == model.scan_table(table, range, **options)
            for index in INDEXES[table]:
                assert real.scan(index, range, **options) == model.scan(index, range, **options)
        if close:
            real.close()

    def reopen(self) -> None:
        for real, _ in self.views:
            real.close()
        self.views.clear()
        self.real.close()
        self.real = open_store(self.path, Limits(), fail)
        assert self.real.latest_ts == self.model.latest_ts


@pytest.mark.parametrize("seed", SEEDS)
def test_the_store_and_its_model_agree(tmp_path: Path, seed: int) -> None:
    mirror = Mirror(tmp_path, seed)
    for step in range(300):
        mirror.step()
        if step % 100 == 99:
            mirror.reopen()
    mirror.real.close()
