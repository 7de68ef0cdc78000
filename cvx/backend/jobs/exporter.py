"""Exports: one snapshot of the deployment as a ZIP that is kept for a while, or of one table as a stream.

The life of an export, whose row in `_exports` always says where it is: requested → in_progress → completed (or failed,
or canceled). A process of its own (export_child.py) reads the snapshot and writes the ZIP; nobody's writes wait for
it. After a restart an unfinished export begins again.

Rule: a ZIP has its name only once it is whole and on disk.

Source: reference/cli-and-deploy.md §5.4; fault-list.md lines 6–9.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from cvx.backend.auth import SYSTEM
from cvx.backend.bulk import (
    EXPORT_PROGRAM,
    ExportBegun,
    ExportDone,
    ExportFailed,
    ExportOrder,
    ExportProgress,
    ExportReport,
    StoredFile,
)
from cvx.backend.config import Limits
from cvx.backend.database import Database, Transaction
from cvx.backend.functions import FileStorage
from cvx.backend.model import components, transfers
from cvx.backend.model.transfers import ExportRow
from cvx.errors import CvxError
from cvx.protocol.transfers import TableFormat
from cvx.values import Clock, DocumentId

_log = logging.getLogger("cvx.exports")
_SWEEP_S = 3_600.0


@dataclass(frozen=True, slots=True)
class ReadyExport:
    """A ZIP that can be sent."""

    path: Path
    size: int
    start_ts: int


@dataclass(frozen=True, slots=True)
class TableStream:
    """One table as text. `rows`: how many there were a moment before its snapshot, for showing progress."""

    pieces: AsyncIterator[bytes]
    rows: int


class ExportService:
    """`start` goes on with what an earlier process left; `close` lets the next one do so."""

    def __init__(
        self, db: Database, files: FileStorage, data: Path, folder: Path, clock: Clock, limits: Limits
    ) -> None:
        self._db = db
        self._files = files
        self._data = data
        self._folder = folder
        self._clock = clock
        self._limits = limits
        self._streams = 0
        self._tasks: dict[DocumentId, asyncio.Task[None]] = {}
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin again what was cut off."""
        with self._db.snapshot() as snapshot:
            tx = self._db.begin(SYSTEM, snapshot=snapshot, read_only=True)
            pending = transfers.pending_exports(tx)
        for row in pending:
            self._begin(row)
        self._sweeping = asyncio.create_task(self._sweep())

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        if self._sweeping is not None:
            tasks.append(self._sweeping)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------------------------------------------- requests

    async def request(
        self,
        *,
        include_storage: bool,
        tables: list[str] | None = None,
        stored: bool = False,
        component: str = "",
    ) -> DocumentId:
        """Begin an export. Raises CvxError "ExportInProgress", "TableNotFound" and "ComponentNotFound"."""
        expires = self._clock.now_ns() + int(self._limits.exports_kept_s * 1e9)

        def change(tx: Transaction) -> ExportRow:
            path = component_path(tx, component)
            for name in tables or ():
                if tx.table(name, component=path) is None:
                    raise CvxError("TableNotFound", f"There is no table '{name[:64]}'.", kind="not_found")
            id = transfers.new_export(
                tx, include_storage=include_storage, tables=tables, stored=stored, expiration_ts=expires,
                component=path,
            )  # fmt: skip
            return transfers.export_row(tx, str(id))

        row, _ = await self._db.run(SYSTEM, change, write_source="export")
        self._begin(row)
        return row.id

    async def cancel(self, name: str) -> None:
        """End an export that is under way; one that is complete stays. Raises CvxError "ExportNotFound"."""

        def change(tx: Transaction) -> ExportRow:
            row = transfers.export_row(tx, name)
            if row.state in ("requested", "in_progress"):
                transfers.change_export(tx, row.id, after=row.state, state="canceled")
            return row

        row, _ = await self._db.run(SYSTEM, change, write_source="export")
        task = self._tasks.get(row.id)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def set_expiration(self, name: str, expiration_ts: int) -> None:
        """Keep an export until then (ns since 1970). Raises CvxError "ExportNotFound"."""

        def change(tx: Transaction) -> None:
            row = transfers.export_row(tx, name)
            transfers.change_export(tx, row.id, after=row.state, expiration_ts=expiration_ts)

        await self._db.run(SYSTEM, change, write_source="export")

    async def ready(self, name: str) -> ReadyExport:
        """The ZIP of an export, by its id or start timestamp. Raises CvxError "ExportNotFound", "ExportNotReady"."""
        with self._db.snapshot() as snapshot:
            row = transfers.export_row(self._db.begin(SYSTEM, snapshot=snapshot, read_only=True), name)
        path = self._folder / f"{row.id}.zip"
        if row.state != "completed" or row.start_ts is None or not await asyncio.to_thread(path.is_file):
            gone = row.state == "completed"
            raise CvxError(
                "ExportNotFound" if gone else "ExportNotReady",
                f"The export is {'no longer kept' if gone else row.state}.",
                kind="not_found" if gone else "conflict",
                hint="Export again." if gone else "Wait until it is complete.",
            )
        return ReadyExport(path, (await asyncio.to_thread(path.stat)).st_size, row.start_ts)

    # --------------------------------------------------------------------------------------------------- a table

    @contextlib.asynccontextmanager
    async def table(self, name: str, format: TableFormat, component: str = "") -> AsyncIterator[TableStream]:
        """One table as a stream of bytes. Raises CvxError: TableNotFound, ComponentNotFound, TooManyExports."""
        if self._streams >= self._limits.export_streams_max:
            raise CvxError(
                "TooManyExports", "Too many exports are under way.", kind="rate_limited",
                hint="Wait until one of them is done.", retry_when="time",
            )  # fmt: skip
        limits = self._limits
        with self._db.snapshot() as snapshot:
            tx = self._db.begin(SYSTEM, snapshot=snapshot, read_only=True)
            path = component_path(tx, component)
            rows = 0 if tx.table(name, component=path) is None else tx.count(name, component=path)
        order = ExportOrder(
            str(self._data), limits.export_batch_rows, limits.export_chunk_bytes, tables=[name], format=format,
            component=path,
        )  # fmt: skip
        self._streams += 1
        try:
            async with self._child(order) as process:
                assert process.stdout is not None
                first = await process.stdout.readline()
                if first != b"ok\n":
                    raise _failure(first)
                yield TableStream(self._pieces(process), rows)
        finally:
            self._streams -= 1

    async def _pieces(self, process: asyncio.subprocess.Process) -> AsyncIterator[bytes]:
        assert process.stdout is not None
        ends = asyncio.get_running_loop().time() + self._limits.export_time_s
        while True:
            async with _until(ends):
                piece = await process.stdout.read(self._limits.export_chunk_bytes)
            if not piece:
                break
            yield piece
        if await process.wait() != 0:
            raise CvxError("ExportFailed", "The export broke off.", kind="internal", retry_when="time")

    # --------------------------------------------------------------------------------------------------- the work

    def _begin(self, row: ExportRow) -> None:
        task = asyncio.create_task(self._work(row), name=f"export {row.id}")
        self._tasks[row.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(row.id, None))

    async def _work(self, row: ExportRow) -> None:
        partial = self._folder / f"{row.id}.partial"
        try:
            await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
            await self._export(row, partial)
        except CvxError as error:
            _log.warning("an export failed: %s", error)
            await self._fail(row, error)
        except Exception as error:  # edge: one export's failure must not be silent, nor stop others.
            _log.exception("an export failed")
            await self._fail(row, CvxError("ExportFailed", f"The export failed: {error}.", kind="internal"))
        finally:
            partial.unlink(missing_ok=True)

    async def _export(self, row: ExportRow, partial: Path) -> None:
        limits = self._limits
        order = ExportOrder(
            str(self._data), limits.export_batch_rows, limits.export_chunk_bytes, str(partial), row.tables,
            row.stored, row.include_storage, component=row.component,
        )  # fmt: skip
        holding = self._files.holding() if row.include_storage else contextlib.nullcontext()
        begun: ExportBegun | None = None
        with holding:
            async with self._child(order) as process, _until(_now() + limits.export_time_s):
                shown_s = 0.0
                while True:
                    report = await _report(process)
                    if isinstance(report, ExportBegun):
                        begun = report
                        await self._change(
                            row, "requested", state="in_progress", rows_total=float(begun.rows)
                        )
                    elif isinstance(report, ExportProgress):
                        if _now() - shown_s > limits.import_progress_s:
                            shown_s = _now()
                            await self._change(row, "in_progress", rows_done=float(report.rows))
                    elif isinstance(report, ExportDone):
                        break
            await self._add_files(partial, report.files)
        assert begun is not None
        size = await asyncio.to_thread(_settle, partial, self._folder / f"{row.id}.zip")
        await self._change(
            row, "in_progress", state="completed", start_ts=begun.ts, complete_ts=self._clock.now_ns(),
            zip_object_key=f"{row.id}.zip", size=float(size), rows_done=float(report.rows),
        )  # fmt: skip
        await self._tidy()

    @contextlib.asynccontextmanager
    async def _child(self, order: ExportOrder) -> AsyncIterator[asyncio.subprocess.Process]:
        """The process, for as long as it is needed; never longer."""
        with self._db.reading_elsewhere():
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", EXPORT_PROGRAM,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=64 << 20,
            )  # fmt: skip
            try:
                assert process.stdin is not None
                process.stdin.write(msgspec.json.encode(order) + b"\n")
                process.stdin.close()
                yield process
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    async def _add_files(self, partial: Path, files: list[StoredFile]) -> None:
        if not files:
            return
        archive = await asyncio.to_thread(zipfile.ZipFile, partial, "a", zipfile.ZIP_STORED, True)
        try:
            for file in files:
                source = await self._files.store.open(file.key)
                try:
                    entry = zipfile.ZipInfo(file.name, time.localtime()[:6])
                    entry.external_attr = 0o644 << 16
                    with archive.open(entry, "w", force_zip64=True) as target:
                        async for chunk in source.chunks():
                            await asyncio.to_thread(target.write, chunk)
                finally:
                    await source.close()
        finally:
            await asyncio.to_thread(archive.close)

    async def _change(self, row: ExportRow, after: str, **fields: object) -> None:
        def change(tx: Transaction) -> bool:
            state = transfers.export_row(tx, str(row.id)).state
            # Begun again after a restart: it is in progress already.
            return transfers.change_export(
                tx, row.id, after="in_progress" if state == "in_progress" else after, **fields
            )

        changed, _ = await self._db.run(SYSTEM, change, write_source="export")
        if not changed:
            raise asyncio.CancelledError  # Somebody ended it.

    async def _fail(self, row: ExportRow, error: CvxError) -> None:
        def change(tx: Transaction) -> None:
            now = transfers.export_row(tx, str(row.id))
            if now.state in ("requested", "in_progress"):
                transfers.change_export(
                    tx,
                    row.id,
                    after=now.state,
                    state="failed",
                    error_code=error.code,
                    error_message=error.message,
                )

        with contextlib.suppress(CvxError):  # A disk that is full: the next start tries the export again.
            await self._db.run(SYSTEM, change, write_source="export")

    # ------------------------------------------------------------------------------------------------ keeping house

    async def _sweep(self) -> None:
        while True:
            try:
                await self._tidy()
            except CvxError as error:
                _log.warning("the sweep of exports failed and is tried again: %s", error)
            await asyncio.sleep(_SWEEP_S)

    async def _tidy(self) -> None:
        """Delete exports that have expired, all but the newest few, and files that belong to none."""
        now = self._clock.now_ns()

        def forget(tx: Transaction) -> set[str]:
            rows = transfers.all_exports(tx)
            ended = [row for row in rows if row.state not in ("requested", "in_progress")]
            stale = {row.id for row in ended if row.expiration_ts < now}
            stale |= {row.id for row in ended[: -self._limits.exports_kept_max]}
            for id in stale:
                transfers.delete_export(tx, id)
            return {str(row.id) for row in rows if row.id not in stale}

        kept, _ = await self._db.run(SYSTEM, forget, write_source="exports")
        await asyncio.to_thread(_remove_others, self._folder, kept)


