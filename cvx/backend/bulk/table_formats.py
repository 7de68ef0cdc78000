"""Files people import → parsed rows, a block at a time: JSON lines, one JSON array, CSV, and ZIPs of the official layout.

A row is a parsed JSON object; what its values mean is decided by whoever makes documents of them (import_rows.py).
Complaints are CvxErrors with the documented codes, the line or row in `details["line"]`, and the ZIP's entry in
`details["file"]`.

Rule: memory holds one block, however large the file or the ZIP entry is.

Source: reference/cli-and-deploy.md §5.3.
"""

from __future__ import annotations

import binascii
import contextlib
import csv
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple, cast

import msgspec

from cvx.backend.config import Limits
from cvx.errors import CvxError
from cvx.values import check_field_name, print_kind

BOM = b"\xef\xbb\xbf"
_CSV_ROWS = 1_000
_decode_all = msgspec.json.Decoder().decode_lines
_decode_one = msgspec.json.Decoder().decode
# A whole number outside of quotes; also one inside a string that looks like it, which does no harm.
_bare_integer = re.compile(rb"[:\[,]\s*-?[0-9]+\s*[,}\]]")


class Block(NamedTuple):
    """Rows and the line (of CSV and arrays: the row) each stands at. `special`: some value may be a "$" object."""

    rows: list[Any]
    lines: Sequence[int]
    special: bool


def problem(code: str, message: str, line: int | None = None) -> CvxError:
    """A complaint about the file that is imported."""
    details: dict[str, Any] = {} if line is None else {"line": line}
    return CvxError(code, message, retry_when="files", details=details)


# ------------------------------------------------------------------------------------------------- JSON lines


def json_lines(file: BinaryIO, limits: Limits, *, uniform: bool = False) -> Iterator[Block]:
    """One object a line; empty lines are skipped. `uniform`: bare integers are int64s (exports say so)."""
    line, rest = 1, b""
    while True:
        block = file.read(limits.import_block_bytes)
        cut = block.rfind(b"\n") + 1
        if block and not cut:
            rest += block
            if len(rest) > limits.import_line_bytes_max:
                raise problem(
                    "JsonInvalidRow",
                    f"Line {line} is longer than {limits.import_line_bytes_max} bytes.",
                    line,
                )
            continue
        chunk, rest = rest + block[:cut], block[cut:]
        if line == 1 and chunk.startswith(BOM):
            raise problem(
                "Utf8BomNotSupported", "The file begins with a byte order mark; save it without.", 1
            )
        if chunk.strip():
            yield _block_of(chunk, line, uniform)
        line += chunk.count(b"\n")
        if not block:
            return


def _block_of(chunk: bytes, first: int, uniform: bool) -> Block:
    try:
        rows = _decode_all(chunk)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        rows = None
    count = chunk.count(b"\n") + (not chunk.endswith(b"\n"))
    lines: Sequence[int] = range(first, first + count)
    if rows is None or len(rows) != count:
        texts = chunk.split(b"\n")
        lines = [first + at for at, text in enumerate(texts) if text.strip()]
        rows = [_row_of(texts[line - first], line) for line in lines]
    special = b'"$' in chunk or b"\\u0024" in chunk
    if uniform and _bare_integer.search(chunk):
        rows, special = [_with_int64s(row) for row in rows], True
    return Block(rows, lines, special)


def _row_of(text: bytes, line: int) -> Any:
    try:
        return _decode_one(text)
    except msgspec.DecodeError as error:
        raise problem("JsonInvalidRow", f"Line {line} is not valid JSON: {error}.", line) from None
    except UnicodeError:
        raise problem("NotUtf8", f"Line {line} is not UTF-8.", line) from None
    except RecursionError:
        raise problem("JsonInvalidRow", f"Line {line} is nested too deeply.", line) from None


def _with_int64s(value: Any) -> Any:
    """The same, with whole numbers spelled as int64s."""
    kind = type(value)
    if kind is int:
        try:
            return {"$integer": binascii.b2a_base64(struct.pack("<q", value), newline=False).decode()}
        except struct.error:
            return value
    if kind is dict:
        return {name: _with_int64s(child) for name, child in value.items()}
    if kind is list:
        return [_with_int64s(child) for child in value]
    return value


# ------------------------------------------------------------------------------------------------- JSON array


