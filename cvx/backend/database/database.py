"""Database: the face of the engine. Open, begin, commit, run, subscribe.

    async with await Database.open(folder, clock=…, limits=…, system_tables=…) as db:
        tx = db.begin(identity)
        id = tx.insert("users", {"name": "Ada"})
        ts = await db.commit(tx)      # ordered and visible
        await db.durable(ts)          # on disk: only now may anybody be told

Source: design.md §3, §5.2; reference/runtime-and-database.md §4.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, overload

from cvx.backend.config import Limits
from cvx.backend.database.backfill import BackfillProgress, fill_index
from cvx.backend.database.bootstrap import (
    cursor_key,
    define_component_tables,
    define_system_tables,
    load_catalog,
    store_id_source,
    system_indexes_backfilling,
)
from cvx.backend.database.catalog import ROOT, Catalog, SystemTable
from cvx.backend.database.committer import Committer, OnCommit
from cvx.backend.database.contention import ConflictKey, Turn
from cvx.backend.database.cursors import CursorCodec
from cvx.backend.database.engine import Engine
from cvx.backend.database.maintenance import Maintenance
from cvx.backend.database.read_set import ReadSet
from cvx.backend.database.reading import check_usable, no_index
from cvx.backend.database.schema_check import SchemaProgress
from cvx.backend.database.snapshot import Snapshot
from cvx.backend.database.subscriptions import Subscription
from cvx.backend.database.transaction import Transaction
from cvx.backend.database.vector_search import VectorSearches
from cvx.backend.database.vectors import vector_query
from cvx.backend.store import BulkFile, FatalCallback, Store, open_store
from cvx.errors import ConflictError, CvxError
from cvx.values import Clock, DocumentId, Timestamp

T = TypeVar("T")
_log = logging.getLogger("cvx.database")
_SEARCHABLE = "searchable"


class Database:
    """Made by `Database.open`. Everything happens on the event loop that opened it."""

    def __init__(self, store: Store, clock: Clock, limits: Limits) -> None:
        self.clock = clock
        self.limits = limits
        self._store = store
        loop = asyncio.get_running_loop()
        self._committer = Committer(store, clock, limits, load_catalog(store), loop.call_exception_handler)
        self._engine = Engine(limits, CursorCodec(cursor_key(store)), store_id_source(store))
        self._vectors = VectorSearches(store, self._committer, limits)
        self._maintenance = Maintenance(
            store, self._committer, clock, limits, self._vectors, self._run_for_maintenance
        )
        self._pinned: OrderedDict[Timestamp, Snapshot] = OrderedDict()

    @staticmethod
    async def open(
        data_dir: Path,
        *,
        clock: Clock,
        limits: Limits | None = None,
        system_tables: Sequence[SystemTable] = (),
        on_fatal: FatalCallback | None = None,
    ) -> Database:
        """Open or create the data in a folder.

        `on_fatal` is called (on any thread) when a write failed in such a way that nobody knows what is on
        disk; the process must stop. Raises CvxError: DataFolderInUse, DataTooNew, DataCorrupt, DataLost.
        """
        limits = limits or Limits()
        store = open_store(data_dir, limits, on_fatal or _report_fatal)
        try:
            db = Database(store, clock, limits)
            await db._start(system_tables)
        except BaseException:  # edge: the folder must be let go of; raised again.
            store.close()
            raise
        return db

    async def _start(self, system_tables: Sequence[SystemTable]) -> None:
        self._maintenance.start()
        await self._fill_unbuilt()

        def define(tx: Transaction) -> None:
            define_system_tables(tx, system_tables)
            for component in tx.catalog.components:
                if component:
                    define_component_tables(tx, system_tables, component)

        await self.run(None, define, write_source="start")
        while any(system_indexes_backfilling(self.catalog)):
            await self._maintenance.idle()  # System code expects its indexes to be there.

    async def _fill_unbuilt(self) -> None:
        """Fill the text and vector indexes of data that an older cvx wrote: it only knew their names."""
        if self._store.get_global(_SEARCHABLE) is not None:
            return
        for table in list(self.catalog.tables()):
            for index in (*table.text_indexes, *table.vector_indexes):
                if index.state != "backfilling":
                    await fill_index(
                        self._store, self._committer, self.limits, table, index, BackfillProgress()
                    )
        self._store.set_global(_SEARCHABLE, b"1")

    async def close(self) -> None:
        """Finish what is under way, put everything on disk, let go of the folder."""
        await self._maintenance.close()
        await self._vectors.close()
        for snapshot in self._pinned.values():
            snapshot.release()
        self._pinned.clear()
        await self._committer.close()
        await asyncio.to_thread(self._store.close)

    async def __aenter__(self) -> Database:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # ------------------------------------------------------------------------------------------------ reading

    @property
    def latest_ts(self) -> Timestamp:
        """The timestamp of the latest commit."""
        return self._committer.latest_ts

    @property
    def catalog(self) -> Catalog:
        """The latest Catalog."""
        return self._committer.catalog

    def snapshot(self) -> Snapshot:
        """The latest state. The caller releases it (`with db.snapshot() as snapshot:`)."""
        return self._committer.snapshot()

    def pin(self) -> Timestamp:
        """The latest timestamp, whose snapshot `snapshot_at` will give for a while (Limits.pinned_snapshot_s)."""
        ts = self.latest_ts
        pinned = self._pinned.pop(ts, None)
        if pinned is not None and pinned.is_expired:
            pinned.release()
            pinned = None
        if pinned is None:
            pinned = self.snapshot()
        self._pinned[ts] = pinned
        self._committer.keep_until(pinned, self.limits.pinned_snapshot_s)
        if len(self._pinned) > self.limits.pinned_snapshots_max:
            self._pinned.popitem(last=False)[1].release()
        return ts

    def snapshot_at(self, ts: Timestamp) -> Snapshot:
        """The state at a timestamp that is latest or was pinned; the caller releases it.

        Raises CvxError "SnapshotTooOld" for any other.
        """
        pinned = self._pinned.get(ts)
        if pinned is not None and not pinned.is_expired:
            return pinned.acquire()
        if ts == self.latest_ts:
            return self.snapshot()
        raise CvxError(
            "SnapshotTooOld",
            f"The state at timestamp {ts} is no longer readable, or never was.",
            kind="out_of_retention",
            hint="Ask for a new timestamp and use it within half a minute.",
            retry_when="time",
        )

    def begin(
        self,
        identity: Any,
        *,
        snapshot: Snapshot | None = None,
        read_only: bool = False,
        write_source: str = "",
        component: str = ROOT,
    ) -> Transaction:
        """A transaction on the latest state, to be committed or closed; or on a snapshot that the caller holds
        for at least as long. `write_source` names its maker in other transactions' conflicts."""
        owns = snapshot is None
        if snapshot is None:
            snapshot = self._committer.snapshot()
        return Transaction(
            self._engine,
            snapshot,
            identity,
            max(snapshot.ts, self.clock.now_ns()),
            read_only=read_only,
            write_source=write_source,
            owns_snapshot=owns,
        )

    async def vector_search(
        self,
        table: str,
        index: str,
        vector: Any,
        limit: Any = None,
        filter: Any = None,
        *,
        component: str = ROOT,
    ) -> list[tuple[DocumentId, float]]:
        """The documents nearest to a vector in the latest state, with their cosine similarity, the nearest first.

        `limit`: 1 to `Limits.vector_results_max` (None: 10). `filter`: an expression as the npm package sends it, or
        None. A missing table has no documents. Raises CvxError: IndexNotFoundError, IndexBackfillingError,
        IndexStagedError, WrongIndexType, and those of `vector_query`."""
        info = None if table[:1] == "_" else self.catalog.table(component, table)
        if info is None:
            return []
        found = info.by_name.get(index)
        if found is None:
            raise no_index(table, index)
        check_usable(info, found, "vector")
        query = vector_query(f"{table}.{index}", found, vector, limit, filter, self.limits)
        hits = await self._vectors.search(found, query)
        await self.durable(hits.ts)
        return [(DocumentId(info.number, internal), score) for internal, score in hits.hits]

    @property
    def vector_memory_bytes(self) -> int:
        """What vectors take in memory now; `Limits.vector_memory_bytes_max` at most, but while one index grows."""
        return self._vectors.memory_bytes

    # ------------------------------------------------------------------------------------------------ writing

    async def commit(self, tx: Transaction, on_commit: OnCommit = lambda ts: None) -> Timestamp:
        """Order the writes and make them visible; the commit's timestamp (of a read-only transaction: its
        snapshot's). Not yet durable. Raises ConflictError, whose details say what changed, who changed it, and
        under "conflict_keys" what to hand to `turn` before trying again.
        `on_commit` is told the timestamp before any subscription hears of the commit."""
        return await self._committer.commit(tx, on_commit)

    async def durable(self, ts: Timestamp) -> None:
        """Return once everything up to `ts` is on disk."""
        await self._store.durable(ts)

    async def load(
        self, bulk: BulkFile, documents: range, entries: range, globals: Mapping[str, bytes]
    ) -> float:
        """Add documents and entries of a bulk file to a hidden table, between commits, and note progress; how many
        seconds others could not commit."""

        def load() -> float:
            begun = time.perf_counter()
            self._store.load(bulk, documents, entries, globals)
            return time.perf_counter() - begun

        return await self._committer.between_commits(load)

    async def fill_hidden(self, row: bytes) -> None:
        """Fill the text and vector indexes of a hidden table (its row in `_tables`) from its documents: `load` brings
        entries of database indexes only. Going on after a restart is fine."""
        info = self.catalog.table_of_row(row)
        for index in () if info is None else (*info.text_indexes, *info.vector_indexes):
            assert info is not None
            await fill_index(self._store, self._committer, self.limits, info, index, BackfillProgress())

    async def changed_after(self, table_id: int, ts: Timestamp) -> bool:
        """Whether some document of a table was written after `ts`; reads all of it, on a thread."""

        def look() -> bool:
            view = self._store.view(detached=True)
            try:
                return view.changed_after(table_id, ts)
            finally:
                view.close()

        return await asyncio.to_thread(look)

    def note(self, name: str) -> bytes | None:
        """What `load` noted last under this name."""
        return self._store.get_global(name)

    def reading_elsewhere(self) -> AbstractContextManager[None]:
        """Inside, another process may hold a snapshot of the data for long."""
        return self._store.reading_elsewhere()

    async def give_back_memory(self) -> None:
        """Return memory to the system that a long piece of work left: pages of the database file, and what is free."""
        await self._committer.between_commits(self._store.give_back_memory)

    async def forget_note(self, name: str) -> None:
        """Remove what `load` noted under this name."""
        await self._committer.between_commits(lambda: self._store.set_global(name, None))

    def turn(self, keys: Collection[ConflictKey], *, conflicts: int = 1) -> AbstractAsyncContextManager[Turn]:
        """Wait in line for what an attempt conflicted on; make the next attempt inside. From
        `Limits.conflicts_before_exclusive` conflicts on, the attempt has the committer to itself."""
        exclusive = conflicts >= self.limits.conflicts_before_exclusive
        return self._committer.turns.turn(keys, exclusive=exclusive)

    @overload
    async def run(
        self,
        identity: Any,
        body: Callable[[Transaction], Coroutine[Any, Any, T]],
        *,
        write_source: str = "",
        component: str = ROOT,
    ) -> tuple[T, Timestamp]: ...

    @overload
    async def run(
        self,
        identity: Any,
        body: Callable[[Transaction], T],
        *,
        write_source: str = "",
        component: str = ROOT,
    ) -> tuple[T, Timestamp]: ...

    async def run(
        self,
        identity: Any,
        body: Callable[[Transaction], Any],
        *,
        write_source: str = "",
        component: str = ROOT,
    ) -> tuple[Any, Timestamp]:
        """Run `body` on fresh transactions until one commits, and wait for the disk; its result and the
        commit's timestamp. Whatever `body` raises ends it, with nothing written."""
        keys: set[ConflictKey] = set()
        conflicts = 0
        while True:
            try:
                if conflicts == 0:
                    result, ts = await self._attempt(identity, body, write_source, component)
                else:
                    async with self.turn(keys, conflicts=conflicts):
                        result, ts = await self._attempt(identity, body, write_source, component)
            except ConflictError as conflict:
                conflicts += 1
                if conflicts >= self.limits.commit_attempts_max:
                    raise
                keys.update(conflict.details["conflict_keys"])
                continue
            await self.durable(ts)
            return result, ts

    async def _attempt(
        self, identity: Any, body: Callable[[Transaction], Any], write_source: str, component: str
    ) -> tuple[Any, Timestamp]:
        with self.begin(identity, write_source=write_source, component=component) as tx:
            result = body(tx)
            if inspect.isawaitable(result):
                result = await result
            return result, await self.commit(tx)

    async def _run_for_maintenance(self, body: Callable[[Transaction], Any], write_source: str) -> None:
        await self.run(None, body, write_source=write_source)

    # ---------------------------------------------------------------------------------------------- reactivity

    def subscribe(
        self, reads: ReadSet, since_ts: Timestamp, on_invalidate: Callable[[Timestamp], None]
    ) -> Subscription:
        """Be told, once, of the first commit after `since_ts` that overlaps what was read. `on_invalidate(ts)`
        is called inside that commit (or inside this call, if it has happened) and must not raise; `reads` must
        not change any more."""
        return self._committer.subscriptions.add(reads, since_ts, on_invalidate)

    # -------------------------------------------------------------------------------------------- background

    async def idle(self) -> None:
        """Wait until no index is being filled and no schema is being checked."""
        await self._maintenance.idle()

    def index_progress(self, id: DocumentId) -> BackfillProgress | None:
        """How far the filling of an index is, while it goes on. `id`: its row in `_indexes`."""
        return self._maintenance.index_progress.get(id.internal)

    def schema_progress(self, id: DocumentId) -> SchemaProgress | None:
        """How far the check of a pending schema is, while it goes on."""
        return self._maintenance.schema_progress.get(id.internal)

    def size_bytes(self) -> int:
        """What the data occupies on disk."""
        return self._store.size_bytes()


def _report_fatal(error: BaseException) -> None:
    _log.critical("the data could not be written to disk: %s", error)
