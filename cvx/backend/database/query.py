"""A query inside a transaction: its JSON, compiled, and the stream of its documents.

A stream is read ahead of the code that consumes it; afterwards it is told how far that code really came
(`consumed`), and both its read range and the counters are trimmed to that. Rows count before filters.

Rule: documents leave as the bytes they are stored as; only filters decode them.

Source: reference/runtime-and-database.md §2.1, §2.5, §4.5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from cvx.backend.config import Limits
from cvx.backend.database.expressions import compile_filter
from cvx.backend.database.scan import Scan
from cvx.backend.database.text_search import SearchScan, SearchSource
from cvx.backend.database.usage import Meter
from cvx.backend.store import Row
from cvx.errors import CvxError
from cvx.values import KeyRange, decode

Filter = Callable[[dict[str, Any]], bool]
Operator = Filter | int
"""A test, or how many rows may pass this point."""


@dataclass(frozen=True, slots=True)
class QuerySource:
    """Where a query reads: a table's index, in a direction, under range conditions."""

    table: str
    index: str
    descending: bool
    conditions: list[Any]


def parse_source(query: Any) -> QuerySource | SearchSource:
    """The source of a serialized query. Raises CvxError "InvalidQuery"."""
    source = query.get("source") if type(query) is dict else None
    if type(source) is not dict:
        raise _malformed("it has no source")
    kind = source.get("type")
    if kind == "Search":
        searched, dot, index = str(source.get("indexName")).partition(".")
        filters = source.get("filters")
        if not dot or type(filters) is not list:
            raise _malformed("a search must have an indexName 'table.index' and filters")
        return SearchSource(searched, index, filters)
    order = source.get("order")
    if order not in (None, "asc", "desc"):
        raise _malformed(f"'{str(order)[:16]}' is not an order")
    if kind == "FullTableScan":
        table = source.get("tableName")
        if type(table) is not str:
            raise _malformed("a full table scan must name its table")
        return QuerySource(table, "by_creation_time", order == "desc", [])
    if kind == "IndexRange":
        table, dot, index = str(source.get("indexName")).partition(".")
        conditions = source.get("range")
        if not dot or type(conditions) is not list:
            raise _malformed("an index range must have an indexName 'table.index' and a range")
        return QuerySource(table, index, order == "desc", conditions)
    raise _malformed(f"'{str(kind)[:32]}' is not a kind of source")


def parse_operators(query: dict[str, Any], limits: Limits) -> tuple[Operator, ...]:
    """The operators of a serialized query, in their order. Raises CvxError for what cannot be one."""
    items = query.get("operators")
    if items is None:
        return ()
    if type(items) is not list:
        raise _malformed("operators must be an array")
    if len(items) > limits.query_operators_max:
        raise CvxError(
            "TooManyOperators",
            f"The query has {len(items)} operators; the maximum is {limits.query_operators_max}.",
        )
    operators: list[Operator] = []
    for item in items:
        if type(item) is not dict or len(item) != 1:
            raise _malformed("an operator is an object with one key")
        ((name, operand),) = item.items()
        if name == "filter":
            operators.append(compile_filter(operand))
        elif name == "limit" and type(operand) in (int, float) and operand >= 0 and operand == int(operand):
            operators.append(int(operand))
        else:
            raise _malformed(f"'{name[:32]}' is not an operator")
    return tuple(operators)


def _malformed(why: str) -> CvxError:
    return CvxError("InvalidQuery", f"Not a query: {why}.")


class Pipeline:
    """The operators of one run of a query: which rows come out, and when no more can."""

    __slots__ = ("_filters", "_left", "closed")

    def __init__(self, operators: tuple[Operator, ...]) -> None:
        self._filters = [op if callable(op) else None for op in operators]
        self._left = [0 if callable(op) else op for op in operators]
        self.closed = any(op == 0 for op in operators if not callable(op))

    @property
    def is_plain(self) -> bool:
        """Whether no row needs to be looked into."""
        return not any(self._filters)

    def room(self) -> int | None:
        """How many rows may still pass when there are no filters; None: any number."""
        return min(self._left, default=None) if self.is_plain else None

    def take(self, rows: int) -> None:
        """Let rows pass that need not be looked into."""
        for position in range(len(self._left)):
            self._left[position] -= rows
            if self._left[position] == 0:
                self.closed = True

    def passes(self, document: bytes) -> bool:
        """Run one row through the operators."""
        value: Any = None
        for position, test in enumerate(self._filters):
            if test is None:
                self._left[position] -= 1
                if self._left[position] == 0:
                    self.closed = True
            else:
                if value is None:
                    value = decode(document)
                if not test(value):
                    return False
        return True


