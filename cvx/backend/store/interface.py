"""What a store is: the current documents and index entries, and beside them a log of every revision.

The invariants that every implementation keeps (tests/store/ runs them on each one):

1. `append` is all or nothing, and visible to every view opened after it returns. It is durable only once
   `durable(ts)` has returned.
2. A view shows the store exactly as of `view.ts`, whatever is appended later, until it is closed.
3. Timestamps of appended records strictly increase; `latest_ts` never goes back, not even across a crash that
   follows `durable(latest_ts)`.
4. Entries point at documents that exist: a scan returns the current document of every entry in the range.
5. A read costs the same whatever happened to the row before.

Rule: a store holds no policy: no retries, no cached results, no idea what a table means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from cvx.backend.store.bulk import BulkFile
from cvx.errors import CvxError
from cvx.values import KeyRange, Timestamp


class StoredDocument(NamedTuple):
    """A current document: canonical JSON bytes, its weight (values.size_of), and when it was written."""

    document: bytes
    size: int
    ts: Timestamp


class Row(NamedTuple):
    """One result of a scan: the index key (by id: the internal id) and the document it leads to."""

    key: bytes
    internal: bytes
    document: bytes
    size: int
    ts: Timestamp


class Revision(NamedTuple):
    """One document's change in a commit. `document` None: deleted. `previous_ts` None: it did not exist."""

    table_id: int
    internal: bytes
    document: bytes | None
    size: int
    previous_ts: Timestamp | None


class EntryChange(NamedTuple):
    """An index entry that appears (`internal` names its document in `table_id`) or, with None, goes away."""

    table_id: int
    index_id: int
    key: bytes
    internal: bytes | None


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """All changes of one commit."""

    ts: Timestamp
    revisions: Sequence[Revision]
    entries: Sequence[EntryChange] = field(default=())


class LogEntry(NamedTuple):
    """One line of the log."""

    ts: Timestamp
    table_id: int
    internal: bytes
    document: bytes | None
    previous_ts: Timestamp | None


class StoreView(Protocol):
    """The store as of one timestamp. Closing it is not optional: an open view keeps old pages alive."""

    @property
    def ts(self) -> Timestamp: ...

    def get(self, table_id: int, internal: bytes) -> StoredDocument | None:
        """The current document, or None."""
        ...

    def scan(self, index_id: int, range: KeyRange, *, descending: bool, limit: int) -> list[Row]:
        """Up to `limit` entries of an index in the range, in key order, each with its document."""
        ...

    def scan_table(self, table_id: int, range: KeyRange, *, descending: bool, limit: int) -> list[Row]:
        """As `scan`, over the table itself in id order: keys are internal ids."""
        ...

    def count(self, table_id: int) -> int:
        """How many documents the table has; costs the same for any number."""
        ...

    def close(self) -> None: ...


class Store(Protocol):
    """See the module's invariants. Everything but `durable` returns at once and may be called on the event loop
    (large commits: from one other thread at a time, while no other write runs)."""

    @property
    def latest_ts(self) -> Timestamp: ...

    def view(self, *, detached: bool = False) -> StoreView:
        """The store as of now. `detached`: for long reading on another thread."""
        ...

    def append(self, record: CommitRecord) -> None:
        """Apply one commit. Visible when it returns; not yet durable."""
        ...

    def append_many(self, records: Sequence[CommitRecord]) -> None:
        """Apply several commits in order, all or none."""
        ...

    def fill(self, entries: Sequence[EntryChange], globals: Mapping[str, bytes]) -> None:
        """Add entries to an index that nobody reads yet, and note progress, as one step without a timestamp.

        An entry whose key is there already is left alone; one whose document is gone is skipped.
        """
        ...

    async def durable(self, ts: Timestamp) -> None:
        """Return once everything up to `ts` is on disk."""
        ...

    async def writable(self) -> None:
        """Wait while the store must not be written (a moment after a very long run of commits)."""
        ...

    def log(self, since: Timestamp, limit: int) -> list[LogEntry]:
        """Up to `limit` log lines with a timestamp above `since`, in order; commits are never cut in two."""
        ...

    def trim(self, before: Timestamp, limit: int) -> int:
        """Drop up to `limit` log lines older than `before`, never the newest commit; how many went."""
        ...

    def get_global(self, name: str) -> bytes | None: ...

    def set_global(self, name: str, value: bytes) -> None:
        """Set a global, durably."""
        ...

    def drop_table(self, table_id: int, limit: int) -> int:
        """Delete up to `limit` documents of a table that nobody reads; how many went (0: it is empty)."""
        ...

    def drop_index(self, index_id: int, limit: int) -> int:
        """Delete up to `limit` entries of an index that nobody reads; how many went (0: it is empty)."""
        ...

    def table_ids(self) -> list[int]:
        """Tables that have documents."""
        ...

    def index_ids(self) -> list[int]:
        """Indexes that have entries."""
        ...

    def size_bytes(self) -> int:
        """What the store occupies on disk."""
        ...

    def fail(self, error: BaseException) -> CvxError:
        """Stop for good, for a reason found by whoever uses the store: nothing is written or acknowledged any
        more, and the fatal callback is told. What waiters are to be given."""
        ...

    def close(self) -> None: ...


FatalCallback = Callable[[BaseException], None]
"""Called when nobody knows any more what is on disk, or what was made of it. The process must stop; nothing may be acknowledged."""
    def load(self, bulk: BulkFile, documents: range, entries: range, globals: Mapping[str, bytes]) -> None:
        """Add some of a bulk file's documents, and entries of documents that are there, to a table that nobody
        reads yet, and note progress, as one step without a timestamp.

        Raises CvxError "DuplicateId" when the table has a document of the same id already.
        """
        ...