@contextlib.asynccontextmanager
async def _until(ends: float) -> AsyncIterator[None]:
    """Raise CvxError "ExportTimeout" when the block goes on beyond this moment on the loop's clock."""
    task = asyncio.current_task()
    assert task is not None
    late = False

    def stop() -> None:
        nonlocal late
        late = True
        task.cancel()

    timer = asyncio.get_running_loop().call_at(ends, stop)
    try:
        yield
    except asyncio.CancelledError:
        if late:
            raise CvxError("ExportTimeout", "The export took too long.", kind="overloaded") from None
        raise
    finally:
        timer.cancel()


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _report(process: asyncio.subprocess.Process) -> ExportReport:
    assert process.stdout is not None
    line = await process.stdout.readline()
    report = _decoded(line)
    if report is None or isinstance(report, ExportFailed):
        raise _failure(line)
    return report


def _decoded(line: bytes) -> ExportReport | None:
    try:
        report: ExportReport = msgspec.json.decode(line, type=ExportReport)
    except msgspec.MsgspecError:
        return None
    return report


def _failure(line: bytes) -> CvxError:
    report = _decoded(line)
    if isinstance(report, ExportFailed):
        kind = "not_found" if report.code == "TableNotFound" else "unavailable"
        return CvxError(report.code, report.message, kind=kind)  # type: ignore[arg-type]
    return CvxError("ExportFailed", "The process that reads the data broke off.", kind="internal")


def _settle(partial: Path, path: Path) -> int:
    """Give a ZIP that is whole its name; how large it is."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
        size = os.fstat(file.fileno()).st_size
    partial.rename(path)
    return size


def _remove_others(folder: Path, kept: set[str]) -> None:
    if folder.is_dir():
        for path in folder.iterdir():
            if path.stem not in kept:
                path.unlink(missing_ok=True)


def component_path(tx: Transaction, named: str) -> str:
    """The path of a component that a client names by its id or its path; "" is the app.

    Raises CvxError "ComponentNotFound".
    """
    if not named:
        return named
    found = components.instance(tx, named) or components.by_id(tx, named)
    if found is None:
        raise CvxError("ComponentNotFound", f"There is no component '{named[:200]}'.", kind="not_found")
    return found.path