class QueryStream:
    """The documents of one query, page by page. Made by `Transaction.stream`."""

    def __init__(
        self,
        scan: Scan | SearchScan | None,
        operators: tuple[Operator, ...],
        meter: Meter,
        limits: Limits,
        counted: bool,
    ) -> None:
        self._scan = scan
        self._whole = scan.remaining if scan is not None else KeyRange(b"", b"")
        self._pipeline = Pipeline(operators)
        self._meter = meter
        self._limits = limits
        self._counted = counted
        self._buffer: list[Row] = []
        self._batch = limits.scan_batch_rows // 4
        self._done = scan is None or self._pipeline.closed
        # For every delivered document: its key, and how many rows and bytes had been read by then.
        self._keys: list[bytes] = []
        self._rows: list[int] = []
        self._bytes: list[int] = []
        self._rows_read = 0
        self._bytes_read = 0
        self._last_key: bytes | None = None
        self._consumed: int | None = None
        self._failure: CvxError | None = None
        self._has_failed = False
        self._given_back = (0, 0)
        self._noted: KeyRange | None = None

    # ---------------------------------------------------------------------------------------------- consumers

    def next_page(self, want: int, *, rows_max: int | None = None) -> tuple[list[bytes], bool]:
        """Up to `want` more documents, at least one unless it is done; and whether it is done. With `rows_max`, fewer
        (or none) once about so many rows have been looked at.

        What fails in the middle (a filter, or a read limit) ends the page early and is raised by the next call.
        """
        self._take_back()
        if self._failure is not None:
            self._has_failed = True
            raise self._failure
        documents: list[bytes] = []
        enough = None if rows_max is None else self._rows_read + rows_max
        while len(documents) < want and not self._done and (enough is None or self._rows_read < enough):
            try:
                found = self._plain(want - len(documents)) if self._pipeline.is_plain else self._filtered()
            except CvxError as error:
                if (
                    error.kind != "pagination_limit"
                ):  # A limit is asked again: others may give back what they read.
                    self._failure = error
                if documents:
                    break
                self._has_failed = True
                raise
            documents += found
            if self._pipeline.closed or (
                self._scan is not None and self._scan.exhausted and not self._buffer
            ):
                self._done = True
        return documents, self._done

    def consumed(self, total: int, end: bool = True) -> None:
        """User code took `total` documents, and (`end`) saw that there are no more, if that is so.

        What was read beyond is given back: it is neither a dependency nor counted.
        """
        self._take_back()
        if total >= len(self._keys) and end:
            return
        self._consumed = total
        rows = self._rows_read - (self._rows[total - 1] if total else 0)
        size = self._bytes_read - (self._bytes[total - 1] if total else 0)
        self._given_back = rows, size
        if self._counted:
            self._meter.usage.documents_read -= rows
            self._meter.usage.bytes_read -= size

    def _take_back(self) -> None:
        """Undo a `consumed` that was not the last word: the consumer goes on."""
        rows, size = self._given_back
        self._given_back = (0, 0)
        self._consumed = None
        if self._counted:
            self._meter.usage.documents_read += rows
            self._meter.usage.bytes_read += size

    def interval(self) -> tuple[KeyRange | None, KeyRange]:
        """(what was noted in the ReadSet before, what is to be noted now)."""
        before, now = self._noted, self._interval()
        if before is not None and _covers(before, now):
            now = before
        self._noted = now
        return before, now

    @property
    def index_id(self) -> int | None:
        return None if self._scan is None else self._scan.index_id

    # ----------------------------------------------------------------------------------------------- internals

    def _interval(self) -> KeyRange:
        whole = self._whole
        if self._has_failed:
            return whole  # What it failed on is beyond the last document that came out.
        if self._consumed is not None:
            key = self._keys[self._consumed - 1] if self._consumed else None
        elif self._scan is not None and self._scan.exhausted and not self._buffer:
            return whole
        else:
            key = self._last_key
        if key is None or self._scan is None:
            return KeyRange(b"", b"")
        return KeyRange(key, whole.end) if self._scan.descending else KeyRange(whole.start, key + b"\x00")

    def _plain(self, want: int) -> list[bytes]:
        """Rows that no filter looks at, as many at once as there are."""
        room = self._pipeline.room()
        if room is not None:
            want = min(want, room)
        rows = self._take(min(want, self._limits.scan_batch_rows_max))
        if not rows:
            return []
        rows = self._charged(rows)
        self._keys += [row.key for row in rows]
        count = len(self._rows)
        self._rows += range(self._rows_read - len(rows) + 1, self._rows_read + 1)
        sizes = accumulate((row.size for row in rows), initial=self._bytes[-1] if count else 0)
        next(sizes)
        self._bytes += sizes
        self._last_key = rows[-1].key
        self._pipeline.take(len(rows))
        return [row.document for row in rows]

    def _filtered(self) -> list[bytes]:
        """The next document that passes, or none when the batch at hand has none."""
        if not self._buffer:
            assert self._scan is not None
            self._buffer = self._scan.fetch(self._batch)
            self._batch = min(self._batch * 2, self._limits.scan_batch_rows_max)
            self._buffer.reverse()
        while self._buffer:
            row = self._buffer[-1]
            self._charge(1, row.size)
            self._buffer.pop()
            self._last_key = row.key
            if self._pipeline.passes(row.document):
                self._keys.append(row.key)
                self._rows.append(self._rows_read)
                self._bytes.append(self._bytes_read)
                return [row.document]
            if self._pipeline.closed:
                break
        return []

    def _take(self, want: int) -> list[Row]:
        """Up to `want` rows; a fetch may bring more, with the transaction's own among them."""
        assert self._scan is not None
        rows = self._buffer or self._scan.fetch(want)
        self._buffer = rows[want:]
        return rows[:want]

    def _charged(self, rows: list[Row]) -> list[Row]:
        """As many of the rows as the caps allow; the others wait for the next call, which will say so."""
        size = sum([row.size for row in rows])
        if not self._counted or self._meter.would_exceed(len(rows), size) is None:
            self._charge(len(rows), size)
            return rows
        fit = size = 0
        while self._meter.would_exceed(fit + 1, size + rows[fit].size) is None:
            size += rows[fit].size
            fit += 1
        self._buffer = rows[max(fit, 0) :] + self._buffer
        if fit == 0:
            self._charge(1, rows[0].size)  # Raises.
        self._charge(fit, size)
        return rows[:fit]

    def _charge(self, rows: int, size: int) -> None:
        if self._counted:
            self._meter.read(rows, size)
        self._rows_read += rows
        self._bytes_read += size


def _covers(outer: KeyRange, inner: KeyRange) -> bool:
    if inner.is_empty:
        return True
    return outer.start <= inner.start and (
        outer.end is None or (inner.end is not None and inner.end <= outer.end)
    )
