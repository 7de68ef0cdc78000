"""Exporting from a deployment, ours or any that speaks the protocol: a ZIP of everything, or one table as text.

Source: reference/cli-and-deploy.md §5.4.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import zipfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import msgspec

from cvx.errors import CvxError
from cvx.protocol.transfers import LATEST_EXPORT, TABLE_ROWS_HEADER, TableFormat
from cvx.toolchain.client.http import DeploymentClient
from cvx.toolchain.client.live import LiveClient
from cvx.toolchain.client.schedules import component_id
from cvx.toolchain.client.transfers import CANCEL_S, READ_BYTES, hint_for, row_of, size_text
from cvx.toolchain.progress import Finished, Reporter, Started, Step, duration_text


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
                await asyncio.wait_for(client.post(f"/api/export/cancel/{export_id}", {}), CANCEL_S)
        raise
    async with client.stream("GET", f"/api/export/zip/{ts}") as response:
        disposition = response.headers.get("content-disposition", "")
        prefix = "attachment; filename="
        name = disposition[len(prefix) :] if disposition.startswith(prefix) else f"snapshot_{ts}.zip"
        length = response.headers.get("content-length")
        yield ExportedZip(
            ts, Path(name.strip('"')).name, int(length) if length else None, response.aiter_bytes(READ_BYTES)
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
            row = row_of(result, LATEST_EXPORT)
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
            yield ExportedTable(response.aiter_bytes(READ_BYTES), int(rows) if rows.isdecimal() else None)
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
            while piece := await asyncio.to_thread(entry.read, READ_BYTES):
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
                    detail = f"rows ({lines / seconds:,.0f} rows/s{left}), {size_text(size)}"
                    reporter.report(Step("download", lines, rows, detail))
                    continue
                of = f" of {size_text(total)}" if total else ""
                speed = f"{size_text(int(size / seconds))}/s{_left(size, total or 0, seconds)}"
                reporter.report(Step("download", detail=f"{size_text(size)}{of} ({speed})"))
        if total is not None and size != total:
            raise CvxError(
                "DownloadCut", "The download ended too early.", kind="unavailable", hint="Try again."
            )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    reporter.report(Finished("download", f"Downloaded {size_text(size)}", time.monotonic() - began))
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
