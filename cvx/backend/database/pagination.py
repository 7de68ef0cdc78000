"""One page of a query: the rows between two positions, or so many from a position on.

With an end position (the caller's, or that of the previous run, from the journal) a page holds every row up to
it, however many there are: that is what keeps a list of reactive pages without gaps. Without one it holds
`page_size` rows that pass the filters.

Source: reference/runtime-and-database.md §2.6; values-and-sync.md §8.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cvx.backend.config import Limits
from cvx.backend.database.cursors import Cursor, CursorCodec, mismatched_cursor
from cvx.backend.database.query import Operator, Pipeline
from cvx.backend.database.scan import Scan
from cvx.backend.database.text_search import SearchScan
from cvx.backend.database.usage import Meter
from cvx.backend.store import Row
from cvx.errors import CvxError
from cvx.values import ARRAY_LENGTH_MAX, KeyRange

PageStatus = Literal["SplitRecommended", "SplitRequired"]


@dataclass(frozen=True, slots=True)
class Page:
    """A page as `.paginate()` returns it; `continue_cursor` is also the journal of the run."""

    documents: list[bytes]
    is_done: bool
    continue_cursor: str
    split_cursor: str | None
    page_status: PageStatus | None


@dataclass(frozen=True, slots=True)
class PageRequest:
    """What is asked for: where to start, where to end, how much at most."""

    cursor: str | None
    end_cursor: str | None
    page_size: int
    maximum_rows_read: int | None
    maximum_bytes_read: int | None

    def check(self, limits: Limits) -> None:
        """Raise CvxError: NoDocumentsForPagination, PageSizeTooLarge, InvalidPaginationLimit."""
        if self.page_size < 1:
            raise CvxError("NoDocumentsForPagination", "Must request at least 1 document while paginating.")
        if self.page_size > limits.page_size_max:
            raise CvxError(
                "PageSizeTooLarge",
                f"A page of {self.page_size} documents was requested; the maximum is {limits.page_size_max}.",
            )
        for name, maximum in (("rows", self.maximum_rows_read), ("bytes", self.maximum_bytes_read)):
            if maximum == 0:
                raise CvxError(
                    "InvalidPaginationLimit", f"Must allow at least 1 of {name} read while paginating."
                )


@dataclass(frozen=True, slots=True)
class Positions:
    """The cursors of a request, decoded: start after `after`; end at `end` (None: nowhere in particular)."""

    after: Cursor | None
    end: Cursor | None

    @staticmethod
    def of(request: PageRequest, codec: CursorCodec, fingerprint: bytes) -> Positions:
        """Raises CvxError "InvalidCursor" for cursors of another deployment or another query."""
        after = None if request.cursor is None else codec.decode(request.cursor)
        end = None if request.end_cursor is None else codec.decode(request.end_cursor)
        for cursor in (after, end):
            if cursor is not None and cursor.fingerprint != fingerprint:
                raise mismatched_cursor()
        return Positions(after, end)

    def within(self, whole: KeyRange, descending: bool) -> KeyRange:
        """The part of the query's range between the two positions: after the one, up to and with the other."""
        start, end = whole.start, whole.end
        if self.after is not None:
            if self.after.after is None:
                return KeyRange(b"", b"")
            if descending:
                end = self.after.after if end is None else min(end, self.after.after)
            else:
                start = max(start, self.after.after + b"\x00")
        if self.end is not None and self.end.after is not None:
            if descending:
                start = max(start, self.end.after)
            else:
                last = self.end.after + b"\x00"
                end = last if end is None else min(end, last)
        return KeyRange(start, end)


class PageReader:
    """Reads one page; `scan` covers the range between the request's positions."""

    def __init__(
        self,
        scan: Scan | SearchScan,
        operators: tuple[Operator, ...],
        meter: Meter,
        limits: Limits,
        request: PageRequest,
        bounded: bool,
        counted: bool,
    ) -> None:
        self._scan = scan
        self._pipeline = Pipeline(operators)
        self._meter = meter
        self._counted = counted
        self._bounded = bounded
        self._page_size = request.page_size
        self._rows_max = min(
            request.maximum_rows_read or limits.documents_read_max, limits.documents_read_max
        )
        self._bytes_max = min(request.maximum_bytes_read or limits.read_bytes_max, limits.read_bytes_max)
        self._limits = limits
        self.documents: list[bytes] = []
        self.keys: list[bytes] = []
        """Of every row that was read, filtered out or not."""
        self.bytes_read = 0
        self.exhausted = False
        """Whether the scan's range holds nothing beyond the rows read."""
        self.cut_short = False
        """Whether a maximum ended the page before it was full."""

    def read(self) -> None:
        """Raises CvxError for a read limit that leaves no room for even one row."""
        while not self._stops():
            try:
                rows = self._scan.fetch(self._batch())
            except CvxError as error:
                if error.kind != "pagination_limit" or not self.keys:
                    raise
                self.cut_short = True  # A search has no more candidates; the next page will say so.
                return
            if not rows:
                break
            for row in rows:
                if not self._admit(row):
                    return
                if self._stops():
                    # A full page does not look whether anything follows.
                    self.exhausted = self._pipeline.closed
                    return
        self.exhausted = self._scan.exhausted or self._pipeline.closed

    def _batch(self) -> int:
        most = self._limits.scan_batch_rows_max
        if self._bounded or not self._pipeline.is_plain:
            return min(most, max(self._page_size, self._limits.scan_batch_rows))
        return min(most, self._page_size - len(self.documents))

    def _stops(self) -> bool:
        return self._pipeline.closed or (not self._bounded and len(self.documents) >= self._page_size)

    def _admit(self, row: Row) -> bool:
        if self._counted:
            error = self._meter.would_exceed(1, row.size)
            if error is not None:
                if not self.keys:
                    raise error
                self.cut_short = True
                return False
            self._meter.read(1, row.size)
        self.keys.append(row.key)
        self.bytes_read += row.size
        if self._pipeline.passes(row.document):
            self.documents.append(row.document)
        full = len(self.keys) >= self._rows_max or self.bytes_read >= self._bytes_max
        if full and not self._bounded and not self._stops():
            self.cut_short = True
            return False
        return True

    def status(self) -> PageStatus | None:
        """Whether the page should be split, for clients that keep many pages."""
        if self.cut_short:
            return "SplitRequired"
        if (
            4 * len(self.keys) > 3 * self._rows_max
            or 4 * self.bytes_read > 3 * self._bytes_max
            or 4 * len(self.documents) > 3 * ARRAY_LENGTH_MAX
        ):
            return "SplitRecommended"
        return None
