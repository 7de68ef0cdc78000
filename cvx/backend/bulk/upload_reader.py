"""One upload → a survey of it, then bulk files that the store can take in.

`UploadReader` is run by the importer's own process (import_child.py) and, for uploads that are small enough not to be
noticed, by a thread of the backend (reading.py): the same code, so the same answers.

Rule: it opens nothing but the upload and its own folder; whatever goes wrong is said as `ImportFailed`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import sqlite3
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

from cvx.backend.bulk import table_formats as formats
from cvx.backend.bulk.import_files import unpack_files
from cvx.backend.bulk.import_rows import RowMaker, optional_fields
from cvx.backend.bulk.messages import (
    FilesUnpacked,
    FoundTable,
    ImportDone,
    ImportFailed,
    ImportOrder,
    ImportPlan,
    ImportProgress,
    ImportReport,
    ImportSurvey,
    RunReady,
    TableDone,
    TablePlan,
)
from cvx.backend.bulk.uploads import Parts, parts_of
from cvx.backend.config import Limits
from cvx.errors import CvxError
from cvx.protocol.schema import Schema, parse_schema
from cvx.values import ANYTHING, DocumentId, TableNumber, Validator

Say = Callable[[ImportReport], None]
"""Takes a report. Raises BrokenPipeError when nobody listens any more."""

_REPORT_S = 0.25
_HASH_BYTES = 1 << 20


class _Names:
    """`TableNames`: what table numbers will mean once the import is done."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = {int(number): name for number, name in names.items()}

    def name_of(self, table: TableNumber) -> str | None:
        return self._names.get(table)


class UploadReader:
    """One upload, from the survey to the last row; `say` is told what is ready."""

    def __init__(self, order: ImportOrder, say: Say) -> None:
        self._order = order
        self._say = say
        self._limits = replace(Limits(), **order.limits)
        self._folder = Path(order.folder)
        self._parts = Parts(parts_of(self._folder))
        self._archive: zipfile.ZipFile | None = None
        self._contents = formats.ZipContents()
        self._bytes_before = 0
        self._rows_before = 0
        self._said_s = 0.0

    def survey(self) -> ImportSurvey:
        if self._order.format == "zip":
            self._archive = formats.open_zip(cast("BinaryIO", io.BufferedReader(self._parts, 1 << 16)))
            self._contents = formats.survey_zip(self._archive, self._limits, self._order.component)
            found = [
                FoundTable(table.component, table.name, table.number or self._first_number(at))
                for at, table in enumerate(self._contents.tables)
            ]
            size = sum(table.documents.file_size for table in self._contents.tables)
            files = sum(map(len, self._contents.files.values()))
            return ImportSurvey(found, size, files, self._digest())
        assert self._order.table is not None
        found = [FoundTable(self._order.component, self._order.table, self._first_number(0))]
        return ImportSurvey(found, self._parts.size, 0, self._digest())

    def _digest(self) -> str | None:
        """What tells this upload from any other."""
        if not self._order.digest:
            return None
        digest = hashlib.sha256(
            f"{self._order.format} {self._order.table} {self._order.component}\n".encode()
        )
        self._parts.seek(0)
        while piece := self._parts.read(_HASH_BYTES):
            digest.update(piece)
        return digest.hexdigest()

    def _first_number(self, at: int) -> int | None:
        """The table number in the first row's id."""
        with self._opened(at) as file:
            block = next(self._blocks(at, file, ANYTHING), None)
        id = None if block is None else DocumentId.try_parse(formats.number_in_ids(block))
        return None if id is None else id.table

    def read(self, plan: ImportPlan) -> None:
        """Make bulk files of everything."""
        schemas = {component: parse_schema(text) for component, text in plan.schemas.items()}
        for at, table in enumerate(plan.tables):
            with self._opened(at) as file:
                self._read_table(at, table, schemas.get(table.component), plan, file)
        if self._archive is not None and self._contents.files:
            count = unpack_files(self._archive, self._contents, self._folder, self._order.created_ms)
            self._say(FilesUnpacked(count))
        self._say(ImportDone())

    def _read_table(
        self, at: int, table: TablePlan, schema: Schema | None, plan: ImportPlan, file: BinaryIO
    ) -> None:
        known = None if schema is None or not schema.validation else schema.tables.get(table.name)
        validator = ANYTHING if known is None else known.validator
        maker = RowMaker(
            table,
            validator,
            _Names(plan.names.get(table.component, {})),
            self._folder,
            f"table-{at:05}",
            self._order.created_ms,
            self._limits,
            lambda run: self._say(RunReady(at, run)),
        )
        for block in self._blocks(at, file, validator):
            maker.add(block)
            if time.monotonic() - self._said_s > _REPORT_S:
                self._said_s = time.monotonic()
                self._say(
                    ImportProgress(self._rows_before + maker.rows, self._bytes_before + self._position(file))
                )
        maker.finish()
        self._rows_before += maker.rows
        if self._archive is not None:
            self._bytes_before += self._contents.tables[at].documents.file_size
        self._say(TableDone(at, maker.rows))

    def _position(self, file: BinaryIO) -> int:
        with contextlib.suppress(OSError, ValueError):
            return file.tell()
        return self._parts.tell()

    def _blocks(self, at: int, file: BinaryIO, validator: Validator) -> Iterator[formats.Block]:
        format, limits = self._order.format, self._limits
        if format == "zip":
            return formats.json_lines(file, limits, uniform=self._contents.tables[at].uniform)
        if format == "csv":
            return formats.csv_rows(file, limits, optional_fields(validator))
        if format == "jsonArray":
            return formats.json_array(file, limits)
        return formats.json_lines(file, limits)

    @contextlib.contextmanager
    def _opened(self, at: int) -> Iterator[BinaryIO]:
        if self._archive is not None:
            with formats.reading_entry(self._archive, self._contents.tables[at].documents) as entry:
                yield entry
        else:
            self._parts.seek(0)
            buffered = io.BufferedReader(self._parts, 1 << 18)
            try:
                yield cast("BinaryIO", buffered)
            finally:
                buffered.detach()

    def close(self) -> None:
        """Close the files of the upload."""
        self._parts.close()


def saying_failures(work: Callable[[], None], say: Say) -> None:
    """Do it; what it raises is said. Raises BrokenPipeError alone."""
    try:
        work()
    except CvxError as error:
        say(ImportFailed(error.code, error.message, error.details.get("line"), error.details.get("file")))
    except MemoryError:
        say(ImportFailed("ImportTooComplex", "The file needs more memory than an import may have."))
    except BrokenPipeError:
        raise
    except (OSError, sqlite3.OperationalError) as error:
        full = "full" in str(error) or getattr(error, "errno", 0) == 28
        say(
            ImportFailed(
                "DiskFull" if full else "ImportFailed",
                "The disk of the backend is full." if full else f"The import failed: {error}.",
            )
        )
    except Exception as error:  # edge: the import is told of a bug as of any other failure.
        say(ImportFailed("ImportFailed", f"The import failed: {type(error).__name__}: {error}."))
