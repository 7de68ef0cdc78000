"""The exporter's own process: reads one snapshot of the data and writes a ZIP, or one table as a stream.

`python -m cvx.backend.bulk.export_child` is told what to do in one line of JSON on standard input. A ZIP is written to
the file it is told, with its progress as lines of JSON on standard output; a single table goes to standard output
itself. Compressing and writing here leaves the backend's event loop to those who are waiting for answers, and one
read transaction makes everything it reads one moment.

Rule: it only reads the data, and ends when nobody listens any more.

Source: reference/cli-and-deploy.md §5.4; values-and-sync.md §1.5 (export_json).
"""

from __future__ import annotations

import base64
import contextlib
import csv
import errno
import io
import mimetypes
import os
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from cvx.backend.bulk.messages import (
    ExportBegun,
    ExportDone,
    ExportFailed,
    ExportOrder,
    ExportProgress,
    ExportReport,
    StoredFile,
)
from cvx.backend.bulk.standard_output import standard_output
from cvx.backend.database import Catalog, TableInfo, catalog_of
from cvx.backend.store import StoredRow, StoreReader, reading_folder
from cvx.errors import CvxError
from cvx.values import decode, reformat

_REPORT_S = 0.25
_COMPRESSION_LEVEL = 1
"""Measured on documents of 200 bytes: level 1 packs them to 30 %, level 6 to 26 % in four times the time."""
_README = """# Snapshot

A snapshot of a Convex deployment, made by cvx. Every folder is a table: `documents.jsonl` has one document a line,
with its `_id` and `_creationTime`; in it, whole numbers without a point are int64s. `_tables` gives the tables'
numbers, which their ids carry; `_storage` has the stored files.

To import it: `cvx data import FILE.zip`, or `npx convex import FILE.zip`.
"""


def tables_of(catalog: Catalog, component: str, wanted: Sequence[str] | None) -> list[TableInfo]:
    """The user tables to export, in name order. Raises CvxError "TableNotFound"."""
    tables = {table.name: table for table in catalog.tables(component) if not table.is_system}
    for name in wanted or ():
        if name not in tables:
            raise CvxError("TableNotFound", f"There is no table '{name[:64]}'.", kind="not_found")
    return [tables[name] for name in sorted(tables if wanted is None else set(wanted))]


# -------------------------------------------------------------------------------------------------------- ZIP


def write_zip(order: ExportOrder, reader: StoreReader, say: Callable[[ExportReport], None]) -> None:
    """All tables in the official layout; the bytes of stored files are added by the backend."""
    assert order.zip_path is not None
    catalog = catalog_of(reader.view)
    within = f"{order.component}/" if order.component else ""
    inside = [c for c in catalog.components if c and c.startswith(within)] if order.tables is None else []
    parts = {c: tables_of(catalog, c, order.tables) for c in (order.component, *inside)}
    total = sum(reader.view.count(table.table_id) for tables in parts.values() for table in tables)
    say(ExportBegun(reader.ts, total))
    method = zipfile.ZIP_STORED if order.stored else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(
        order.zip_path,
        "w",
        method,
        allowZip64=True,
        compresslevel=None if order.stored else _COMPRESSION_LEVEL,
    ) as archive:
        archive.writestr("README.md", _README)
        rows = 0
        said_s = time.monotonic()
        for component, tables in parts.items():
            numbers = b"".join(_line(_table_row(table)) for table in tables)
            archive.writestr(f"{_folder_of(component, order)}_tables/documents.jsonl", numbers)
        for table in (table for tables in parts.values() for table in tables):
            folder = _folder_of(table.component, order) + table.name
            with archive.open(_entry(f"{folder}/documents.jsonl", method), "w", force_zip64=True) as file:
                for batch in reader.documents(table.table_id, order.batch_rows):
                    file.write(export_lines(batch))
                    rows += len(batch)
                    if time.monotonic() - said_s > _REPORT_S:
                        said_s = time.monotonic()
                        say(ExportProgress(rows, table.name))
            archive.writestr(f"{folder}/generated_schema.jsonl", b'"uniform"\n')
        files: list[StoredFile] = []
        for component in parts:
            name = f"{_folder_of(component, order)}_storage/documents.jsonl"
            with archive.open(_entry(name, method), "w", force_zip64=True) as file:
                for stored in stored_files(reader, catalog, component, order):
                    file.write(_line(_storage_row(stored)))
                    if order.include_storage:
                        files.append(stored)
    say(ExportDone(rows, files))


def export_lines(batch: Sequence[StoredRow]) -> bytes:
    """Documents as they stand in exports: one a line; int64s as bare integers, everything else as it is stored."""
    text = b"\n".join([row.document for row in batch]) + b"\n"
    if b'{"$integer"' not in text:
        return text
    return b"".join([reformat(row.document, "export_json") + b"\n" for row in batch])


def _folder_of(component: str, order: ExportOrder) -> str:
    """Where a component's tables are in the ZIP; those of the exported one are at the top."""
    inside = component[len(order.component) :]
    return "".join(f"_components/{name}/" for name in inside.split("/") if name)


