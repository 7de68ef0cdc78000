"""Fills new indexes with the documents that were there before them, while writes go on.

From the moment an index has a row, every write keeps it up (its transaction depends on the list of indexes). So
what is left are the documents that were there before. They are read in id order from views, a run at a time,
sorted by key (sorted runs keep the B-tree's pages warm), and put in between commits, leaving out every document
that a commit has touched since the view: its writer has made its entry already.

Rule: progress is stored with the entries, so a restart resumes where it was.

Source: design.md §11.11; runtime-and-database.md §7.2.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

from cvx.backend.config import Limits
from cvx.backend.database.catalog import TableInfo
from cvx.backend.database.committer import Committer
from cvx.backend.database.indexes import IndexInfo, key_of
from cvx.backend.store import EntryChange, Store
from cvx.values import KeyRange, Timestamp, decode

_RUN_BATCHES = 20


@dataclass(slots=True)
class BackfillProgress:
    """How far an index is: documents looked at, and how many there were when it began."""

    done: int = 0
    total: int = 0


async def fill_index(
    store: Store,
    committer: Committer,
    limits: Limits,
    table: TableInfo,
    index: IndexInfo,
    progress: BackfillProgress,
) -> bool:
    """Put every document of the table into the index; whether it was finished (not, when the index goes away)."""
    resume = f"backfill:{index.index_id}"
    cursor = store.get_global(resume) or b""
    while True:
        run = await asyncio.to_thread(_read_run, store, limits, table, index, cursor)
        progress.total = max(run.total, progress.done)
        for start in range(0, len(run.entries), limits.backfill_batch_rows):
            batch = run.entries[start : start + limits.backfill_batch_rows]
            is_last = start + limits.backfill_batch_rows >= len(run.entries)
            notes = {resume: run.cursor} if is_last else {}
            if committer.catalog.owner_of(index.index_id) is None:
                return False
            if not await committer.between_commits(partial(_put, store, committer, run.ts, batch, notes)):
                break
            progress.done += len(batch)
        else:
            cursor = run.cursor
            if run.is_last:
                return True


def _put(
    store: Store, committer: Committer, ts: Timestamp, batch: list[EntryChange], notes: dict[str, bytes]
) -> bool:
    """Put in a batch that was read at `ts`; False when too much has happened since to know what to leave out."""
    log = committer.log
    untouched = [
        entry
        for entry in batch
        if entry.internal is not None and not log.changed_since(entry.table_id, entry.internal, ts)
    ]
    if not log.covers(ts):  # Asked last: it may have been trimmed while it was looked into.
        return False
    store.fill(untouched, notes)
    return True


@dataclass(frozen=True, slots=True)
class _Run:
    ts: Timestamp
    entries: list[EntryChange]
    cursor: bytes
    is_last: bool
    total: int


def _read_run(store: Store, limits: Limits, table: TableInfo, index: IndexInfo, cursor: bytes) -> _Run:
    entries: list[EntryChange] = []
    view = store.view(detached=True)
    try:
        for _ in range(_RUN_BATCHES):
            rows = view.scan_table(
                table.table_id, KeyRange(cursor, None), descending=False, limit=limits.backfill_batch_rows
            )
            for row in rows:
                document = decode(row.document)
                assert isinstance(document, dict)
                key = key_of(index, document, row.internal)
                entries.append(EntryChange(table.table_id, index.index_id, key, row.internal))
            if rows:
                cursor = rows[-1].internal + b"\x00"
            if len(rows) < limits.backfill_batch_rows:
                break
        entries.sort(key=lambda entry: entry.key)
        is_last = len(rows) < limits.backfill_batch_rows
        return _Run(view.ts, entries, cursor, is_last, view.count(table.table_id))
    finally:
        view.close()
