"""What a transaction has used, and the caps it runs under.

A nested call may be given a smaller budget; exceeding a cap is an error its caller can catch. The errors for
reading too much are of the kind that pagination absorbs once it has a row.

Source: reference/runtime-and-database.md §4.3 (transactionLimits), §4.5.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cvx.backend.config import Limits
from cvx.errors import CvxError


@dataclass(slots=True)
class Usage:
    """Counters of one transaction, or of one action; documents of user tables only, but for the two `system_` ones.

    The last ones are what the function log reports (runtime-and-database.md §12); no cap is held against them here.
    """

    documents_read: int = 0
    bytes_read: int = 0
    intervals: int = 0
    documents_written: int = 0
    bytes_written: int = 0
    system_documents_written: int = 0
    system_bytes_written: int = 0
    queries: int = 0
    functions_scheduled: int = 0
    scheduled_args_bytes: int = 0
    storage_bytes_read: int = 0
    storage_bytes_written: int = 0
    text_index_query_bytes: int = 0
    text_index_bytes_written: int = 0
    vector_index_query_bytes: int = 0
    vector_index_bytes_written: int = 0
    network_bytes_sent: int = 0
    memory_used_bytes: int = 0


_COUNTERS = {
    "documents_read_max": "documents_read",
    "read_bytes_max": "bytes_read",
    "read_intervals_max": "intervals",
    "documents_written_max": "documents_written",
    "written_bytes_max": "bytes_written",
}


class Meter:
    """`usage`, held against caps that start as the configured limits."""

    __slots__ = (
        "_limits",
        "bytes_max",
        "documents_max",
        "intervals_max",
        "usage",
        "written_bytes",
        "written_max",
    )

    def __init__(self, limits: Limits) -> None:
        self.usage = Usage()
        self._limits = limits
        self.documents_max = limits.documents_read_max
        self.bytes_max = limits.read_bytes_max
        self.intervals_max = limits.read_intervals_max
        self.written_max = limits.documents_written_max
        self.written_bytes = limits.written_bytes_max

    @contextlib.contextmanager
    def budget(self, extra: Mapping[str, int]) -> Iterator[None]:
        """Inside, no more than this may be used on top of what has been. Keys are fields of `Limits`."""
        before = (
            self.documents_max,
            self.bytes_max,
            self.intervals_max,
            self.written_max,
            self.written_bytes,
        )
        used = self.usage
        caps = [
            min(cap, getattr(used, counter) + extra[name]) if name in extra else cap
            for cap, (name, counter) in zip(before, _COUNTERS.items(), strict=True)
        ]
        self.documents_max, self.bytes_max, self.intervals_max, self.written_max, self.written_bytes = caps
        try:
            yield
        finally:
            self.documents_max, self.bytes_max, self.intervals_max, self.written_max, self.written_bytes = (
                before
            )

    def interval(self) -> None:
        """Count one more point or range looked at. Raises CvxError "TooManyReads"."""
        usage = self.usage
        if usage.intervals >= self.intervals_max:
            raise CvxError(
                "TooManyReads",
                f"Too many reads in a single function execution (limit: {self.intervals_max} index ranges).",
                kind="pagination_limit",
                hint="Read with fewer, larger queries.",
            )
        usage.intervals += 1

    def read(self, documents: int, size: int) -> None:
        """Count documents that were read. Raises CvxError "TooManyDocumentsRead" or "TooManyBytesRead"."""
        usage = self.usage
        error = self.would_exceed(documents, size)
        if error is not None:
            raise error
        usage.documents_read += documents
        usage.bytes_read += size

    def would_exceed(self, documents: int, size: int) -> CvxError | None:
        """The error that reading so much more would be."""
        usage = self.usage
        if usage.documents_read + documents > self.documents_max:
            return CvxError(
                "TooManyDocumentsRead",
                f"Too many documents read in a single function execution (limit: {self.documents_max}).",
                kind="pagination_limit",
                hint="Use an index range or pagination instead of filtering.",
            )
        if usage.bytes_read + size > self.bytes_max:
            return CvxError(
                "TooManyBytesRead",
                f"Too many bytes read in a single function execution (limit: {self.bytes_max} bytes).",
                kind="pagination_limit",
                hint="Use an index range or pagination, or keep large values in documents of their own.",
            )
        return None

    def write(self, size: int, *, system: bool) -> None:
        """Count one document written. Raises CvxError "TooManyWrites" or "TooManyBytesWritten"."""
        usage = self.usage
        if system:
            usage.system_documents_written += 1
            usage.system_bytes_written += size
            documents, bytes = usage.system_documents_written, usage.system_bytes_written
            documents_max = self._limits.system_documents_written_max
            bytes_max = self._limits.system_written_bytes_max
        else:
            usage.documents_written += 1
            usage.bytes_written += size
            documents, bytes = usage.documents_written, usage.bytes_written
            documents_max, bytes_max = self.written_max, self.written_bytes
        if documents > documents_max:
            raise CvxError(
                "TooManyWrites",
                f"Too many documents written in a single function execution (limit: {documents_max}).",
                hint="Split the work over several mutations.",
            )
        if bytes > bytes_max:
            raise CvxError(
                "TooManyBytesWritten",
                f"Too many bytes written in a single function execution (limit: {bytes_max} bytes).",
                hint="Split the work over several mutations.",
            )
