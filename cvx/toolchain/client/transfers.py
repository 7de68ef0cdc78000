"""Importing into and exporting from a deployment, ours or any that speaks the protocol.

Files travel in pieces in both directions; no row is looked at on the way. What the deployment does with them is
followed as a live query, so progress needs no polling and survives a lost connection.

Source: reference/cli-and-deploy.md §5.3, §5.4.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import msgspec

from cvx.errors import CvxError
from cvx.protocol.transfers import (
    IMPORT_LIST,
    IMPORT_STATUS,
    LATEST_EXPORT,
    TABLE_ROWS_HEADER,
    ImportFormat,
    ImportMode,
    TableFormat,
    check_destination,
)
from cvx.toolchain.client.http import DeploymentClient
from cvx.toolchain.client.live import LiveClient, QueryResult
from cvx.toolchain.client.schedules import component_id
from cvx.toolchain.client.tasks import in_own_thread
from cvx.toolchain.progress import Finished, Reporter, Started, Step, duration_text
from cvx.values import decode

PART_BYTES = 5 << 20
PARTS_MAX = 9_999
BOM = b"\xef\xbb\xbf"
_READ_BYTES = 1 << 20
_CANCEL_S = 2.0


@dataclass(frozen=True)
class TableChange:
    """What an import would do to one table."""

    component: str
    table: str
    create: int
    delete: int
    existing: int

    def to_json(self) -> dict[str, Any]:
        return {
            "component": self.component, "table": self.table, "create": self.create, "delete": self.delete,
            "existing": self.existing,
        }  # fmt: skip


@dataclass(frozen=True)
class Preview:
    """What an import would do. `changes` is empty for a deployment that only tells it in words."""

    changes: tuple[TableChange, ...]
    message: str
    needs_confirmation: bool

    @property
    def deletes(self) -> int:
        return sum(change.delete for change in self.changes)


@dataclass(frozen=True)
class ImportWish:
    """What to import, and how. `confirmed`: deletions were agreed to beforehand.

    Raises CvxError "InvalidName" for a table that the deployment would refuse after the upload.
    """

    format: ImportFormat
    mode: ImportMode
    table: str | None
    dry_run: bool = False
    confirmed: bool = False
    component: str | None = None

    def __post_init__(self) -> None:
        check_destination(self.format, self.table)


@dataclass(frozen=True)
class ImportResult:
    """How it ended. `rows` is None for a dry run; `unchanged`: everything was there already."""

    preview: Preview
    rows: int | None
    unchanged: bool = False


@dataclass(frozen=True)
class Source:
    """A file to send. `size` is None for a stream; `name` is for people."""

    file: BinaryIO
    name: str
    size: int | None


Decide = Callable[[Preview], Awaitable[bool]]
"""Asked once, before anything changes; False ends the import."""


async def import_file(
    client: DeploymentClient, source: Source, wish: ImportWish, reporter: Reporter, decide: Decide
) -> ImportResult:
    """Send a file and see its import through.

    Raises CvxError: what the deployment finds wrong (with `line` and `file` in its details), "ImportCanceled" when
    `decide` said no. When it is cancelled itself, the import ends too.
    """
    began = time.monotonic()
    token, parts = await _upload(client, source, reporter)
    body: dict[str, Any] = {"tableName": wish.table, "mode": wish.mode, "format": wish.format}
    if wish.component:
        body["componentPath"] = wish.component
    if wish.dry_run:
        body["dryRun"] = True
    else:
        if wish.confirmed:
            body["confirmed"] = True
        if wish.mode in ("replace", "replaceAll"):
            body["skipUnchanged"] = True
    answer = await client.post(
        "/api/import/finish_upload", {"import": body, "uploadToken": token, "partTokens": parts}
    )
    import_id = str(msgspec.json.decode(answer)["importId"])
    try:
        async with LiveClient(client.deployment) as live:
            return await _follow(client, live, import_id, wish, reporter, decide, began)
    except asyncio.CancelledError:
        with contextlib.suppress(CvxError, asyncio.TimeoutError):
            await asyncio.wait_for(cancel_import(client, import_id), _CANCEL_S)
        raise


async def imports_under_way(client: DeploymentClient) -> int:
    """How many imports the deployment is performing."""
    rows = await client.system_query(IMPORT_LIST, {}, list[dict[str, Any]])
    return sum(row["state"]["state"] == "in_progress" for row in rows)


async def cancel_import(client: DeploymentClient, import_id: str) -> None:
    """End an import; what it has staged goes away."""
    await client.post("/api/cancel_import", {"importId": import_id})


# ------------------------------------------------------------------------------------------------------ upload


async def _upload(client: DeploymentClient, source: Source, reporter: Reporter) -> tuple[str, list[Any]]:
    started = msgspec.json.decode(await client.post("/api/import/start_upload", {}))
    token = str(started["uploadToken"])
    began = time.monotonic()
    reporter.report(Started("upload", f"Uploading {source.name}", source.size, "bytes"))
    parts: list[Any] = []
    sent = 0
    while True:
        # A file is read on one thread that stays: thousands of short-lived ones would each keep some memory.
        reading = in_own_thread if source.size is None else asyncio.to_thread
        piece = await reading(_read_part, source, len(parts))
        if not piece and parts:
            break
        sent += len(piece)
        if not parts and piece.startswith(BOM):
            piece = piece[len(BOM) :]
        if len(parts) == PARTS_MAX:
            raise CvxError("FileTooLarge", f"{source.name} is too large to be imported.", hint="Split it.")
        route = f"/api/import/upload_part?uploadToken={token}&partNumber={len(parts) + 1}"
        parts.append(msgspec.json.decode(await client.post(route, piece)))
        rate = sent / max(time.monotonic() - began, 1e-3)
        left = (
            f", {duration_text((source.size - sent) / rate)} left"
            if source.size and sent < source.size
            else ""
        )
        total = f" of {_size(source.size)}" if source.size else ""
        reporter.report(Step("upload", detail=f"{_size(sent)}{total} ({_size(int(rate))}/s{left})"))
        if not piece:
            break
    reporter.report(Finished("upload", f"Uploaded {_size(sent)}", time.monotonic() - began))
    return token, parts


def _read_part(source: Source, number: int) -> bytes:
    """The next part; parts grow so that their number stays below the limit."""
    size = PART_BYTES if source.size is None else max(PART_BYTES, -(-source.size // PARTS_MAX))
    if source.size is None:
        size <<= number // 1_500
    pieces = []
    while size > 0:
        piece = source.file.read(min(size, _READ_BYTES))
        if not piece:
            break
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


# ------------------------------------------------------------------------------------------------------ follow


async def _follow(
    client: DeploymentClient,
    live: LiveClient,
    import_id: str,
    wish: ImportWish,
    reporter: Reporter,
    decide: Decide,
    began: float,
) -> ImportResult:
    preview = Preview((), "", False)
    asked = False
    shown = _Progress(reporter)
    async with live.subscribe(IMPORT_STATUS, {"importId": import_id}) as results:
        async for result in results:
            row = _value(result, IMPORT_STATUS)
            if row is None:
                raise CvxError(
                    "ImportNotFound", "The import is gone.", kind="not_found", hint="Import again."
                )
            state = row["state"]
            name = state["state"]
            if name == "uploaded":
                shown.parsing(state)
            elif name == "in_progress":
                shown.importing(state)
            elif name == "waiting_for_confirmation" and not asked:
                asked = True
                shown.end()
                preview = _preview_of(row)
                if wish.dry_run:
                    await cancel_import(client, import_id)
                    return ImportResult(preview, None)
                try:
                    agreed = await decide(preview)
                except CvxError:  # Nobody could be asked: it would wait for days.
                    await cancel_import(client, import_id)
                    raise
                if not agreed:
                    await cancel_import(client, import_id)
                    raise CvxError("ImportCanceled", "Nothing was imported.", kind="conflict")
                await client.post("/api/perform_import", {"importId": import_id})
            elif name == "completed":
                rows = int(state["num_rows_written"])
                shown.end()
                seconds = time.monotonic() - began
                reporter.report(Finished("import", f"Imported {rows:,} documents", seconds))
                return ImportResult(preview, rows, bool(state.get("unchanged")))
            elif name == "failed":
                shown.end()
                raise _failure(state)
    raise CvxError("ConnectionLost", "The deployment stopped answering.", kind="unavailable")


class _Progress:
    """Numbers as they come → steps with a rate and the time left."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._task = ""
        self._began = 0.0
        self._first = 0.0

    def parsing(self, state: dict[str, Any]) -> None:
        rows, done, total = state.get("rows_parsed"), state.get("bytes_done"), state.get("bytes_total")
        self._begin("parse", "Checking", 0.0)
        if rows and done and total:
            self._step(float(rows), float(done), float(total), int(rows), None, "bytes")

    def importing(self, state: dict[str, Any]) -> None:
        done, total = state.get("rows_done"), state.get("rows_total")
        self._begin("import", "Importing", float(done or 0.0))
        if done is None or not total:
            self._reporter.report(Step("import", detail=str(state.get("progress_message") or "")))
        else:
            self._step(float(done), float(done), float(total), int(done), int(total), "rows")

    def _begin(self, task: str, title: str, first: float) -> None:
        if self._task != task:
            self._task, self._began, self._first = task, time.monotonic(), first
            self._reporter.report(Started(task, title))

    def _step(self, rows: float, done: float, total: float, shown: int, of: int | None, unit: str) -> None:
        seconds = max(time.monotonic() - self._began, 1e-3)
        rate = max(rows - self._first, 0.0) / seconds
        speed = (done - (self._first if unit == "rows" else 0.0)) / seconds
        left = f", {duration_text((total - done) / speed)} left" if speed > 0 and done < total else ""
        detail = f"rows ({rate:,.0f} rows/s{left})" if rate else "rows"
        self._reporter.report(Step(self._task, shown, of, detail))

    def end(self) -> None:
        if self._task:
            self._reporter.report(Finished(self._task, self._task, time.monotonic() - self._began))
            self._task = ""


