"""The database's background work: filling new indexes, checking new schemas, and keeping house.

What there is to do is read off the Catalog, at start and whenever it changes, so a restart goes on with what a
crash cut off.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from cvx.backend.config import Limits
from cvx.backend.database.backfill import BackfillProgress, fill_index
from cvx.backend.database.bootstrap import orphans
from cvx.backend.database.catalog import INDEXES_TABLE, TABLES_TABLE, Catalog, SchemaInfo, TableInfo
from cvx.backend.database.committer import Committer
from cvx.backend.database.definitions import enable_index, mark_backfilled, mark_validated, schema
from cvx.backend.database.indexes import IndexInfo
from cvx.backend.database.retention import Retention
from cvx.backend.database.schema import fail_schema
from cvx.backend.database.schema_check import SchemaProgress, first_misfit
from cvx.backend.database.transaction import Transaction
from cvx.backend.database.vector_search import VectorSearches
from cvx.backend.store import CommitRecord, Store
from cvx.errors import CvxError
from cvx.values import Clock, DocumentId

Run = Callable[[Callable[[Transaction], Any], str], Awaitable[Any]]
"""Runs a function over a Transaction until it commits; the second argument says who it is."""

_log = logging.getLogger("cvx.database")
_RETRY_S = 1.0


class Maintenance:
    """Jobs by what they are about: one an index being filled, one a schema being checked, and housekeeping."""

    def __init__(
        self,
        store: Store,
        committer: Committer,
        clock: Clock,
        limits: Limits,
        vectors: VectorSearches,
        run: Run,
    ) -> None:
        self._store = store
        self._committer = committer
        self._clock = clock
        self._limits = limits
        self._vectors = vectors
        self._run = run
        self._retention = Retention(store, committer, clock, limits)
        self._jobs: dict[object, asyncio.Task[None]] = {}
        self.index_progress: dict[bytes, BackfillProgress] = {}
        """By the internal id of the index's row."""
        self.schema_progress: dict[bytes, SchemaProgress] = {}

    def start(self) -> None:
        """Begin, with whatever an earlier process left unfinished."""
        tables, indexes = orphans(self._store, self._committer.catalog)
        for table_id in tables:
            self._retention.drop_table(table_id)
        for index_id in indexes:
            self._retention.drop_index(index_id)
        self._committer.on_catalog = self._on_catalog
        self._committer.on_searchable = self._on_searchable
        self._fold_soon()
        self._look_for_work(self._committer.catalog)
        self._jobs["housekeeping"] = asyncio.create_task(self._keep_house())

    async def close(self) -> None:
        """End every job; the next start resumes them."""
        self._committer.on_catalog = lambda before, after: None
        jobs = list(self._jobs.values())
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)

    async def idle(self) -> None:
        """Wait until no index is being filled and no schema checked."""
        while jobs := [job for name, job in self._jobs.items() if name != "housekeeping"]:
            await asyncio.wait(jobs)

    # ---------------------------------------------------------------------------------------------- finding work

    def _on_catalog(self, before: Catalog, after: Catalog) -> None:
        for store_id in before.store_ids - after.store_ids:
            self._retention.drop_index(store_id)
        self._look_for_work(after)

        self._vectors.on_catalog(after)

    def _on_searchable(self, record: CommitRecord) -> None:
        if record.vectors:
            self._vectors.on_commit(record)
        if record.texts:
            self._fold_soon()

    def _look_for_work(self, catalog: Catalog) -> None:
        for table in catalog.tables():
            for index in table.indexes:
                if index.state == "backfilling" and index.row is not None:
                    self._start_job(index.row, partial(self._fill, table, index, index.row))
        for info in catalog.schemas():
            if info.state == "pending":
                self._start_job(info.id, partial(self._check, info))
        for table in catalog.deleting():
            self._start_job(("delete", table.table_id), partial(self._delete, table))

    def _fold_soon(self) -> None:
        if self._store.text_backlog() >= self._limits.text_fold_rows:
            self._start_job("texts", self._tidy_texts)

    def _start_job(self, name: object, work: Callable[[], Awaitable[None]]) -> None:
        if name in self._jobs:
            return
        job = self._jobs[name] = asyncio.create_task(self._insist(work, name))
        job.add_done_callback(lambda _: self._jobs.pop(name, None))

    async def _insist(self, work: Callable[[], Awaitable[None]], name: object) -> None:
        while True:
            try:
                return await work()
            except CvxError as error:
                _log.warning("background work on %s failed and is tried again: %s", name, error)
                await asyncio.sleep(_RETRY_S)

    # ------------------------------------------------------------------------------------------------------ jobs

    async def _fill(self, table: TableInfo, index: IndexInfo, row: bytes) -> None:
        progress = self.index_progress[row] = BackfillProgress()
        try:
            if not await fill_index(self._store, self._committer, self._limits, table, index, progress):
                return
            id = DocumentId(INDEXES_TABLE.number, row)

            def finish(tx: Transaction) -> None:
                if tx.get(id, privileged=True) is None:
                    return  # Dropped meanwhile.
                mark_backfilled(tx, id)
                if table.is_system:
                    enable_index(tx, id)

            await self._run(finish, "index backfill")
        finally:
            self.index_progress.pop(row, None)

    async def _check(self, info: SchemaInfo) -> None:
        progress = self.schema_progress[info.id.internal] = SchemaProgress()
        try:
            catalog = self._committer.catalog
            misfit = await first_misfit(self._store, self._limits, catalog, info, progress)

            def finish(tx: Transaction) -> None:
                if misfit is None:
                    mark_validated(tx, info.id)
                    return
                now = schema(tx, info.id)
                if (
                    now is not None and now.state == "pending"
                ):  # Else a write broke it, or a push replaced it.
                    fail_schema(tx, info, misfit.table, misfit.document_id, misfit.complaint)

            await self._run(finish, "schema check")
        finally:
            self.schema_progress.pop(info.id.internal, None)

    async def _delete(self, table: TableInfo) -> None:
        """Drop the rows of a deleted table, then its row in `_tables`, which kept its number taken."""
        limit = self._limits.store_step_rows
        while await self._committer.between_commits(lambda: self._store.drop_table(table.table_id, limit)):
            pass
        assert table.row is not None
        id = DocumentId(TABLES_TABLE.number, table.row)
        await self._run(lambda tx: tx.delete(id, privileged=True), "table deletion")

    async def _tidy_texts(self) -> None:
        """Fold recent texts and purge gone ones, until few are left."""
        step, store = self._limits.text_fold_rows, self._store
        while store.text_backlog() >= step:
            # The larger the step, the cheaper each text; so much the longer do commits wait for it.
            size = min(max(step, store.text_backlog() // 8), self._limits.text_fold_rows_max)
            folded = await self._committer.between_commits(partial(store.fold_texts, size))
            purged = await self._committer.between_commits(partial(store.purge_texts, size))
            if not folded and not purged:
                return

    async def _keep_house(self) -> None:
        loop = asyncio.get_running_loop()
        more = False
        while True:
            if not more:
                await asyncio.sleep(self._limits.retention_interval_s)
            self._committer.expire_snapshots(loop.time() - self._limits.snapshot_age_s)
            self._committer.log.trim(self._clock.now_ns() - int(self._limits.write_log_s * 1e9))
            try:
                more = await self._retention.step()  # One at a time: snapshots expire however much there is.
            except CvxError as error:
                more = False
                _log.warning("housekeeping failed and is tried again: %s", error)
