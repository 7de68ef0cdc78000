"""Importing into a deployment, ours or any that speaks the protocol.

A file travels in pieces; no row is looked at on the way. What the deployment does with it is followed as a live query,
so progress needs no polling and survives a lost connection.

Source: reference/cli-and-deploy.md §5.3.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import msgspec

from cvx.errors import CvxError
from cvx.protocol.transfers import IMPORT_LIST, IMPORT_STATUS, ImportFormat, ImportMode, check_destination
from cvx.toolchain.client.http import DeploymentClient
from cvx.toolchain.client.live import LiveClient
from cvx.toolchain.client.tasks import in_own_thread
from cvx.toolchain.client.transfers import CANCEL_S, READ_BYTES, hint_for, row_of, size_text
from cvx.toolchain.progress import Finished, Reporter, Started, Step, duration_text

PART_BYTES = 5 << 20
PARTS_MAX = 9_999
BOM = b"\xef\xbb\xbf"


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
            await asyncio.wait_for(cancel_import(client, import_id), CANCEL_S)
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
        total = f" of {size_text(source.size)}" if source.size else ""
        reporter.report(Step("upload", detail=f"{size_text(sent)}{total} ({size_text(int(rate))}/s{left})"))
        if not piece:
            break
    reporter.report(Finished("upload", f"Uploaded {size_text(sent)}", time.monotonic() - began))
    return token, parts


def _read_part(source: Source, number: int) -> bytes:
    """The next part; parts grow so that their number stays below the limit."""
    size = PART_BYTES if source.size is None else max(PART_BYTES, -(-source.size // PARTS_MAX))
    if source.size is None:
        size <<= number // 1_500
    pieces = []
    while size > 0:
        piece = source.file.read(min(size, READ_BYTES))
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
            row = row_of(result, IMPORT_STATUS)
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