def stored_files(
    reader: StoreReader, catalog: Catalog, component: str, order: ExportOrder
) -> Iterator[StoredFile]:
    """Every stored file of a component, in the order of the private records."""
    public = catalog.table(component, "_storage")
    private = catalog.table("", "_stored_files")
    if public is None or private is None or order.tables is not None:
        return
    shown: dict[str, dict[str, Any]] = {}
    for batch in reader.documents(public.table_id, order.batch_rows):
        for row in batch:
            document = decode(row.document)
            assert isinstance(document, dict)
            shown[document["_id"]] = document
    for batch in reader.documents(private.table_id, order.batch_rows):
        for row in batch:
            record = decode(row.document)
            assert isinstance(record, dict)
            document = shown.get(record["fileId"], {}) if record["component"] == component else {}
            if document:
                yield _stored_file(_folder_of(component, order), document, record)


def _stored_file(folder: str, document: dict[str, Any], record: dict[str, Any]) -> StoredFile:
    kind = document.get("contentType")
    extension = (mimetypes.guess_extension(kind.partition(";")[0].strip()) or "") if kind else ""
    return StoredFile(
        f"{folder}_storage/{document['_id']}{extension}",
        document["_id"],
        record["key"],
        record["storageId"],
        int(document["size"]),
        document["sha256"],
        kind,
        document["_creationTime"],
    )


def _storage_row(file: StoredFile) -> dict[str, Any]:
    row: dict[str, Any] = {
        "_creationTime": file.creation_time,
        "_id": file.id,
        "internalId": file.storage_id,
        "sha256": file.sha256,
        "size": file.size,
    }
    if file.content_type is not None:
        row["contentType"] = file.content_type
    return row


def _table_row(table: TableInfo) -> dict[str, Any]:
    return {"name": table.name, "id": table.number}


def _entry(name: str, method: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, time.localtime()[:6])
    entry.compress_type = method
    entry.external_attr = 0o644 << 16
    entry._compresslevel = _COMPRESSION_LEVEL if method == zipfile.ZIP_DEFLATED else None  # type: ignore[attr-defined]
    return entry


def _line(row: dict[str, Any]) -> bytes:
    return msgspec.json.encode(row) + b"\n"


# --------------------------------------------------------------------------------------------------- one table


def table_stream(order: ExportOrder, reader: StoreReader) -> Iterator[bytes]:
    """One table's documents as text."""
    assert order.tables is not None
    (table,) = tables_of(catalog_of(reader.view), order.component, order.tables)

    def batches() -> Iterator[Sequence[StoredRow]]:
        return reader.documents(table.table_id, order.batch_rows)

    if order.format == "csv":
        yield from _csv(batches)
    elif order.format == "json":
        before = b"[\n"
        for batch in batches():
            yield before + b",\n".join([row.document for row in batch])
            before = b",\n"
        yield b"[]\n" if before == b"[\n" else b"\n]\n"
    else:
        for batch in batches():
            yield b"\n".join([row.document for row in batch]) + b"\n"


def _csv(batches: Callable[[], Iterable[Sequence[StoredRow]]]) -> Iterator[bytes]:
    """A column for each field that occurs; the table is read twice, at one snapshot."""
    names: set[str] = set()
    for batch in batches():
        for row in batch:
            names.update(msgspec.json.decode(row.document))
    columns = ["_id", "_creationTime", *sorted(names - {"_id", "_creationTime"})]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for batch in batches():
        for row in batch:
            document = decode(row.document)
            assert isinstance(document, dict)
            writer.writerow([_csv_cell(document[name]) if name in document else "" for name in columns])
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()
    yield text.getvalue().encode()


def _csv_cell(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return str(value)
    if value is None:
        return ""
    if kind is bool:
        return "true" if value else "false"
    if kind is float:
        return repr(int(value)) if value.is_integer() and abs(value) < 1 << 53 else repr(value)
    if kind is int:
        return str(value)
    if kind is bytes:
        return base64.b64encode(value).decode()
    from cvx.values import encode_clean

    return encode_clean(value).decode()


def main() -> None:
    """Serve one export."""
    with contextlib.suppress(OSError, AttributeError):
        os.nice(5)  # Whoever waits for an answer comes first.
    out = standard_output()
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=ExportOrder)
    has_begun = False

    def say(report: ExportReport) -> None:
        out.write(msgspec.json.encode(report) + b"\n")
        out.flush()

    def fail(code: str, message: str) -> None:
        if has_begun:  # What is said now would be taken for a part of the table.
            sys.exit(message)
        say(ExportFailed(code, message))

    try:
        try:
            with reading_folder(Path(order.data)) as reader:
                if order.zip_path is not None:
                    write_zip(order, reader, say)
                else:
                    pieces = table_stream(order, reader)
                    first = next(pieces, b"")  # What is wrong with the request shows here.
                    has_begun = True
                    out.write(b"ok\n" + first)
                    _send(pieces, out, order.chunk_bytes)
        except CvxError as error:
            fail(error.code, error.message)
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            why = "the disk of the backend is full" if full else str(error)
            fail("DiskFull" if full else "ExportFailed", f"The export failed: {why}.")
    except BrokenPipeError:  # Nobody wants it any more.
        os._exit(1)


def _send(pieces: Iterator[bytes], out: Any, chunk_bytes: int) -> None:
    """The rest of a table to standard output, in pieces of about this size."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= chunk_bytes:
            out.write(b"".join(held))
            held, size = [], 0
    out.write(b"".join(held))
    out.flush()


if __name__ == "__main__":
    main()