def json_array(file: BinaryIO, limits: Limits) -> Iterator[Block]:
    """One array of objects, of any length; rows are counted from 1."""
    import ijson

    beginning = file.read(1)
    while beginning.isspace():
        beginning = file.read(1)
    if beginning == BOM[:1]:
        raise problem("Utf8BomNotSupported", "The file begins with a byte order mark; save it without.", 1)
    if beginning != b"[":
        raise problem("NotJsonArray", "The file is not a JSON array.")
    rows: list[Any] = []
    row = 0
    try:
        for item in ijson.items(_Rejoined(beginning, file), "item", use_float=True, buf_size=65_536):
            rows.append(item)
            if len(rows) >= 500:
                yield Block(rows, range(row + 1, row + 1 + len(rows)), True)
                row, rows = row + len(rows), []
    except (ijson.JSONError, UnicodeError, RecursionError) as error:
        line = row + len(rows) + 1
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise problem("NotJson", f"Not valid JSON, at or after row {line}: {reason[0]}.", line) from None
    if rows:
        yield Block(rows, range(row + 1, row + 1 + len(rows)), True)


class _Rejoined:
    """A file with the byte that was taken off its beginning."""

    def __init__(self, beginning: bytes, file: BinaryIO) -> None:
        self._beginning = beginning
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if self._beginning and size:
            taken, self._beginning = self._beginning, b""
            return taken
        return self._file.read(size)


# -------------------------------------------------------------------------------------------------------- CSV


def csv_rows(file: BinaryIO, limits: Limits, optional: Collection[str] = ()) -> Iterator[Block]:
    """A header line and one row a line. What reads as a number is one; anything else is a string. An empty cell
    of a field in `optional` leaves the field out."""
    csv.field_size_limit(limits.import_line_bytes_max)
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    reader = csv.reader(text)
    rows: list[Any] = []
    lines: list[int] = []
    line, special = 0, False
    try:
        header = _header(reader)
        line = reader.line_num
        for cells in reader:
            line += 1
            if cells:  # An empty line is not a row.
                row = _csv_row(header, cells, optional, line)
                special = special or dict in map(type, row.values())
                rows.append(row)
                lines.append(line)
            line = reader.line_num
            if len(rows) >= _CSV_ROWS:
                yield Block(rows, lines, special)
                rows, lines, special = [], [], False
    except csv.Error as error:
        raise problem("CsvInvalidRow", f"Line {line + 1} cannot be read as CSV: {error}.", line + 1) from None
    except UnicodeDecodeError:
        raise problem("NotUtf8", f"The file is not UTF-8, at or after line {line + 1}.", line + 1) from None
    finally:
        text.detach()
    if rows:
        yield Block(rows, lines, special)


def _header(reader: Iterator[list[str]]) -> list[str]:
    header = [name.strip() for name in next(reader, [])]
    if not header or header == [""]:
        raise problem("CsvMissingHeaders", "The file has no header line with the names of the fields.", 1)
    if header[0].startswith("\ufeff"):
        raise problem("Utf8BomNotSupported", "The file begins with a byte order mark; save it without.", 1)
    for name in header:
        try:
            check_field_name(name)
            if not name or (name[0] == "_" and name not in ("_id", "_creationTime")):
                raise CvxError("InvalidFieldName", "It is empty or begins with an underscore.")
        except CvxError as error:
            raise problem(
                "CsvInvalidHeader", f"'{name[:64]}' in the header cannot name a field: {error.message}", 1
            ) from None
    if len(set(header)) < len(header):
        raise problem("CsvInvalidHeader", "A field occurs twice in the header.", 1)
    return header


def _csv_row(header: list[str], cells: list[str], optional: Collection[str], line: int) -> dict[str, Any]:
    if len(cells) != len(header):
        code = "CsvRowMissingFields" if len(cells) < len(header) else "CsvInvalidRow"
        raise problem(code, f"Line {line} has {len(cells)} cells, and the header {len(header)}.", line)
    row = {
        name: _csv_value(cell)
        for name, cell in zip(header, cells, strict=True)
        if cell or name not in optional
    }
    if "_id" in row:
        row["_id"] = cells[header.index("_id")]  # Digits alone are an id all the same.
    return row


def _csv_value(cell: str) -> Any:
    if not cell or cell[0] not in "+-.0123456789niNI" or "_" in cell or cell[-1].isspace():
        return cell
    try:
        number = float(cell)
    except ValueError:
        return cell
    if number - number != 0.0:
        return {"$float": binascii.b2a_base64(struct.pack("<d", number), newline=False).decode()}
    return number


# -------------------------------------------------------------------------------------------------------- ZIP


@dataclass
class ZipTable:
    """A table in a ZIP: the entries with its documents and with how they are spelled."""

    component: str
    name: str
    documents: zipfile.ZipInfo
    shape: zipfile.ZipInfo | None = None
    number: int | None = None
    uniform: bool = False


@dataclass
class ZipContents:
    """What of a ZIP will be imported, by component path. `files`: stored files, by their id."""

    tables: list[ZipTable] = field(default_factory=list)
    storage: dict[str, zipfile.ZipInfo] = field(default_factory=dict)
    files: dict[str, dict[str, zipfile.ZipInfo]] = field(default_factory=dict)