def _value(result: QueryResult, path: str) -> dict[str, Any] | None:
    if not hasattr(result, "value"):
        raise CvxError("SystemQueryFailed", f"{path}: {getattr(result, 'error_message', 'it failed')}")
    value = decode(bytes(result.value))
    return value if isinstance(value, dict) else None


def _preview_of(row: dict[str, Any]) -> Preview:
    state = row["state"]
    changes = tuple(
        TableChange(
            line["component"], line["table"], int(line["create"]), int(line["delete"]), int(line["existing"])
        )
        for line in row.get("preview") or ()
    )
    return Preview(
        changes,
        str(state.get("message_to_confirm") or ""),
        state.get("require_manual_confirmation") is not False,
    )


def hint_for(code: str) -> str | None:
    """What helps against an error that is not the file's fault."""
    return "Free some space where the backend keeps its data, then try again." if code == "DiskFull" else None


def _failure(state: dict[str, Any]) -> CvxError:
    message = str(state.get("error_message") or "The import failed.")
    details: dict[str, Any] = {}
    if state.get("error_line") is not None:
        details["line"] = int(state["error_line"])
    if state.get("error_file"):
        details["file"] = str(state["error_file"])
    details["rows_written"] = int(state.get("rows_written") or 0)
    return CvxError(
        str(state.get("error_code") or "ImportFailed"),
        message.removeprefix("Hit an error while importing:\n"),
        kind="conflict",
        hint=state.get("error_hint") or hint_for(str(state.get("error_code"))),
        retry_when="files",
        details=details,
    )


