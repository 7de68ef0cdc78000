"""One import at work: from an upload to bulk files, from bulk files to hidden tables, and the last transaction.

Source: see importer.py, whose life cycle this follows.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any

import msgspec

from cvx.backend.auth import SYSTEM
from cvx.backend.bulk import (
    IMPORT_PROGRAM,
    FoundTable,
    ImportDone,
    ImportFailed,
    ImportPlan,
    ImportProgress,
    ImportReport,
    ImportSurvey,
    Run,
    RunReady,
    TableDone,
    TablePlan,
    Uploads,
)
from cvx.backend.bulk import ImportOrder as ReadOrder
from cvx.backend.config import Limits
from cvx.backend.database import Database, TableInfo, Transaction, definitions, staging
from cvx.backend.jobs.import_preview import PreviewLine, preview_text
from cvx.backend.model import transfers
from cvx.backend.model.transfers import ImportOrder, ImportRow
from cvx.backend.store import BulkFile, read_documents
from cvx.errors import CvxError
from cvx.values import COMMIT_TS, Clock, DocumentId, decode

_USUAL = Limits()
_YIELD_ROWS = 50


class Target(msgspec.Struct, frozen=True):
    """A table of the import: where its rows go. `hidden`: its row in `_tables`; None: it lives, and is added to.
    `delete`: how many documents it had when that was looked up."""

    plan: TablePlan
    table_id: int
    hidden: bytes | None
    delete: int


class Manifest(msgspec.Struct):
    """What is known of an import once its upload was read; kept beside the bulk files.

    `runs`: (place in `targets`, the file). `schemas`: the texts that documents were checked against. `others`:
    tables that `replaceAll` deletes, with their numbers of documents.
    """

    targets: list[Target]
    schemas: dict[str, str]
    rows: list[int]
    runs: list[tuple[int, Run]] = []
    others: list[tuple[str, str, int]] = []
    storage: bool = False


class Position(msgspec.Struct):
    """How far loading is: the run, and how much of it."""

    run: int = 0
    documents: int = 0
    entries: int = 0


class _Ended(Exception):
    """The row is not in the state this work is about any more: somebody canceled it."""


class ImportWork:
    """Made for each import that a process works on; `run` ends when the import has, or must wait for a restart."""

    def __init__(
        self,
        db: Database,
        id: DocumentId,
        uploads: Uploads,
        clock: Clock,
        limits: Limits,
        places: asyncio.Semaphore,
    ) -> None:
        self.id = id
        self.confirmed = asyncio.Event()
        self._db = db
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
                self._manifest = await asyncio.to_thread(_read_manifest, folder)
                self._all_read = True
                await self._load(row.order, folder)
            await self._confirmation()
            await self._finish(row.order)
        except _Ended:
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
            _unusual(self._limits),
        )  # fmt: skip
        for stale in folder.glob("*.run"):
            stale.unlink()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", IMPORT_PROGRAM,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=8 << 20,
        )  # fmt: skip
        try:
            assert process.stdin is not None
            process.stdin.write(msgspec.json.encode(order) + b"\n")
            survey = await self._report(process)
            assert isinstance(survey, ImportSurvey), survey
            (manifest, plan), _ = await self._db.run(
                SYSTEM, lambda tx: _plan(tx, self.id, row.order, survey), write_source="import"
            )
            self._manifest = manifest
            deletes = any(target.delete for target in manifest.targets) or bool(manifest.others)
            live = any(target.hidden is None for target in manifest.targets)
            if not live and not row.order.dry_run and (row.order.confirmed or not deletes):
                begin_loading()
            process.stdin.write(msgspec.json.encode(plan) + b"\n")
            await self._take_reports(process, survey, manifest)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        await asyncio.to_thread(_write_manifest, folder, manifest)
        self._all_read = True
        self._more.set()
        await self._ask(row.order, manifest)

    async def _take_reports(
        self, process: asyncio.subprocess.Process, survey: ImportSurvey, manifest: Manifest
    ) -> None:
        while True:
            report = await self._report(process)
            if isinstance(report, RunReady):
                manifest.runs.append((report.table, report.run))
                self._more.set()
            elif isinstance(report, TableDone):
                manifest.rows[report.table] = report.rows
            elif isinstance(report, ImportProgress):
                await self._show(
                    "uploaded", rows_parsed=report.rows, bytes_done=report.bytes, bytes_total=survey.bytes
                )
            elif isinstance(report, ImportDone):
                return

    async def _report(self, process: asyncio.subprocess.Process) -> ImportReport:
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            code = await process.wait()
            raise CvxError(
                "ImportFailed", f"The process that reads the file ended with status {code}.",
                kind="internal", hint="Import again.", retry_when="time",
            )  # fmt: skip
        report: ImportReport = msgspec.json.decode(line, type=ImportReport)
        if isinstance(report, ImportFailed):
            details: dict[str, Any] = {"line": report.line, "file": report.file}
            raise CvxError(report.code, report.message, retry_when="files", details=details)
        return report

    async def _ask(self, order: ImportOrder, manifest: Manifest) -> None:
        """Let the row wait for confirmation, with what would change."""
        lines = [
            PreviewLine(target.plan.component, target.plan.name, rows, _deleted(order, target), target.delete)
            for target, rows in zip(manifest.targets, manifest.rows, strict=True)
        ]
        lines += [PreviewLine(component, name, 0, count, count) for component, name, count in manifest.others]
        lines.sort(key=lambda line: (line.component, line.table))

        def change(tx: Transaction) -> None:
            transfers.set_preview(tx, self.id, [line.to_json() for line in lines])
            done = transfers.set_import_state(
                tx, self.id, "waiting_for_confirmation", after="uploaded",
                message_to_confirm=preview_text(lines),
                require_manual_confirmation=any(line.delete for line in lines),
            )  # fmt: skip
            if not done:
                raise _Ended

        await self._db.run(SYSTEM, change, write_source="import")

    async def _confirmation(self) -> None:
        await self.confirmed.wait()

    # ------------------------------------------------------------------------------------------------- loading

    async def _load(self, order: ImportOrder, folder: Path) -> None:
        """Take in bulk files as they come; at once where nobody sees it, else after the confirmation."""
        manifest = self._manifest
        assert manifest is not None
        note = f"import:{order.upload}"
        raw = self._db.note(note)
        position = Position() if raw is None else msgspec.json.decode(raw, type=Position)
        if self._all_read and not self._may_begin(order, manifest):
            await self._confirmation()
        for _, run in manifest.runs[: position.run]:
            self._loaded_rows += run.documents
        loader = _Loader(self._db, self._limits, note)
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
        deletes = any(target.delete for target in manifest.targets) or bool(manifest.others)
        live = any(target.hidden is None for target in manifest.targets)
        return not live and not order.dry_run and not deletes

    async def _load_run(
        self, loader: _Loader, target: Target, path: Path, run: Run, position: Position
    ) -> None:
        bulk = BulkFile(path, target.table_id, self._db.latest_ts)
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
                raise _Ended
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
                for at, (_, _, raw, line) in enumerate(documents):
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
            raise _Ended
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
                raise _Ended

        await self._db.run(SYSTEM, change, write_source="import")

    # --------------------------------------------------------------------------------------------- the last step

    async def _finish(self, order: ImportOrder) -> None:
        """Put everything in its place: one transaction."""
        manifest = self._manifest
        assert manifest is not None
        for target in manifest.targets:
            if target.hidden is not None:
                await self._db.fill_hidden(target.hidden)

        def change(tx: Transaction) -> None:
            row = transfers.import_row(tx, self.id)
            if row is None or row.state != "in_progress":
                raise _Ended
            _check_nothing_changed(tx, order, manifest)
            _swap(tx, order, manifest)
            transfers.set_import_state(
                tx, self.id, "completed", after="in_progress",
                timestamp=COMMIT_TS, num_rows_written=sum(manifest.rows),
            )  # fmt: skip

        await self._db.run(SYSTEM, change, write_source="import")

    def _row(self) -> ImportRow | None:
        with self._db.snapshot() as snapshot:
            return transfers.import_row(self._db.begin(SYSTEM, snapshot=snapshot, read_only=True), self.id)


class _Loader:
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
            took = await self._step(bulk, range(documents, last), range(0), Position(position.run, last, 0))
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


# ------------------------------------------------------------------------------------- what goes where, and whether


def _plan(
    tx: Transaction, id: DocumentId, order: ImportOrder, survey: ImportSurvey
) -> tuple[Manifest, ImportPlan]:
    """Decide where each table goes, and create the hidden ones. Raises CvxError: TableExists, InvalidName,
    TableNumberConflict, ComponentsNotSupported, ImportEnded."""
    row = transfers.import_row(tx, id)
    if row is None or row.state != "uploaded":
        raise _Ended
    for stale in row.hidden:
        staging.discard_table(tx, stale)
    targets = [_target(tx, order, table) for table in survey.tables]
    transfers.set_hidden_tables(tx, id, [target.hidden for target in targets if target.hidden is not None])
    components = sorted({order.component, *(target.plan.component for target in targets)})
    schemas: dict[str, str] = {}
    names: dict[str, dict[str, str]] = {}
    for component in components:
        active = definitions.active_schema(tx, component=component)
        if active is not None:
            schemas[component] = active.text
        numbers = {str(number): name for name, number in tx.catalog.numbers(component).items()}
        mine = {t.plan.name: t.plan.number for t in targets if t.plan.component == component}
        names[component] = {number: name for number, name in numbers.items() if name not in mine} | {
            str(number): name for name, number in mine.items()
        }
    others: list[tuple[str, str, int]] = []
    if order.mode == "replaceAll":
        imported = {(target.plan.component, target.plan.name) for target in targets}
        for table in _user_tables(tx, order.component):
            if (table.component, table.name) not in imported:
                count = tx.count(table.name, component=table.component)
                others.append((table.component, table.name, count))
    manifest = Manifest(targets, schemas, [0] * len(targets), [], others, survey.storage)
    return manifest, ImportPlan([target.plan for target in targets], names, schemas)


def _target(tx: Transaction, order: ImportOrder, found: FoundTable) -> Target:
    component, name = found.component or order.component, found.name
    if component not in tx.catalog.components:
        raise CvxError("ComponentNotFound", f"There is no component {component!r}.", kind="not_found")
    info = tx.table(name, component=component)
    count = 0 if info is None else tx.count(name, component=component)
    if order.mode == "requireEmpty" and count:
        raise CvxError(
            "TableExists",
            f"Table {name} already exists and has {count:,} documents.",
            hint="Replace them (--replace), add to them (--append), or choose another table.",
            retry_when="data",
        )
    if order.mode == "append" and info is not None and count:
        if found.number not in (None, info.number):
            raise CvxError(
                "TableNumberConflict",
                f'The ids of table "{name}" carry the table number {found.number}, and the table that is there '
                f"has {info.number}.",
                hint="Leave the field _id out to append these documents under new ids.",
                retry_when="files",
            )
        plan = TablePlan(component, name, info.number, 0, [], keyed=False)
        return Target(plan, info.table_id, None, count)
    hidden = staging.hide_table(tx, name, number=found.number, component=component)
    indexes = [
        (index.index_id, [list(path) for path in index.paths])
        for index in hidden.indexes
        if index.has_entries
    ]
    plan = TablePlan(component, name, hidden.number, hidden.by_creation_time.index_id, indexes)
    return Target(plan, hidden.table_id, hidden.row, count)


def _user_tables(tx: Transaction, component: str) -> list[TableInfo]:
    return sorted(
        (table for table in tx.catalog.tables(component) if not table.is_system), key=lambda table: table.name
    )


def _deleted(order: ImportOrder, target: Target) -> int:
    return target.delete if order.mode in ("replace", "replaceAll") else 0


def _check_nothing_changed(tx: Transaction, order: ImportOrder, manifest: Manifest) -> None:
    """What was true when the rows were read must be so when they appear."""
    for component, text in manifest.schemas.items():
        active = definitions.active_schema(tx, component=component)
        if (None if active is None else active.text) != text:
            raise _schema_changed()
    for target in manifest.targets:
        plan = target.plan
        if plan.component not in manifest.schemas and definitions.active_schema(tx, component=plan.component):
            raise _schema_changed()
        if target.hidden is not None and order.mode in ("requireEmpty", "append"):
            count = tx.count(plan.name, component=plan.component)
            if count:
                raise CvxError(
                    "TableExists", f"Table {plan.name} was empty when the import began, and has {count:,} documents now.",
                    hint="Import again.", retry_when="data",
                )  # fmt: skip


def _schema_changed() -> CvxError:
    return CvxError(
        "ImportSchemaChanged", "The schema changed while the import was running.",
        hint="Import again: the documents are then checked against the new schema.", retry_when="time",
    )  # fmt: skip


def _swap(tx: Transaction, order: ImportOrder, manifest: Manifest) -> None:
    imported = {target.plan.name for target in manifest.targets}
    gone: set[str] = set()
    for target in manifest.targets:
        info = tx.table(target.plan.name, component=target.plan.component)
        if info is not None and info.number != target.plan.number:
            gone.add(target.plan.name)
    schema = definitions.active_schema(tx, component=order.component)
    in_schema = set() if schema is None else set(schema.schema.tables) | schema.schema.referenced_tables()
    others = [] if order.mode != "replaceAll" else _user_tables(tx, order.component)
    emptied = [table for table in others if table.name not in imported and table.name in in_schema]
    staging.check_references(tx, gone, imported | {table.name for table in emptied}, order.component)
    for target in manifest.targets:
        if target.hidden is not None:
            staging.show_table(tx, target.hidden)
    for table in others:
        if table.name in imported:
            continue
        if table in emptied:
            empty = staging.hide_table(tx, table.name, number=table.number, component=table.component)
            assert empty.row is not None
            staging.show_table(tx, empty.row)
        else:
            definitions.retire_table(tx, table)


# ----------------------------------------------------------------------------------------------------- the folder


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    path = folder / "manifest.json"
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        file.write(msgspec.json.encode(manifest))
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_manifest(folder: Path) -> Manifest:
    return msgspec.json.decode((folder / "manifest.json").read_bytes(), type=Manifest)


def _unusual(limits: Limits) -> dict[str, Any]:
    """The limits of imports that are not as usual, for the process that reads."""
    return {
        field.name: getattr(limits, field.name)
        for field in fields_of(Limits)
        if field.name.startswith("import") and getattr(limits, field.name) != getattr(_USUAL, field.name)
    }