_COMPONENTS = "_components"
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ValueError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
)
"""What `zipfile` raises for a file that is not what it should be."""


def open_zip(file: BinaryIO) -> zipfile.ZipFile:
    """Raises CvxError "InvalidZip"."""
    try:
        return zipfile.ZipFile(file)
    except _ZIP_ERRORS as error:
        raise problem("InvalidZip", f"The file is not a ZIP that can be read: {error}.") from None


def survey_zip(archive: zipfile.ZipFile, limits: Limits, within: str = "") -> ZipContents:
    """What is in a ZIP that is for this component, and the table numbers it declares. Raises CvxError: InvalidZip, InvalidName."""
    entries = archive.infolist()
    if len(entries) > limits.import_zip_entries_max:
        raise problem("InvalidZip", f"The ZIP has more than {limits.import_zip_entries_max} entries.")
    if sum(entry.file_size for entry in entries) > limits.import_expanded_bytes_max:
        raise problem("InvalidZip", f"The ZIP unpacks to more than {limits.import_expanded_bytes_max} bytes.")
    tables: dict[tuple[str, str], ZipTable] = {}
    shapes: dict[tuple[str, str], zipfile.ZipInfo] = {}
    numbers: list[tuple[str, zipfile.ZipInfo]] = []
    contents = ZipContents()
    for entry in entries:
        place = None if entry.is_dir() else _place_of(entry.filename)
        if place is None:
            continue
        inside, folder, name = place
        component = "/".join(path for path in (within, inside) if path)
        if folder == "_storage":
            if name == "documents.jsonl":
                contents.storage[component] = entry
            else:
                contents.files.setdefault(component, {})[name.partition(".")[0]] = entry
        elif folder == "_tables":
            if name == "documents.jsonl":
                numbers.append((component, entry))
        elif folder.startswith("_"):
            continue  # Another system table: not ours to fill.
        elif name == "generated_schema.jsonl":
            shapes[component, folder] = entry
        elif name == "documents.jsonl":
            if (component, folder) in tables:
                raise problem("InvalidZip", f"The ZIP has the table {folder} twice.")
            tables[component, folder] = ZipTable(component, folder, entry)
    if len(tables) > limits.import_tables_max:
        raise problem("InvalidZip", f"The ZIP has more than {limits.import_tables_max} tables.")
    declared = {
        key: number for component, entry in numbers for key, number in _numbers(archive, component, entry)
    }
    for key, table in tables.items():
        table.shape = shapes.get(key)
        table.number = declared.get(key)
        table.uniform = table.shape is not None and _is_uniform(archive, table.shape)
    contents.tables = sorted(tables.values(), key=lambda table: (table.component, table.name))
    return contents


def _place_of(path: str) -> tuple[str, str, str] | None:
    """(component path, table, file) of an entry's name; None for what is not part of the layout."""
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\\" in part for part in parts):
        return None
    components: list[str] = []
    # Whoever zips a folder puts its name in front of everything.
    if len(parts) % 2 and parts[0] != _COMPONENTS:
        parts = parts[1:]
    while len(parts) > 2 and parts[0] == _COMPONENTS:
        components.append(parts[1])
        parts = parts[2:]
    if len(parts) != 2:
        return None
    return "/".join(components), parts[0], parts[1]


def _numbers(
    archive: zipfile.ZipFile, component: str, entry: zipfile.ZipInfo
) -> Iterator[tuple[tuple[str, str], int]]:
    with reading_entry(archive, entry) as file:
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            row = _row_of(text, line)
            if (
                type(row) is not dict
                or type(row.get("name")) is not str
                or type(row.get("id")) not in (int, float)
            ):
                raise problem("InvalidZip", f"Line {line} of {entry.filename} is not a name and an id.", line)
            yield (component, row["name"]), int(row["id"])


def _is_uniform(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    with reading_entry(archive, entry) as file:
        return file.read(64).strip() == b'"uniform"'


@contextlib.contextmanager
def reading_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[BinaryIO]:
    """An entry of a ZIP as a file; whatever is wrong with it becomes CvxError "InvalidZip"."""
    try:
        with archive.open(entry) as file:
            yield cast("BinaryIO", file)
    except _ZIP_ERRORS as error:
        found = problem(
            "InvalidZip", f"{entry.filename[:200]} in the ZIP is damaged or cannot be read: {error}."
        )
        found.details["file"] = entry.filename
        raise found from None
    except CvxError as error:
        error.details.setdefault("file", entry.filename)
        raise


def number_in_ids(block: Block) -> Any:
    """The `_id` of a block's first row, if it has one."""
    row = block.rows[0] if block.rows else None
    return row.get("_id") if type(row) is dict else None


def not_an_object(row: Any, line: int) -> CvxError:
    return problem("NotAnObject", f"Row {line} is not an object but {print_kind(row)}.", line)
