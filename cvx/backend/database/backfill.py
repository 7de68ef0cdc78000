"""Fills new indexes with the documents that were there before them, while writes go on.

The rows of text and vector indexes are made like entries; recent texts are folded as they come, in large steps.

From the moment an index has a row, every write keeps it up (its transaction depends on the list of indexes). So
what is left are the documents that were there before. They are read in id order from views, a run at a time,
sorted by key (sorted runs keep the B-tree's pages warm), and put in between commits, leaving out every document
that a commit has touched since the view: its writer has made its entry already.

Rule: progress is stored with the entries, so a restart resumes where it was.

Source: design.md §11.11; runtime-and-database.md §7.2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from cvx.backend.config import Limits
from cvx.backend.database.catalog import TableInfo
from cvx.backend.database.committer import Committer
from cvx.backend.database.indexes import IndexInfo, key_of
from cvx.backend.database.text import text_of
from cvx.backend.database.vectors import vector_of
from cvx.backend.store import EntryChange, Store, TextChange, VectorChange
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
    resume, looked_at = f"backfill:{index.index_id}", f"backfill-done:{index.index_id}"
    cursor = store.get_global(resume) or b""
    before = int.from_bytes(store.get_global(looked_at) or b"", "big")
    while True:
        run = await asyncio.to_thread(_read_run, store, limits, table, index, cursor)
        progress.done, progress.total = before, max(run.total, before + run.documents)
        after = before + run.documents
        batches = run.batches(limits.backfill_batch_rows)
        for batch in batches:
            notes = {}
            if batch is batches[-1]:
                notes = {resume: run.cursor, looked_at: after.to_bytes(8, "big")}
            if committer.catalog.owner_of(index.index_id) is None:
                return False
            put = partial(_put, store, committer, table.table_id, run.ts, batch, notes)
            if not await committer.between_commits(put):
                break
            progress.done = min(progress.done + len(batch), after)
            if index.is_text:
                await _fold(store, committer, limits, limits.text_fold_rows_max)
        else:
            cursor, before, progress.done = run.cursor, after, after
            if run.is_last:
                if index.is_text:
                    await _fold(store, committer, limits, limits.text_fold_rows)
                return True


async def _fold(store: Store, committer: Committer, limits: Limits, least: int) -> None:
    """Fold, while so many texts wait for it. Nobody searches the index yet, and large steps are cheaper."""
    while store.text_backlog() >= least:
        if not await committer.between_commits(partial(store.fold_texts, limits.text_fold_rows_max)):
            return


_Change: TypeAlias = EntryChange | TextChange | VectorChange


def _put(
    store: Store,
    committer: Committer,
    table_id: int,
    ts: Timestamp,
    batch: Sequence[_Change],
    notes: dict[str, bytes],
) -> bool:
    """Put in a batch that was read at `ts`; False when too much has happened since to know what to leave out."""
    log = committer.log
    untouched = [
        change
        for change in batch
        if change.internal is not None and not log.changed_since(table_id, change.internal, ts)
    ]
    if not log.covers(ts):  # Asked last: it may have been trimmed while it was looked into.
        return False
    store.fill(
        [change for change in untouched if isinstance(change, EntryChange)],
        notes,
        [change for change in untouched if isinstance(change, TextChange)],
        [change for change in untouched if isinstance(change, VectorChange)],
    )
    return True


@dataclass(frozen=True, slots=True)
class _Run:
    ts: Timestamp
    changes: list[_Change]
    cursor: bytes
    is_last: bool
    documents: int
    """Looked at in this run."""
    total: int
    """In the table."""

    def batches(self, size: int) -> list[list[_Change]]:
        """At least one, so that the cursor is noted."""
        return [self.changes[start : start + size] for start in range(0, len(self.changes), size)] or [[]]


def _read_run(store: Store, limits: Limits, table: TableInfo, index: IndexInfo, cursor: bytes) -> _Run:
    changes: list[_Change] = []
    documents = 0
    view = store.view(detached=True)
    try:
        for _ in range(_RUN_BATCHES):
            rows = view.scan_table(
                table.table_id, KeyRange(cursor, None), descending=False, limit=limits.backfill_batch_rows
            )
            for row in rows:
                document = decode(row.document)
                assert isinstance(document, dict)
                changes += _changes(table, index, document, row.internal)
            documents += len(rows)
            if rows:
                cursor = rows[-1].internal + b"\x00"
            if len(rows) < limits.backfill_batch_rows:
                break
        if index.is_database:
            changes.sort(key=_key)
        is_last = len(rows) < limits.backfill_batch_rows
        return _Run(view.ts, changes, cursor, is_last, documents, view.count(table.table_id))
    finally:
        view.close()


def _changes(table: TableInfo, index: IndexInfo, document: dict[str, Any], internal: bytes) -> list[_Change]:
    """What the index gets of a document."""
    if index.is_text:
        text = text_of(index, document)
        return [] if text is None else [TextChange(index.index_id, internal, None, text.stored())]
    if index.is_vector:
        found = vector_of(index, document)
        return [] if found is None else [VectorChange(index.index_id, internal, *found)]
    return [EntryChange(table.table_id, index.index_id, key_of(index, document, internal), internal)]


def _key(change: _Change) -> bytes:
    assert isinstance(change, EntryChange)
    return change.key
