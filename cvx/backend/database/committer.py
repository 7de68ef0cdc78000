"""The one writer.

Commits happen one at a time, in timestamp order. A commit is refused if anything in its ReadSet changed after
its snapshot; the caller may run it again on a fresh one. A small commit is validated, appended and published
without giving up the event loop, which is what makes the order; a large one is appended on a thread while the
others wait.

Rule: nothing else in this program calls Store.append.

Source: reference/runtime-and-database.md §4.1; design.md §11.9–12.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from cvx.backend.config import Limits
from cvx.backend.database.catalog import Catalog
from cvx.backend.database.contention import ConflictKey, Turns
from cvx.backend.database.indexes import internal_of_key
from cvx.backend.database.snapshot import Snapshot
from cvx.backend.database.subscriptions import OnCallbackError, Subscriptions
from cvx.backend.database.transaction import Transaction
from cvx.backend.database.write_log import Overlap, WriteLog
from cvx.backend.database.write_set import Prepared
from cvx.backend.store import Store
from cvx.errors import ConflictError
from cvx.values import Clock, DocumentId, Timestamp

T = TypeVar("T")

_CONFLICT_KEYS_MAX = 32


class Committer:
    """Holds what is latest: the timestamp, the Catalog, and the snapshot that everybody shares."""

    def __init__(
        self, store: Store, clock: Clock, limits: Limits, catalog: Catalog, on_error: OnCallbackError
    ) -> None:
        self._store = store
        self._clock = clock
        self._time = asyncio.get_running_loop().time
        self._limits = limits
        self.catalog = catalog
        self.latest_ts: Timestamp = store.latest_ts
        self.log = WriteLog(self.latest_ts, entries_max=limits.write_log_entries_max)
        self.subscriptions = Subscriptions(self.log, on_error)
        self.turns = Turns()
        self.on_catalog: Callable[[Catalog, Catalog], None] = lambda before, after: None
        """Called with the old and the new Catalog after a commit that changed it."""
        self._lock = asyncio.Lock()
        self._shared: Snapshot | None = None
        self._open: list[Snapshot] = []
        self._unfinished: set[asyncio.Future[Any]] = set()

    # ---------------------------------------------------------------------------------------------- snapshots

    def snapshot(self) -> Snapshot:
        """The latest state; the caller releases it."""
        now = self._time()
        shared = self._shared
        if shared is None:
            view = self._store.view()
            assert view.ts == self.latest_ts, "a view sees exactly what has been published"
            shared = self._shared = Snapshot(view.ts, self.catalog, view, now)
            self._open.append(shared)
        elif now > shared.used_s:
            shared.used_s = now  # Its age counts from whoever began last.
        return shared.acquire()

    def keep_until(self, snapshot: Snapshot, age_s: float) -> None:
        """Let a snapshot grow older than others before it is closed under its holders."""
        snapshot.used_s = max(snapshot.used_s, self._time() + age_s - self._limits.snapshot_age_s)

    def expire_snapshots(self, before_s: float) -> None:
        """Close snapshots that nobody has begun on since this time on the loop's clock, held or not."""
        kept = []
        for snapshot in self._open:
            if snapshot.used_s < before_s:
                if snapshot is self._shared:
                    self._drop_shared()
                if not snapshot.is_released:
                    snapshot.expire()
            elif not snapshot.is_released:
                kept.append(snapshot)
        self._open = kept

    def _drop_shared(self) -> None:
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.release()

    # ------------------------------------------------------------------------------------------------- commit

    async def commit(self, tx: Transaction) -> Timestamp:
        """Make the writes visible and give them their place in the order; not yet durable.

        Raises ConflictError and changes nothing when something that was read has changed since the snapshot.
        """
        if not tx.writes.writes:
            tx.close()
            return tx.snapshot.ts  # Nothing to order.
        try:
            if not self.turns.is_quiet:
                await self.turns.may_commit()
            await self._store.writable()
            if len(tx.writes.writes) > self._limits.loop_commit_rows_max:
                return await self._to_its_end(self._commit_large(tx))
            if self._lock.locked():
                async with self._lock:
                    return self._commit_small(tx)
            return self._commit_small(tx)
        finally:
            tx.close()

    def _commit_small(self, tx: Transaction) -> Timestamp:
        self._validate(tx)
        ts = self._next_ts()
        prepared = tx.writes.at(ts, tx.catalog, tx.write_source)
        if not prepared.record.revisions:
            return tx.snapshot.ts  # Everything it wrote it took back.
        tx.close()
        self._drop_shared()  # An idle view would keep the store's log from starting over.
        self._store.append(prepared.record)
        self._publish(prepared)
        return ts

    async def _commit_large(self, tx: Transaction) -> Timestamp:
        async with self._lock:
            self._validate(tx)
            ts = self._next_ts()

            def append() -> Prepared:
                prepared = tx.writes.at(ts, tx.catalog, tx.write_source)
                if prepared.record.revisions:
                    self._store.append(prepared.record)
                return prepared

            # Whoever begins meanwhile must not see the commit before it is published.
            with self.snapshot():
                prepared = await asyncio.to_thread(append)
            if not prepared.record.revisions:
                return tx.snapshot.ts
            self._drop_shared()
            self._publish(prepared)
            return ts

    async def between_commits(self, work: Callable[[], T]) -> T:
        """Run something that writes to the store beside the order (filling, trimming) on a thread, while no
        commit is under way."""
        await self._store.writable()
        return await self._to_its_end(self._locked(work))

    async def _locked(self, work: Callable[[], T]) -> T:
        async with self._lock:
            return await asyncio.to_thread(work)

    async def _to_its_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Await something that must not be cut in half, whatever happens to who asked for it."""
        task = asyncio.ensure_future(work)
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Wait for what is under way, and let go of the shared snapshot."""
        while self._unfinished:
            await asyncio.wait(set(self._unfinished))
        self.expire_snapshots(float("inf"))

    def _next_ts(self) -> Timestamp:
        return max(self._clock.now_ns(), self.latest_ts + 1)

    def _publish(self, prepared: Prepared) -> None:
        changes = prepared.changes
        self.latest_ts = changes.ts
        self.log.append(changes)
        if prepared.catalog_changes:
            before, self.catalog = self.catalog, self.catalog.applied(prepared.catalog_changes)
            self.on_catalog(before, self.catalog)
        self.subscriptions.publish(changes)

    # --------------------------------------------------------------------------------------------- validation

    def _validate(self, tx: Transaction) -> None:
        since = tx.snapshot.ts
        if since == self.latest_ts and self.turns.is_quiet:
            return  # Nothing has happened since it began.
        held = self.turns.held_by_other(tx.writes.writes)
        if held is not None:
            raise self._conflict(tx, held, None)
        if not self.log.covers(since):
            raise ConflictError(
                "The transaction ran for so long that it can no longer be checked against what changed meanwhile.",
                details={"table": None, "document_id": None, "write_source": "", "conflict_keys": []},
            )
        overlap = self.log.any_overlap(tx.reads, since)
        if overlap is not None:
            raise self._conflict(tx, None, overlap)

    def _conflict(self, tx: Transaction, held: ConflictKey | None, overlap: Overlap | None) -> ConflictError:
        keys: set[ConflictKey] = set(_existing(tx))
        if overlap is not None:
            index_id, internal = overlap.index_id, internal_of_key(overlap.key)
            source = overlap.write_source
            # Whoever reads the same range next waits in the same line.
            table = self.catalog.owner_of(index_id)
            if overlap.read is not None:
                keys.add((index_id, overlap.read.start))
            elif table is not None:
                keys.add((table.table_id, internal))
        else:
            assert held is not None
            (index_id, internal), source = held, ""
            keys.add(held)
            table = self.catalog.owner_of(index_id)
        name = "some table" if table is None else f'the "{table.name}" table'
        document_id = None if table is None else str(DocumentId(table.number, internal))
        by = f" by {source}" if source else ""
        return ConflictError(
            f"Documents read from or written to {name} changed while this mutation was being run and on every "
            f'subsequent retry. The document with ID "{document_id}" was changed{by}. '
            "See https://docs.convex.dev/error#1",
            details={
                "table": None if table is None else table.name,
                "component": None if table is None else table.component,
                "document_id": document_id,
                "write_source": source,
                "conflict_keys": sorted(keys),
            },
        )


def _existing(tx: Transaction) -> Iterable[ConflictKey]:
    """Documents the transaction changes that were there before: its next attempt will want them again."""
    found = [key for key, write in tx.writes.writes.items() if write.old_raw is not None]
    return found[:_CONFLICT_KEYS_MAX]
