"""What the backend and the processes that read and write files say to each other: lines of JSON.

Rule: data only.
"""

from __future__ import annotations

from typing import Any

import msgspec

from cvx.protocol.transfers import TableFormat

UNPACKED_FILES = "files.jsonl"

# ------------------------------------------------------------------------------------------------------ import


class Run(msgspec.Struct, frozen=True):
    """A bulk file that is ready."""

    path: str
    documents: int
    entries: int
    bytes: int


class TablePlan(msgspec.Struct, frozen=True):
    """Where a table's documents go. `indexes`: id in the store and field paths; empty when they are to be appended
    to a table that lives."""

    component: str
    name: str
    number: int
    creation_index: int
    indexes: list[tuple[int, list[list[str]]]] = []
    keyed: bool = True


class ImportOrder(msgspec.Struct, frozen=True):
    """What to read. `created_ms`: of the first row that brings no creation time. `limits`: those of `Limits` that
    are not as usual."""

    folder: str
    format: str
    table: str | None
    component: str
    created_ms: float
    limits: dict[str, Any] = {}
    digest: bool = False


class FoundTable(msgspec.Struct, frozen=True):
    """A table in the upload, and the number its ids carry, as far as that is known."""

    component: str
    name: str
    number: int | None


class ImportSurvey(msgspec.Struct, frozen=True, tag=True):
    """What the upload holds. `bytes`: of all rows, as text. `files`: stored files. `digest`: of the whole, if asked for."""

    tables: list[FoundTable]
    bytes: int
    files: int = 0
    digest: str | None = None


class ImportPlan(msgspec.Struct, frozen=True):
    """Where the tables go, in the order of the survey. `names`: what table numbers will mean, by component;
    `schemas`: what documents must fit, by component."""

    tables: list[TablePlan]
    names: dict[str, dict[str, str]]
    schemas: dict[str, str]


class RunReady(msgspec.Struct, frozen=True, tag=True):
    """A bulk file of the table at this place in the plan."""

    table: int
    run: Run


class ImportProgress(msgspec.Struct, frozen=True, tag=True):
    """So many rows were made, of so many bytes of text."""

    rows: int
    bytes: int


class TableDone(msgspec.Struct, frozen=True, tag=True):
    """All rows of a table are in bulk files."""

    table: int
    rows: int


class UnpackedFile(msgspec.Struct, frozen=True):
    """A line of the list `UNPACKED_FILES`: a stored file that lies unpacked at `path` in the import's folder."""

    id: str
    path: str
    creation_time: float
    content_type: str | None
    storage_id: str | None
    size: int
    component: str = ""


class FilesUnpacked(msgspec.Struct, frozen=True, tag=True):
    """So many stored files were in the upload, by component."""

    files: dict[str, int]


class ImportFailed(msgspec.Struct, frozen=True, tag=True):
    """Why there can be no import."""

    code: str
    message: str
    line: int | None = None
    file: str | None = None


class ImportDone(msgspec.Struct, frozen=True, tag=True):
    """Everything is in bulk files."""


ImportReport = (
    ImportSurvey | RunReady | ImportProgress | TableDone | FilesUnpacked | ImportFailed | ImportDone
)


# ------------------------------------------------------------------------------------------------------ export


class ExportOrder(msgspec.Struct, frozen=True):
    """What to write. `data`: the backend's folder. `zip_path`: where the ZIP goes; None: `tables[0]` to standard
    output, in `format`. `tables` None: all."""

    data: str
    batch_rows: int
    chunk_bytes: int
    zip_path: str | None = None
    tables: list[str] | None = None
    stored: bool = False
    include_storage: bool = False
    format: TableFormat = "jsonl"
    component: str = ""


class StoredFile(msgspec.Struct, frozen=True):
    """A file whose bytes belong into the ZIP under `name`."""

    name: str
    id: str
    key: str
    storage_id: str
    size: int
    sha256: str
    content_type: str | None
    creation_time: float


class ExportBegun(msgspec.Struct, frozen=True, tag=True):
    """What the snapshot holds."""

    ts: int
    rows: int


class ExportProgress(msgspec.Struct, frozen=True, tag=True):
    rows: int
    table: str


class ExportDone(msgspec.Struct, frozen=True, tag=True):
    """All tables are in the ZIP. `files`: whose bytes are still missing."""

    rows: int
    files: list[StoredFile]


class ExportFailed(msgspec.Struct, frozen=True, tag=True):
    code: str
    message: str


ExportReport = ExportBegun | ExportProgress | ExportDone | ExportFailed
