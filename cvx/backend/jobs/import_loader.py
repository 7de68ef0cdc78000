"""Bulk files into hidden tables, in steps that are short enough for whoever else wants to write.

Each step notes how far it is together with what it loads, so a restart goes on exactly there.

Source: design.md §5.3, §11.9.
"""

from __future__ import annotations

import msgspec

from cvx.backend.bulk import Run
from cvx.backend.config import Limits
from cvx.backend.database import Database
from cvx.backend.store import BulkFile


class Position(msgspec.Struct):
    """How far loading is: the run, and how much of it."""

    run: int = 0
    documents: int = 0
    entries: int = 0


class Loader:
    """Takes bulk files in, in steps that are short enough for whoever else wants to write."""

    def __init__(self, db: Database, limits: Limits, note: str) -> None:
        self._db = db
        self._limits = limits
        self._note = note
        self._document_rows = self._entry_rows = limits.import_step_rows

    async def load(self, bulk: BulkFile, run: Run, position: Position) -> None:
        documents, entries = position.documents, position.entries
        while documents < run.documents:
            last = min(documents + self._document_rows, run.documents)
            after = Position(position.run, last)
            if last == run.documents and not run.entries:
                after = Position(position.run + 1)
            took = await self._step(bulk, range(documents, last), range(0), after)
            self._document_rows = self._paced(self._document_rows, last - documents, took)
            documents = last
        while entries < run.entries:
            last = min(entries + self._entry_rows, run.entries)
            after = Position(position.run, documents, last)
            if last == run.entries:
                after = Position(position.run + 1)
            took = await self._step(bulk, range(0), range(entries, last), after)
            self._entry_rows = self._paced(self._entry_rows, last - entries, took)
            entries = last

    async def _step(self, bulk: BulkFile, documents: range, entries: range, after: Position) -> float:
        """Seconds it took, from when the store was free."""
        return await self._db.load(bulk, documents, entries, {self._note: msgspec.json.encode(after)})

    def _paced(self, rows: int, done: int, took_s: float) -> int:
        limits = self._limits
        if done < rows // 2:
            return rows  # The rest of a run says nothing.
        wanted = rows * limits.import_step_s / max(took_s, 1e-4)
        return int(min(max(wanted, rows / 2, 100), rows * 2, limits.import_step_rows_max))
