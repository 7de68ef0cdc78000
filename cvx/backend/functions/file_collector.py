"""FileCollector: deletes bytes that no file names.

There are three ways to such bytes:
- A file was deleted: its key is in `_doomed_files`. The bytes go `file_deletion_delay_s` later, so that whoever looked
  the file up just before can still open it, and not while anybody is `holding`.
- A file was to be stored and was not (the upload was cut off, the mutation threw or conflicted): its key was reserved,
  and is looked at when the reservation is released.
- A process was killed in between: at the start, and now and then, all bytes are listed, and those that are old, not
  reserved, and of which no document knows, go.

Rule: keys are never used twice. So bytes that have no record, no reservation and no row in `_doomed_files` at one moment
will never have one again, and deleting them needs no lock. Reservations are looked at before the snapshot is taken: a key
that is not reserved any more has its record, if it ever gets one, in the latest snapshot.

Source: reference/runtime-and-database.md §8 ("bytes are garbage-collected later").
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from cvx.backend.auth import SYSTEM
from cvx.backend.config import Limits
from cvx.backend.database import Database, Transaction
from cvx.backend.files import FileStore
from cvx.backend.model import file_records
from cvx.errors import CvxError

_log = logging.getLogger("cvx.files")


class FileCollector:
    """One task. `start` and `close` as its owner does; every step can be cut off anywhere and is done again."""

    def __init__(self, db: Database, store: FileStore, limits: Limits) -> None:
        self._db = db
        self._store = store
        self._limits = limits
        self._reserved: set[str] = set()
        self._released: list[str] = []
        self._holders = 0
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._keep_collecting())

    async def close(self) -> None:
        """Stop. What was left to do is found again at the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # -------------------------------------------------------------------------------- what must not be deleted

    def reserve(self, key: str) -> None:
        """Bytes are coming whose record does not exist yet."""
        self._reserved.add(key)

    def settle(self, keys: Sequence[str]) -> None:
        """The records of these keys are committed, or never will be."""
        if keys:
            self._reserved.difference_update(keys)
            if len(self._released) < self._limits.file_collection_backlog_max:
                self._released += keys
            self._wanted.set()

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Inside, bytes whose files are deleted stay."""
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            self._wanted.set()

    # --------------------------------------------------------------------------------------------- collecting

    async def _keep_collecting(self) -> None:
        loop = asyncio.get_running_loop()
        next_sweep = loop.time()
        while True:
            self._wanted.clear()
            try:
                await self.collect()
                if loop.time() >= next_sweep:
                    await self.sweep()
                    next_sweep = loop.time() + self._limits.file_sweep_interval_s
            except CvxError as error:
                _log.warning("bytes of deleted files could not be removed, and will be later: %s", error)
                await asyncio.sleep(self._limits.file_collection_interval_s)
            # Not wait_for: on Python 3.11 it may lose a cancellation that comes together with the event.
            timer = loop.call_later(self._limits.file_collection_interval_s, self._wanted.set)
            try:
                await self._wanted.wait()
            finally:
                timer.cancel()

    async def collect(self) -> None:
        """Delete what is due: of files that were not stored after all, and of files deleted long enough ago."""
        batch = self._limits.file_collection_batch
        while self._released:
            keys = self._released[:batch]
            for key in self._unnamed(keys):
                await self._store.delete(key)
            del self._released[: len(keys)]
        while not self._holders:
            due = self._due(batch)
            for _, key in due:
                await self._store.delete(key)
            if due:
                forget = partial(file_records.forget_doomed, row_ids=[row for row, _ in due])
                await self._db.run(SYSTEM, forget, write_source="file collector")
            if len(due) < batch:
                return

    async def sweep(self) -> None:
        """Look at all bytes for some that nothing names: what a killed process left."""
        after, batch = "", self._limits.file_collection_batch
        while True:
            found = await self._store.list(after, batch)
            if not found:
                return
            after = found[-1].key
            old_s = self._db.clock.now_ns() / 1e9 - self._limits.file_orphan_age_s
            left_over = self._unnamed([file.key for file in found if file.modified_s < old_s])
            for key in left_over:
                await self._store.delete(key)
            if left_over:
                _log.info("removed the bytes of %d files that were never stored completely", len(left_over))

    def _due(self, limit: int) -> list[tuple[str, str]]:
        before_ms = self._db.clock.now_ns() / 1e6 - self._limits.file_deletion_delay_s * 1000.0
        with self._db.snapshot() as snapshot:
            tx = self._db.begin(SYSTEM, snapshot=snapshot, read_only=True)
            return file_records.doomed(tx, before_ms, limit)

    def _unnamed(self, keys: Sequence[str]) -> list[str]:
        """Those of the keys that nothing knows of."""
        free = [key for key in keys if key not in self._reserved]
        with self._db.snapshot() as snapshot:
            tx = self._db.begin(SYSTEM, snapshot=snapshot, read_only=True)
            return [key for key in free if not _is_known(tx, key)]


def _is_known(tx: Transaction, key: str) -> bool:
    return file_records.is_named(tx, key) or file_records.is_doomed(tx, key)