# ------------------------------------------------------------------------------------------------------ export


@dataclass(frozen=True)
class ExportedZip:
    """A ZIP that the deployment keeps ready. `name`: how it would call the file."""

    start_ts: int
    name: str
    size: int | None
    pieces: AsyncIterator[bytes]


@contextlib.asynccontextmanager
async def export_zip(
    client: DeploymentClient,
    reporter: Reporter,
    *,
    include_storage: bool = False,
    tables: tuple[str, ...] = (),
    component: str | None = None,
) -> AsyncIterator[ExportedZip]:
    """Have a snapshot made, and receive it. Raises CvxError: ExportInProgress, TableNotFound, ExportFailed."""
    route = f"/api/export/request/zip?includeStorage={'true' if include_storage else 'false'}"
    route += "".join(f"&table={quote(table)}" for table in tables)
    if component:
        route += f"&component={quote(await component_id(client, component) or '', safe='')}"
    answer = await client.post(route, {})
    export_id = msgspec.json.decode(answer).get("exportId") if answer else None
    try:
        ts = await _exported(client, reporter, export_id)
    except asyncio.CancelledError:
        if export_id is not None:
            with contextlib.suppress(CvxError, asyncio.TimeoutError):
                await asyncio.wait_for(client.post(f"/api/export/cancel/{export_id}", {}), _CANCEL_S)
        raise
    async with client.stream("GET", f"/api/export/zip/{ts}") as response:
        disposition = response.headers.get("content-disposition", "")
        prefix = "attachment; filename="
        name = disposition[len(prefix) :] if disposition.startswith(prefix) else f"snapshot_{ts}.zip"
        length = response.headers.get("content-length")
        yield ExportedZip(
            ts, Path(name.strip('"')).name, int(length) if length else None, response.aiter_bytes(_READ_BYTES)
        )


