"""One import at work: from an upload to bulk files, from bulk files to hidden tables, and the last transaction.

Source: see importer.py, whose life cycle this follows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any

import msgspec

from cvx.backend.auth import SYSTEM
from cvx.backend.bulk import (
    FilesUnpacked,
    ImportDone,
    ImportFailed,
    ImportProgress,
    ImportReport,
    ImportSurvey,
    Reading,
    Run,
    RunReady,
    TableDone,
    Uploads,
    check_room,
    read_upload,
)
from cvx.backend.bulk import ImportOrder as ReadOrder
from cvx.backend.config import Limits
from cvx.backend.database import Database, Transaction
from cvx.backend.functions import FileStorage
from cvx.backend.jobs.import_files import FileImport
from cvx.backend.jobs.import_loader import Loader, Position
from cvx.backend.jobs.import_plan import (
    Ended,
    Manifest,
    Target,
    check_nothing_changed,
    deleted,
    deletes,
    plan_import,
    read_manifest,
    show_import,
    untouched,
    write_manifest,
)
from cvx.backend.jobs.import_preview import PreviewLine, preview_text
from cvx.backend.model import transfers
from cvx.backend.model.file_records import FILES
from cvx.backend.model.transfers import ImportOrder, ImportRow
from cvx.backend.store import BulkFile, read_documents
from cvx.errors import CvxError
from cvx.values import COMMIT_TS, Clock, DocumentId, Timestamp, decode

_USUAL = Limits()
_YIELD_ROWS = 50


class ImportWork:
    """Made for each import that a process works on; `run` ends when the import has, or must wait for a restart."""

    def __init__(
        self,
        db: Database,
        files: FileStorage,
        id: DocumentId,
        uploads: Uploads,
        clock: Clock,
        limits: Limits,
        places: asyncio.Semaphore,
    ) -> None:
        self.id = id
        self.confirmed = asyncio.Event()
        self._db = db
        self._files = files
        self._uploads = uploads
        self._clock = clock
        self._limits = limits
        self._places = places
        self._manifest: Manifest | None = None
        self._more = asyncio.Event()
        self._all_read = False
        self._loaded_rows = 0
        self._shown_s = 0.0
        self._messages: list[str] = []

    async def run(self) -> None:
        """Everything there is to do. Raises the CvxError that the import fails with."""
        row = self._row()
        if row is None:
            return
        try:
            folder = self._uploads.folder_of(row.order.upload)
            if row.state == "in_progress":
                self.confirmed.set()
            if row.state == "uploaded":
                await self._prepare_and_load(row, folder)
            else:
                self._manifest = await asyncio.to_thread(read_manifest, folder)
                self._all_read = True
                await self._load(row.order, folder)
            await self._confirmation()
            await self._finish(row.order, folder)
        except Ended:
            return

    async def _prepare_and_load(self, row: ImportRow, folder: Path) -> None:
        async with self._places:
            loading: asyncio.Task[None] | None = None

            def begin_loading() -> None:
                nonlocal loading
                loading = asyncio.create_task(self._load(row.order, folder))

            try:
                await self._prepare(row, folder, begin_loading)
                if loading is not None:
                    await loading
            finally:
                if loading is not None:
                    loading.cancel()
                    await asyncio.wait({loading})
        if loading is None:
            await self._load(row.order, folder)

    # ------------------------------------------------------------------------------------------------- reading

    async def _prepare(self, row: ImportRow, folder: Path, begin_loading: Callable[[], None]) -> None:
        """Read the upload; at the end its row waits for confirmation."""
        created_ms = self._clock.now_ns() // 1_000_000
        order = ReadOrder(
            str(folder), row.order.format, row.order.table, row.order.component, float(created_ms),
            _unusual(self._limits), row.order.skip_unchanged,
        )  # fmt: skip
        for stale in folder.glob("*.run"):
            stale.unlink()
        await self._db.forget_note(note_of(row.order))  # Of an attempt that was cut off.
        reading = await read_upload(order, self._limits)
        try:
            survey = await self._report(reading)
            assert isinstance(survey, ImportSurvey), survey
            if await self._changes_nothing(row.order, survey):
                raise Ended
            (manifest, plan), _ = await self._db.run(
                SYSTEM, lambda tx: plan_import(tx, self.id, row.order, survey), write_source="import"
            )
            self._manifest = manifest
            removes = deletes(row.order, manifest)
            live = any(target.hidden is None for target in manifest.targets)
            if not live and not row.order.dry_run and (row.order.confirmed or not removes):
                begin_loading()
            reading.go_on(plan)
            await self._take_reports(reading, row.order, survey, manifest, folder)
        finally:
            await reading.close()
        await asyncio.to_thread(write_manifest, folder, manifest)
        self._all_read = True
        self._more.set()
        await self._ask(row.order, manifest)

    async def _changes_nothing(self, order: ImportOrder, survey: ImportSurvey) -> bool:
        """Whether everything is there as this upload brought it before; then the import is complete."""
        with self._db.snapshot() as snapshot:
            tx = self._db.begin(SYSTEM, snapshot=snapshot, read_only=True)
            before = untouched(tx, order, survey)
            if before is None:
                return False
            heard: list[Timestamp] = []
            watch = self._db.subscribe(tx.reads, snapshot.ts, heard.append)
        ts, tables = before
        try:
            for table_id, _ in tables:
                if await self._db.changed_after(table_id, ts):
                    return False
            return await self._end_unchanged(order, survey, before, heard)
        finally:
            watch.close()

    async def _end_unchanged(
        self,
        order: ImportOrder,
        survey: ImportSurvey,
        before: tuple[Timestamp, list[tuple[int, int]]],
        heard: list[Timestamp],
    ) -> bool:
        ts, tables = before

        def change(tx: Transaction) -> bool:
            if heard or untouched(tx, order, survey) != before:
                return False  # Something changed while the tables were looked through.
            done = transfers.set_import_state(
                tx, self.id, "completed", after="uploaded", timestamp=ts, unchanged=True,
                num_rows_written=sum(rows for _, rows in tables),
            )  # fmt: skip
            if not done:
                raise Ended
            return True

        unchanged, _ = await self._db.run(SYSTEM, change, write_source="import")
        return unchanged

    async def _take_reports(
        self,
        reading: Reading,
        order: ImportOrder,
        survey: ImportSurvey,
        manifest: Manifest,
        folder: Path,
    ) -> None:
        while True:
            report = await self._report(reading)
            if isinstance(report, RunReady):
                manifest.runs.append((report.table, report.run))
                self._more.set()
                check_room(folder, self._limits)
            elif isinstance(report, TableDone):
                manifest.rows[report.table] = report.rows
            elif isinstance(report, ImportProgress):
                await self._show(
                    "uploaded", rows_parsed=report.rows, bytes_done=report.bytes, bytes_total=survey.bytes
                )
            elif isinstance(report, FilesUnpacked):
                manifest.files = report.files
                there = sum(manifest.files_there.get(component, 0) for component in report.files)
                if order.mode == "requireEmpty" and there:
                    raise CvxError(
                        "TableExists",
                        f"There are {there:,} stored files already.",
                        hint="Replace them (--replace) or add to them (--append).",
                        retry_when="data",
                    )
            elif isinstance(report, ImportDone):
                return

    async def _report(self, reading: Reading) -> ImportReport:
        report = await reading.report()
        if isinstance(report, ImportFailed):
            details: dict[str, Any] = {"line": report.line, "file": report.file}
            raise CvxError(report.code, report.message, retry_when="files", details=details)
        return report

    async def _ask(self, order: ImportOrder, manifest: Manifest) -> None:
        """Let the row wait for confirmation, with what would change."""
        lines = [
            PreviewLine(target.plan.component, target.plan.name, rows, deleted(order, target), target.delete)
            for target, rows in zip(manifest.targets, manifest.rows, strict=True)
        ]
        lines += [PreviewLine(component, name, 0, count, count) for component, name, count in manifest.others]
        for component, files in manifest.files.items():
            there = manifest.files_there.get(component, 0)
            gone = there if order.mode in ("replace", "replaceAll") else 0
            lines.append(PreviewLine(component, FILES, files, gone, there, " files"))
        lines.sort(key=lambda line: (line.component, line.table))

        def change(tx: Transaction) -> None:
            transfers.set_preview(tx, self.id, [line.to_json() for line in lines])
            done = transfers.set_import_state(
                tx, self.id, "waiting_for_confirmation", after="uploaded",
                message_to_confirm=preview_text(lines),
                require_manual_confirmation=any(line.delete for line in lines),
            )  # fmt: skip
            if not done:
                raise Ended

        await self._db.run(SYSTEM, change, write_source="import")

    async def _confirmation(self) -> None:
        await self.confirmed.wait()

    # ------------------------------------------------------------------------------------------------- loading

    async def _load(self, order: ImportOrder, folder: Path) -> None:
        """Take in bulk files as they come; at once where nobody sees it, else after the confirmation."""
        manifest = self._manifest
        assert manifest is not None
        note = note_of(order)
        raw = self._db.note(note)
        position = Position() if raw is None else msgspec.json.decode(raw, type=Position)
        if self._all_read and not self._may_begin(order, manifest):
            await self._confirmation()
        for _, run in manifest.runs[: position.run]:
            self._loaded_rows += run.documents
        loader = Loader(self._db, self._limits, note)
        while True:
            while position.run >= len(manifest.runs):
                if self._all_read:
                    return
                self._more.clear()
                if position.run >= len(manifest.runs) and not self._all_read:
                    await self._more.wait()
            at, run = manifest.runs[position.run]
            target = manifest.targets[at]
            path = folder / run.path
            check_room(folder, self._limits)
            if target.hidden is None:
                await self._append(target, path, run)
            else:
                await self._load_run(loader, target, path, run, position)
            position = Position(position.run + 1)
            self._loaded_rows += run.documents
            path.unlink(missing_ok=True)
            await self._progress(manifest, target)

    def _may_begin(self, order: ImportOrder, manifest: Manifest) -> bool:
        """Whether there is nothing to wait for: what is loaded now is not seen, and nothing is to be deleted."""
        removes = deletes(order, manifest)
        live = any(target.hidden is None for target in manifest.targets)
        return not live and not order.dry_run and not removes

    async def _load_run(
        self, loader: Loader, target: Target, path: Path, run: Run, position: Position
    ) -> None:
        bulk = BulkFile(path, target.table_id, self._db.latest_ts, target.plan.creation_index)
        try:
            await loader.load(bulk, run, position)
        except CvxError as error:
            if error.code != "DuplicateId":
                raise
            id = DocumentId(target.plan.number, error.details["internal"])
            line = error.details["line"]
            raise CvxError(
                "DuplicateId", f"Row {line} has the same _id as another row: {id}.", retry_when="files",
                details={"line": line},
            ) from None  # fmt: skip

    async def _append(self, target: Target, path: Path, run: Run) -> None:
        """Insert a run's documents into a table that lives, some in each commit; each commit notes how many."""
        limits, manifest = self._limits, self._manifest
        assert manifest is not None
        whole = len(manifest.runs) == 1 and run.documents <= limits.import_append_whole_rows
        done = 0
        while done < run.documents:
            row = self._row()
            if row is None or row.state != "in_progress":
                raise Ended
            done = max(done, int(row.detail.get("appended", 0.0)) - self._loaded_rows)
            if done >= run.documents:
                return
            last = run.documents if whole else min(done + limits.import_append_rows, run.documents)
            documents = await asyncio.to_thread(read_documents, path, done, last)
            size = 0
            for count, document in enumerate(documents, 1):
                size += document.size
                if size > (limits.written_bytes_max // 2 if whole else limits.import_append_bytes):
                    documents = documents[:count]
                    whole = False
                    break

            async def insert(tx: Transaction, documents: Any = documents, done: int = done) -> None:
                for at, (_, _, raw, line, _) in enumerate(documents):
                    if at % _YIELD_ROWS == 0:
                        await asyncio.sleep(0)
                    fields = decode(raw)
                    assert isinstance(fields, dict)
                    try:
                        tx.restore(target.plan.name, fields, component=target.plan.component)
                    except CvxError as error:
                        error.details.setdefault("line", line)
                        raise
                total = self._loaded_rows + done + len(documents)
                self._note_progress(tx, manifest, target, total, appended=float(total))

            await self._db.run(SYSTEM, insert, write_source="import")
            done += len(documents)

    async def _progress(self, manifest: Manifest, target: Target) -> None:
        if not self.confirmed.is_set() or time.monotonic() - self._shown_s < self._limits.import_progress_s:
            return
        self._shown_s = time.monotonic()
        await self._db.run(
            SYSTEM,
            lambda tx: self._note_progress(tx, manifest, target, self._loaded_rows),
            write_source="import",
        )

    def _note_progress(
        self, tx: Transaction, manifest: Manifest, target: Target, done: int, **more: float
    ) -> None:
        row = transfers.import_row(tx, self.id)
        if row is None or row.state != "in_progress":
            raise Ended
        total = sum(manifest.rows)
        messages, before = [], 0
        for other, rows in zip(manifest.targets, manifest.rows, strict=True):
            before += rows
            if before <= done and rows:
                messages.append(f'Imported "{other.plan.name}" ({rows:,} documents)')
        detail = {**({"appended": row.detail["appended"]} if "appended" in row.detail else {}), **more}
        transfers.set_import_state(
            tx, self.id, "in_progress", after="in_progress",
            progress_message=f'Importing "{target.plan.name}" ({done:,}/{total:,} documents)',
            checkpoint_messages=messages, rows_done=float(done), rows_total=float(total), **detail,
        )  # fmt: skip

    async def _show(self, state: transfers.ImportState, **detail: float) -> None:
        """Note progress before the confirmation."""
        if time.monotonic() - self._shown_s < self._limits.import_progress_s:
            return
        self._shown_s = time.monotonic()

        def change(tx: Transaction) -> None:
            numbers = {name: float(value) for name, value in detail.items()}
            if not transfers.set_import_state(tx, self.id, state, after=state, **numbers):
                raise Ended

        await self._db.run(SYSTEM, change, write_source="import")

    # --------------------------------------------------------------------------------------------- the last step

    async def _finish(self, order: ImportOrder, folder: Path) -> None:
        """Put everything in its place: one transaction."""
        manifest = self._manifest
        assert manifest is not None
        for target in manifest.targets:
            if target.hidden is not None:
                await self._db.fill_hidden(target.hidden)
        with self._files.reserving() as reservation:
            files = FileImport(self._db, self._files, folder, order.mode, self._limits)
            if manifest.files:
                await files.keep(reservation)
                await files.record_most()
            await self._db.run(SYSTEM, self._last_step(order, manifest, files), write_source="import")
            await files.remove_rest()

    def _last_step(
        self, order: ImportOrder, manifest: Manifest, files: FileImport
    ) -> Callable[[Transaction], Coroutine[Any, Any, None]]:
        async def change(tx: Transaction) -> None:
            row = transfers.import_row(tx, self.id)
            if row is None or row.state != "in_progress":
                raise Ended
            check_nothing_changed(tx, order, manifest)
            show_import(tx, order, manifest)
            if manifest.files:
                await files.record(tx)
            transfers.set_import_state(
                tx, self.id, "completed", after="in_progress",
                timestamp=COMMIT_TS, num_rows_written=sum(manifest.rows),
            )  # fmt: skip
            if manifest.digest is not None and not manifest.files:
                brought = [
                    transfers.Brought(target.plan.component, target.plan.name, target.hidden, rows)
                    for target, rows in zip(manifest.targets, manifest.rows, strict=True)
                    if target.hidden is not None
                ]
                transfers.set_brought(tx, self.id, manifest.digest, brought)

        return change

    def _row(self) -> ImportRow | None:
        with self._db.snapshot() as snapshot:
            return transfers.import_row(self._db.begin(SYSTEM, snapshot=snapshot, read_only=True), self.id)


def _unusual(limits: Limits) -> dict[str, Any]:
    """The limits of imports that are not as usual, for the process that reads."""
    return {
        field.name: getattr(limits, field.name)
        for field in fields_of(Limits)
        if field.name.startswith("import") and getattr(limits, field.name) != getattr(_USUAL, field.name)
    }


def note_of(order: ImportOrder) -> str:
    """Under which name the store notes how far loading is."""
    return f"import:{order.upload}"
