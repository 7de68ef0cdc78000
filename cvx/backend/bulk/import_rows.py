"""Parsed rows → documents and index entries of one table, in bulk files.

Every row is checked as an insert would check it: the values, the limits, the table's validator. It keeps its `_id`
and `_creationTime`, or gets new ones. Runs for `upload_reader.py`, with nothing around it.

Rule: nothing is looked at twice; this is where an import spends its time (benchmarks/transfers.py).

Source: reference/cli-and-deploy.md §5.3 (ids); values-and-sync.md §2.3, §2.4.
"""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Callable, Collection
from operator import itemgetter
from pathlib import Path
from typing import Any

from cvx.backend.bulk.messages import Run, TablePlan
from cvx.backend.bulk.table_formats import Block, not_an_object, problem
from cvx.backend.config import Limits
from cvx.backend.database import IndexInfo, key_of
from cvx.backend.store import BulkDocument, BulkEntry, write_bulk
from cvx.errors import CvxError
from cvx.values import (
    ANYTHING,
    DocumentId,
    TableNames,
    Validator,
    new_internal_id,
    open_document,
    parse_ids,
    print_document,
    spell_ids,
)

CREATION_STEP_MS = 2.0**-12
"""Between the creation times of rows that bring none: exact in a float64, and small enough to stay in the present."""

_ROWS_PER_MS = int(1 / CREATION_STEP_MS)
_CREATION_TIME_MAX = float(1 << 53)
_pack_float = struct.Struct(">d").pack
_unpack_bits = struct.Struct(">Q").unpack
_pack_key = struct.Struct(">BQ").pack
_FLOAT_TAG = 4
_USUAL_ID_CHARS = 32
_SIGN = 1 << 63