async def _exported(client: DeploymentClient, reporter: Reporter, export_id: str | None) -> int:
    """The snapshot's timestamp, once it is complete."""
    began = time.monotonic()
    reporter.report(Started("export", "Making a snapshot"))
    async with (
        LiveClient(client.deployment) as live,
        live.subscribe(LATEST_EXPORT, {}) as results,
    ):
        async for result in results:
            row = _value(result, LATEST_EXPORT)
            if row is None or (export_id is not None and row["_id"] != export_id):
                continue
            if row["state"] == "completed":
                reporter.report(Finished("export", "Made a snapshot", time.monotonic() - began))
                return int(row["start_ts"])
            if row["state"] in ("failed", "canceled"):
                raise CvxError(
                    str(row.get("error_code") or "ExportFailed"),
                    str(row.get("error_message") or f"The export {row['state']}."),
                    kind="internal", retry_when="time",
                    hint=hint_for(str(row.get("error_code"))) or "Try again, or see what the backend says.",
                )  # fmt: skip
            done, total = row.get("rows_done"), row.get("rows_total")
            if done and total:
                rate = done / max(time.monotonic() - began, 1e-3)
                detail = f"rows ({rate:,.0f} rows/s, {duration_text((total - done) / rate)} left)"
                reporter.report(Step("export", int(done), int(total), detail))
    raise CvxError("ConnectionLost", "The deployment stopped answering.", kind="unavailable")


@dataclass(frozen=True)
class ExportedTable:
    """One table as text. `rows`: about how many there are, where the deployment says so."""

    pieces: AsyncIterator[bytes]
    rows: int | None = None


@contextlib.asynccontextmanager
async def export_table(
    client: DeploymentClient,
    reporter: Reporter,
    table: str,
    format: TableFormat,
    component: str | None = None,
) -> AsyncIterator[ExportedTable]:
    """One table as it was at one moment. From a deployment that cannot stream one, by way of a ZIP (JSON lines
    only). Raises CvxError "TableNotFound"."""
    route = f"/api/export/table?table={quote(table)}&format={format}"
    if component:
        route += f"&component={quote(await component_id(client, component) or '', safe='')}"
    try:
        async with client.stream("GET", route) as response:
            rows = response.headers.get(TABLE_ROWS_HEADER, "")
            yield ExportedTable(response.aiter_bytes(_READ_BYTES), int(rows) if rows.isdecimal() else None)
            return
    except CvxError as error:
        if error.code == "TableNotFound" or error.details.get("status") != 404 or format != "jsonl":
            raise
    async with export_zip(client, reporter, component=component) as exported:
        import tempfile

        with tempfile.TemporaryFile() as spool:
            async for piece in exported.pieces:
                await asyncio.to_thread(spool.write, piece)
            yield ExportedTable(_entry_of(spool, table))


async def _entry_of(spool: Any, table: str) -> AsyncIterator[bytes]:
    with zipfile.ZipFile(spool) as archive:
        try:
            entry = archive.open(f"{table}/documents.jsonl")
        except KeyError:
            raise CvxError("TableNotFound", f"There is no table '{table}'.", kind="not_found") from None
        with entry:
            while piece := await asyncio.to_thread(entry.read, _READ_BYTES):
                yield piece


async def save(
    pieces: AsyncIterator[bytes],
    path: Path,
    reporter: Reporter,
    total: int | None,
    rows: int | None = None,
) -> int:
    """Write a download to a file that gets its name only when it is whole; its size. `total`: the bytes to come;
    `rows`: about how many lines, when that is what is known. Raises CvxError "CannotWrite"."""
    partial = path.with_name(path.name + ".partial")
    began = time.monotonic()
    reporter.report(Started("download", f"Downloading to {path.name}"))
    size = lines = 0
    try:
        with _writing(partial) as file:
            async for piece in pieces:
                await asyncio.to_thread(file.write, piece)
                size += len(piece)
                seconds = max(time.monotonic() - began, 1e-3)
                if rows:
                    lines = min(lines + piece.count(b"\n"), rows)
                    left = _left(lines, rows, seconds)
                    detail = f"rows ({lines / seconds:,.0f} rows/s{left}), {_size(size)}"
                    reporter.report(Step("download", lines, rows, detail))
                    continue
                of = f" of {_size(total)}" if total else ""
                speed = f"{_size(int(size / seconds))}/s{_left(size, total or 0, seconds)}"
                reporter.report(Step("download", detail=f"{_size(size)}{of} ({speed})"))
        if total is not None and size != total:
            raise CvxError(
                "DownloadCut", "The download ended too early.", kind="unavailable", hint="Try again."
            )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    reporter.report(Finished("download", f"Downloaded {_size(size)}", time.monotonic() - began))
    return size


def _left(done: int, total: int, seconds: float) -> str:
    return f", {duration_text((total - done) * seconds / done)} left" if 0 < done < total else ""


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("wb") as file:
            yield file
    except OSError as error:
        raise CvxError(
            "CannotWrite", f"{path} cannot be written: {error.strerror}.", hint="Choose another --path."
        ) from error


def _size(count: int | None) -> str:
    size = float(count or 0)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError
