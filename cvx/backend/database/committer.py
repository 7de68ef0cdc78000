"""The one writer.

Commits happen one after the other, in timestamp order. A commit is refused if anything in its ReadSet changed
after its snapshot; the caller may run it again on a fresh one. Small commits that arrive within one turn of the
event loop are validated against the log and each other, appended in one store transaction, and published, without
giving up the loop: that is what makes the order. A large one is appended on a thread while the others wait.

Rule: nothing else in this program calls Store.append.

Source: reference/runtime-and-database.md §4.1; design.md §11.9–12.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from cvx.backend.config import Limits
from cvx.backend.database.catalog import Catalog
from cvx.backend.database.contention import ConflictKey, Turn, Turns
from cvx.backend.database.indexes import internal_of_key
from cvx.backend.database.snapshot import Snapshot
from cvx.backend.database.subscriptions import OnCallbackError, Subscriptions
from cvx.backend.database.transaction import Transaction
from cvx.backend.database.write_log import Overlap, WriteLog
from cvx.backend.database.write_set import Prepared
from cvx.backend.store import CommitRecord, Store
from cvx.errors import ConflictError, CvxError
from cvx.values import Clock, DocumentId, Timestamp

T = TypeVar("T")

OnCommit = Callable[[Timestamp], object]
"""Told the timestamp of a commit before anybody else hears of it."""

_CONFLICT_KEYS_MAX = 32
# A commit that comes so long after the last one goes at once; closer together, they are worth gathering.
_ALONE_S = 0.0005


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A small commit in the queue."""

    tx: Transaction
    turn: Turn | None
    on_commit: OnCommit
    ts: asyncio.Future[Timestamp]


