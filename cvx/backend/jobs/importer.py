"""Imports: an upload becomes rows of hidden tables, which take their places in one transaction at the end.

The life of one import, whose row in `_snapshot_imports` always says where it is:

1. uploaded: a process of its own, or for a small upload a thread (bulk/reading.py), reads it and writes bulk files. The
   tables they are for exist already, hidden. Once everything was read, it is known exactly what would change.
2. waiting_for_confirmation. Where nothing would be deleted, loading begins before the answer: nobody can see it.
3. in_progress: bulk files go into the hidden tables, in steps between other people's commits. Each step notes how
   far it is, so a restart goes on from there.
4. completed: one small transaction puts the hidden tables in the others' places. Or failed (also: canceled): the
   hidden tables go away, and everything is as it was.

`append` to a table that has documents is the exception: its rows are inserted into the live table, a few thousand a
commit, and each commit notes how far it is.

Rule: whatever moment the process dies at, the tables are as before or as after.

Source: design.md §5.3; reference/cli-and-deploy.md §5.3; fault-list.md lines 6–9.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cvx.backend.auth import SYSTEM
from cvx.backend.bulk import Uploads
from cvx.backend.config import Limits
from cvx.backend.database import Database, Transaction, staging
from cvx.backend.functions import FileStorage
from cvx.backend.jobs.import_work import ImportWork, note_of
from cvx.backend.model import transfers
from cvx.backend.model.transfers import ImportOrder, ImportRow
from cvx.errors import CvxError
from cvx.protocol.transfers import check_destination
from cvx.values import Clock, DocumentId, Timestamp

_log = logging.getLogger("cvx.imports")
CANCELED = "Import canceled"
_SWEEP_S = 3_600.0
_FORGET_ROWS = 200
_LARGE_ROWS = 100_000  # What an import of fewer rows leaves in memory is not worth emptying the caches for.
_COUNTED = ("num_rows_written", "rows_done", "rows_parsed")


@dataclass(slots=True)
class _Running:
    work: ImportWork
    task: asyncio.Task[None]


class ImportService:
    """`start` goes on with what an earlier process left; `close` lets the next one do so."""

    def __init__(self, db: Database, files: FileStorage, folder: Path, clock: Clock, limits: Limits) -> None:
        self._db = db
        self._files = files
        self._folder = folder
        self._clock = clock
        self._limits = limits
        self._places = asyncio.Semaphore(limits.imports_running_max)
        self._running: dict[DocumentId, _Running] = {}
        self._sweeping: asyncio.Task[None] | None = None
        self.uploads = Uploads(folder, limits)

    async def start(self) -> None:
        """Resume unfinished imports; drop hidden tables that belong to none."""

        def look(tx: Transaction) -> list[ImportRow]:
            rows = transfers.unfinished_imports(tx)
            claimed = {hidden for row in rows for hidden in row.hidden}
            for table in tx.catalog.hidden():
                if table.row is not None and table.row not in claimed:
                    staging.discard_table(tx, table.row)
            return rows

        rows, _ = await self._db.run(SYSTEM, look, write_source="imports")
        await asyncio.to_thread(self.uploads.sweep, keep={row.order.upload for row in rows})
        for row in rows:
            self._begin(row.id)
        self._sweeping = asyncio.create_task(self._sweep())

    async def close(self) -> None:
        """Stop working; every import stays where it is."""
        tasks = [running.task for running in self._running.values()]
        if self._sweeping is not None:
            tasks.append(self._sweeping)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------------------------------------------- what for

    async def submit(self, order: ImportOrder, part_tokens: Sequence[object]) -> DocumentId:
        """Begin the import of an upload that is complete. Raises CvxError: UploadNotFound, InvalidPartToken,
        InvalidImport, InvalidName, and `ComponentNotFound`."""
        check_destination(order.format, order.table)
        await asyncio.to_thread(self.uploads.finish, order.upload, part_tokens)
        id, _ = await self._db.run(SYSTEM, lambda tx: transfers.new_import(tx, order), write_source="import")
        self._begin(id)
        return id

    async def confirm(self, text: str) -> None:
        """Let an import go on that waits for it; nothing happens when it went on already. Raises CvxError:
        ImportNotFound, ImportNotReady."""

        def change(tx: Transaction) -> ImportRow:
            row = transfers.require_import(tx, text)
            if row.state == "waiting_for_confirmation" and not row.order.dry_run:
                transfers.set_import_state(
                    tx, row.id, "in_progress", after="waiting_for_confirmation",
                    progress_message="Importing", checkpoint_messages=[],
                )  # fmt: skip
            elif row.state == "failed" and row.detail.get("error_code") != "ImportCanceled":
                pass  # It failed while somebody was asked; the row tells them why.
            elif row.state in ("uploaded", "failed") or row.order.dry_run:
                raise CvxError(
                    "ImportNotReady", f"The import cannot be performed: it is {row.state}.",
                    kind="conflict", hint="Wait until it asks for confirmation.", retry_when="time",
                )  # fmt: skip
            return row

        row, _ = await self._db.run(SYSTEM, change, write_source="perform_import")
        running = self._running.get(row.id)
        if running is not None:
            running.work.confirmed.set()

    async def cancel(self, text: str) -> None:
        """End an import; one that was completed stays so. Raises CvxError "ImportNotFound"."""

        def change(tx: Transaction) -> ImportRow:
            row = transfers.require_import(tx, text)
            if row.state in transfers.UNFINISHED:
                end_import(tx, row, error_message=CANCELED, error_code="ImportCanceled")
            return row

        row, _ = await self._db.run(SYSTEM, change, write_source="cancel_import")
        running = self._running.pop(row.id, None)
        if running is not None:
            running.task.cancel()
            await asyncio.gather(running.task, return_exceptions=True)
        if row.state in transfers.UNFINISHED:
            await self._forget(row)

    async def import_body(self, order: ImportOrder, body: AsyncIterator[bytes]) -> int:
        """Import a whole file that comes as one body, without asking; how many documents. Raises what made it
        fail."""
        token = self.uploads.begin()
        part = await self.uploads.put(token, 1, body)
        order = ImportOrder(order.mode, order.format, order.table, token, order.component, confirmed=True)
        id = await self.submit(order, [part])
        try:
            return await self._follow(id)
        except asyncio.CancelledError:
            await self.cancel(str(id))
            raise

    async def _follow(self, id: DocumentId) -> int:
        """Confirm an import and wait for its end."""
        while True:
            changed = asyncio.Event()
            with self._db.snapshot() as snapshot:
                tx = self._db.begin(SYSTEM, snapshot=snapshot, read_only=True)
                row = transfers.import_row(tx, id)
                subscription = self._db.subscribe(tx.reads, snapshot.ts, partial(_set, changed))
            try:
                if row is None or row.state == "failed":
                    detail = {} if row is None else row.detail
                    raise CvxError(
                        detail.get("error_code", "ImportFailed"),
                        detail.get("error_message", "The import is gone."),
                        retry_when="files",
                    )
                if row.state == "completed":
                    return int(row.detail["num_rows_written"])
                if row.state == "waiting_for_confirmation":
                    await self.confirm(str(id))
                await changed.wait()
            finally:
                subscription.close()

    # ------------------------------------------------------------------------------------------------ the work

    def _begin(self, id: DocumentId) -> None:
        work = ImportWork(self._db, self._files, id, self.uploads, self._clock, self._limits, self._places)
        task = asyncio.create_task(self._insist(work), name=f"import {id}")
        self._running[id] = _Running(work, task)
        task.add_done_callback(lambda _: self._running.pop(id, None))

    async def _insist(self, work: ImportWork) -> None:
        try:
            await work.run()
        except CvxError as error:
            await self._fail(work.id, error)
        except Exception as error:  # edge: one import's failure must not be silent, nor stop others.
            _log.exception("import %s failed", work.id)
            await self._fail(
                work.id, CvxError("ImportFailed", f"The import failed: {error}.", kind="internal")
            )
        row = await self._row(work.id)
        if row is not None and row.state not in transfers.UNFINISHED:
            await self._forget(row)

    async def _fail(self, id: DocumentId, error: CvxError) -> None:
        def change(tx: Transaction) -> None:
            row = transfers.import_row(tx, id)
            if row is not None and row.state in transfers.UNFINISHED:
                details = {name: error.details[name] for name in ("line", "file") if error.details.get(name)}
                end_import(
                    tx, row, error_message=f"Hit an error while importing:\n{error.message}",
                    error_code=error.code, error_hint=error.hint, rows_written=row.detail.get("appended"),
                    **{f"error_{name}": float(v) if type(v) is int else v for name, v in details.items()},
                )  # fmt: skip

        try:
            await self._db.run(SYSTEM, change, write_source="import")
        except CvxError as second:
            _log.warning("import %s could not be marked failed and is tried again: %s", id, second)

    async def _forget(self, row: ImportRow) -> None:
        """Remove what an import that has ended leaves outside of the tables."""
        try:  # First: it waits for a step of loading that is under way, which would make its bulk file anew.
            await self._db.forget_note(note_of(row.order))
        finally:
            await asyncio.to_thread(self.uploads.discard, row.order.upload)
        if max(row.detail.get(name) or 0 for name in _COUNTED) >= _LARGE_ROWS:
            await self._db.give_back_memory()

    async def _row(self, id: DocumentId) -> ImportRow | None:
        with self._db.snapshot() as snapshot:
            return transfers.import_row(self._db.begin(SYSTEM, snapshot=snapshot, read_only=True), id)

    async def _sweep(self) -> None:
        """Once an hour: give up imports that wait too long for their confirmation, forget old ones."""
        limits = self._limits
        while True:
            await asyncio.sleep(_SWEEP_S)
            now_ms = self._clock.now_ns() / 1e6
            with self._db.snapshot() as snapshot:
                rows = transfers.unfinished_imports(self._db.begin(SYSTEM, snapshot=snapshot, read_only=True))
            try:
                for row in rows:
                    waits = row.state == "waiting_for_confirmation"
                    if waits and row.created_ms < now_ms - limits.import_expiry_s * 1e3:
                        await self.cancel(str(row.id))
                forget = partial(
                    transfers.forget_old_imports,
                    before_ms=now_ms - limits.import_kept_s * 1e3,
                    limit=_FORGET_ROWS,
                )
                await self._db.run(SYSTEM, forget, write_source="imports")
                await asyncio.to_thread(self.uploads.sweep, keep={row.order.upload for row in rows})
            except CvxError as error:
                _log.warning("the sweep of imports failed and is tried again: %s", error)


def _set(event: asyncio.Event, ts: Timestamp) -> None:
    event.set()


def end_import(tx: Transaction, row: ImportRow, **detail: object) -> None:
    """Mark an import failed, and make its hidden tables go away."""
    for hidden in row.hidden:
        staging.discard_table(tx, hidden)
    shown = {name: value for name, value in detail.items() if value is not None}
    transfers.set_import_state(tx, row.id, "failed", after=row.state, **shown)