class RowMaker:
    """Takes the blocks of one table; calls `on_run` for each bulk file that is full, and at `finish`."""

    def __init__(
        self,
        plan: TablePlan,
        validator: Validator,
        names: TableNames,
        folder: Path,
        prefix: str,
        created_ms: float,
        limits: Limits,
        on_run: Callable[[Run], None],
    ) -> None:
        self._plan = plan
        self._validator = None if validator is ANYTHING else validator
        self._names = names
        self._folder = folder
        self._prefix = prefix
        self._created_ms = created_ms
        self._limits = limits
        self._on_run = on_run
        self._indexes = [
            IndexInfo(index_id, "", (), tuple(tuple(path) for path in paths))
            for index_id, paths in plan.indexes
        ]
        self._documents: list[BulkDocument] = []
        self._entries: list[BulkEntry] = []
        self._bytes = 0
        self._runs = 0
        self._noise: list[bytes] = []
        self._noise_of = -1
        self.rows = 0

    def add(self, block: Block) -> None:
        """Make documents of a block's rows. Raises CvxError with the line of the first that cannot be one."""
        rows, lines, special = block
        validator, names = self._validator, self._names
        for at, row in enumerate(rows):
            if type(row) is not dict:
                raise not_an_object(row, lines[at])
        texts, internals = self._ids(block)
        created_ms, created = self._created_ms, self.rows
        keyed, indexes, creation = self._plan.keyed, self._indexes, b""
        documents, entries = self._documents, self._entries
        size_of_run = self._bytes
        for at, fields in enumerate(rows):
            internal, text = internals[at], texts[at]
            time = fields.pop("_creationTime", None)
            if time is None:
                time = created_ms + created * CREATION_STEP_MS
            elif type(time) is not float or not 0.0 < time < _CREATION_TIME_MAX:
                time = _creation_time(time, lines[at])
            created += 1
            try:
                size = open_document(fields)
            except CvxError as error:
                raise _not_a_document(error, lines[at]) from None
            if validator is not None:
                complaint = validator.check(fields, names)
                if complaint is not None:
                    raise self._misfit(complaint.text(), lines[at])
            fields["_creationTime"] = time
            fields["_id"] = text
            raw = print_document(fields, special=special)
            size_of_run += len(raw)
            if keyed:
                creation = _pack_key(_FLOAT_TAG, _unpack_bits(_pack_float(time))[0] | _SIGN)
                for index in indexes:
                    entries.append(BulkEntry(index.index_id, key_of(index, fields, internal)))
            size += len(text) - _USUAL_ID_CHARS
            documents.append(BulkDocument(internal, size, raw, lines[at], creation))
        self.rows = created
        self._bytes = size_of_run
        if len(documents) >= self._limits.import_run_rows or size_of_run >= self._limits.import_run_bytes:
            self._flush()

    def finish(self) -> None:
        """Write what is left."""
        if self._documents:
            self._flush()

    def _ids(self, block: Block) -> tuple[list[str], list[bytes]]:
        """Each row's id, taken off it, and the sixteen bytes of it; rows that bring none are given one."""
        rows, number = block.rows, self._plan.number
        texts = [row.pop("_id", None) for row in rows]
        brought = len(texts) - texts.count(None)
        if not brought:
            internals = self._new_ids(len(rows))
            return spell_ids(number, internals), internals
        if brought == len(rows):
            found = parse_ids(number, texts)
            if found is not None:
                return texts, found
        ids = [self._id_of(text, line) for text, line in zip(texts, block.lines, strict=True)]
        return [str(id) for id in ids], [id.internal for id in ids]

    def _new_ids(self, count: int) -> list[bytes]:
        """As `new_internal_id`, and in the order of the rows: what is random is sorted within each millisecond."""
        day = int(self._created_ms // 86_400_000).to_bytes(4, "big")[2:]
        ids: list[bytes] = []
        first, last = self.rows, self.rows + count
        while first < last:
            step, at = divmod(first, _ROWS_PER_MS)
            if step != self._noise_of:
                self._noise_of = step
                random = os.urandom(8 * _ROWS_PER_MS)
                self._noise = sorted(random[i : i + 8] for i in range(0, len(random), 8))
            time = (int(self._created_ms) + step).to_bytes(6, "big")
            some = self._noise[at : at + last - first]
            ids += [time + noise + day for noise in some]
            first += len(some)
        return ids

    def _id_of(self, text: Any, line: int) -> DocumentId:
        if text is None:
            return DocumentId(self._plan.number, new_internal_id(int(self._created_ms), os.urandom))
        id = DocumentId.try_parse(text)
        if id is None:
            raise problem("InvalidId", f"Row {line}: {text!r:.80} is not a document id.", line)
        if id.table != self._plan.number:
            raise problem(
                "InvalidId",
                f"Row {line}: the id {id} is of table number {id.table}, and this table's is {self._plan.number}.",
                line,
            )
        return id

    def _misfit(self, complaint: str, line: int) -> CvxError:
        return problem(
            "SchemaEnforcementError",
            f'Row {line} does not match the schema of table "{self._plan.name}": {complaint}',
            line,
        )

    def _flush(self) -> None:
        documents, entries = self._documents, self._entries
        self._runs += 1
        path = self._folder / f"{self._prefix}-{self._runs:06}.run"
        documents.sort(key=itemgetter(0))
        for one, other in itertools.pairwise(documents):
            if one.internal == other.internal:
                line = max(one.line, other.line)
                id = DocumentId(self._plan.number, one.internal)
                raise problem("DuplicateId", f"Row {line} has the same _id as another row: {id}.", line)
        write_bulk(path, documents, entries)
        self._on_run(Run(path.name, len(documents), len(entries), self._bytes))
        self._documents, self._entries, self._bytes = [], [], 0


def optional_fields(validator: Validator) -> Collection[str]:
    """The top-level fields that documents may leave out."""
    fields = getattr(validator, "fields", None)
    if not isinstance(fields, dict):
        return ()
    return frozenset(name for name, field in fields.items() if field.optional)


def _creation_time(value: Any, line: int) -> float:
    if type(value) is int and 0 < value < _CREATION_TIME_MAX:
        return float(value)
    raise problem(
        "InvalidConvexValue", f"Row {line}: _creationTime must be a number of milliseconds since 1970.", line
    )


def _not_a_document(error: CvxError, line: int) -> CvxError:
    return problem("InvalidConvexValue", f"Row {line} is not a valid document: {error.message}", line)