class Committer:
    """Holds what is latest: the timestamp, the Catalog, and the snapshot that everybody shares."""

    def __init__(
        self, store: Store, clock: Clock, limits: Limits, catalog: Catalog, on_error: OnCallbackError
    ) -> None:
        self._store = store
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._time = self._loop.time
        self._limits = limits
        self.catalog = catalog
        self.latest_ts: Timestamp = store.latest_ts
        self.log = WriteLog(self.latest_ts, entries_max=limits.write_log_entries_max)
        self.subscriptions = Subscriptions(self.log, on_error)
        self.turns = Turns()
        self.on_catalog: Callable[[Catalog, Catalog], None] = lambda before, after: None
        """Called with the old and the new Catalog after a commit that changed it."""
        self.on_searchable: Callable[[CommitRecord], None] = lambda record: None
        """Called with every commit that changes text or vector indexes."""
        self._lock = asyncio.Lock()
        self._queue: list[_Waiting] = []
        self._flushed_s = 0.0
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

    async def commit(self, tx: Transaction, on_commit: OnCommit = lambda ts: None) -> Timestamp:
        """Make the writes visible and give them their place in the order; not yet durable.

        `on_commit` is called before any subscription is: whoever asked for the commit may have to hold something
        back that rests on it. It must not fail.

        Raises ConflictError and changes nothing when something that was read has changed since the snapshot.
        """
        if not tx.writes.writes:
            tx.close()
            on_commit(tx.snapshot.ts)
            return tx.snapshot.ts  # Nothing to order.
        try:
            if not self.turns.is_quiet:
                await self.turns.may_commit(self.turns.mine())
            await self._store.writable()
            if len(tx.writes.writes) > self._limits.loop_commit_rows_max:
                return await self._to_its_end(self._commit_large(tx, self.turns.mine(), on_commit))
            waiting = _Waiting(tx, self.turns.mine(), on_commit, self._loop.create_future())
            self._queue.append(waiting)
            if len(self._queue) == 1:
                if self._time() - self._flushed_s > _ALONE_S:
                    self._flush()
                else:
                    self._loop.call_soon(self._flush)
            return await waiting.ts
        finally:
            tx.close()

    def _flush(self) -> None:
        """Commit what is queued, in its order."""
        if self._lock.locked():
            self._in_background(self._flush_when_free())
            return
        self._flushed_s = self._time()
        queue, self._queue = self._queue, []
        batch: list[tuple[_Waiting, Prepared]] = []
        for waiting in queue:
            if waiting.ts.cancelled():
                continue  # Nobody waits for it any more, and nothing of it has happened.
            if self.turns.must_wait(waiting.turn):
                self._in_background(self._queue_again(waiting))
                continue
            try:
                self._validate(waiting.tx, waiting.turn)
                prepared = waiting.tx.writes.at(self._next_ts(), waiting.tx.catalog, waiting.tx.write_source)
            except Exception as error:  # edge: not the fault of the others in the batch.
                waiting.ts.set_exception(error)
                continue
            if prepared.record.revisions:
                self.log.append(prepared.changes)  # The rest of the batch is held against it.
                batch.append((waiting, prepared))
            else:
                waiting.on_commit(waiting.tx.snapshot.ts)
                waiting.ts.set_result(waiting.tx.snapshot.ts)  # Everything it wrote it took back.
        if batch:
            self._append(batch)

    def _append(self, batch: list[tuple[_Waiting, Prepared]]) -> None:
        for waiting, _ in batch:
            waiting.tx.close()
        self._drop_shared()  # An idle view would keep the store's log from starting over.
        try:
            self._store.append_many([prepared.record for _, prepared in batch])
        except Exception as error:  # edge: whatever it was, the store has undone it, and somebody waits.
            for waiting, prepared in reversed(batch):
                self.log.retract(prepared.changes)
                waiting.ts.set_exception(error)
            return
        failure: CvxError | None = None
        for waiting, prepared in batch:
            failure = failure or self._publish(prepared, waiting.on_commit)
            if waiting.ts.done():
                continue
            if failure is not None:
                waiting.ts.set_exception(failure)
            else:
                waiting.ts.set_result(prepared.changes.ts)

    def _next_ts(self) -> Timestamp:
        return max(self._clock.now_ns(), self.log.last_ts + 1)

    async def _flush_when_free(self) -> None:
        async with self._lock:
            pass
        self._flush()

    async def _queue_again(self, waiting: _Waiting) -> None:
        await self.turns.may_commit(waiting.turn)
        self._queue.append(waiting)
        if len(self._queue) == 1:
            self._loop.call_soon(self._flush)

    async def _commit_large(self, tx: Transaction, turn: Turn | None, on_commit: OnCommit) -> Timestamp:
        async with self._lock:
            self._validate(tx, turn)
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
                on_commit(tx.snapshot.ts)
                return tx.snapshot.ts
            self._drop_shared()
            self.log.append(prepared.changes)
            failure = self._publish(prepared, on_commit)
            if failure is not None:
                raise failure
            return prepared.changes.ts

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
        return await asyncio.shield(self._in_background(work))

    def _in_background(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.ensure_future(work)
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)
        return task

    async def close(self) -> None:
        """Wait for what is under way, and let go of the shared snapshot."""
        while self._unfinished or self._queue:
            await asyncio.wait({*self._unfinished, asyncio.ensure_future(asyncio.sleep(0))})
        self.expire_snapshots(float("inf"))

    def _publish(self, prepared: Prepared, on_commit: OnCommit) -> CvxError | None:
        """Let everybody see what the store has taken. If that fails, memory and disk say different things, and
        all stops: the failure is for whoever waits."""
        changes = prepared.changes
        try:
            self.latest_ts = changes.ts
            on_commit(changes.ts)
            if prepared.catalog_changes:
                before, self.catalog = self.catalog, self.catalog.applied(prepared.catalog_changes)
                self.on_catalog(before, self.catalog)
            if prepared.record.texts or prepared.record.vectors:
                self.on_searchable(prepared.record)
            self.subscriptions.publish(changes)
        except Exception as error:  # edge: it cannot be taken back, nor left half done.
            return self._store.fail(error)
        return None

    # --------------------------------------------------------------------------------------------- validation

    def _validate(self, tx: Transaction, turn: Turn | None) -> None:
        since = tx.snapshot.ts
        if since == self.log.last_ts and self.turns.is_quiet:
            return  # Nothing has happened since it began.
        held = self.turns.held_by_other(tx.writes.writes, turn)
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
