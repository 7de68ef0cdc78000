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
from contextlib import AbstractContextManager
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


class StoredText(NamedTuple):
    """One document's part in a text index. `terms` is `text_terms` of it: every term once, in order, with how often
    it occurs; terms that only filter count 0. `length`: occurrences altogether. `created` breaks ties."""

    created: float
    length: int
    terms: bytes


class TextChange(NamedTuple):
    """What a text index holds of a document changes: from `old` (terms) to `new`; None: nothing.

    While an index is being filled, what is there may be less than `old`.
    """

    index_id: int
    internal: bytes
    old: bytes | None
    new: StoredText | None


class VectorChange(NamedTuple):
    """What a vector index holds of a document from now on; `vector` None: nothing.

    `vector`: little-endian float32s of length 1 (or all 0). `filters`: one digest after the other. `is_replacing`:
    whether it held something of the document before.
    """

    index_id: int
    internal: bytes
    vector: bytes | None
    filters: bytes
    is_replacing: bool = False


class TextStatistics(NamedTuple):
    """Of the documents in a text index: how many, how many term occurrences; and a number no text has yet."""

    documents: int
    tokens: int
    next_id: int


class RecentText(NamedTuple):
    """A text whose terms are not yet among the postings."""

    text_id: int
    text: StoredText


class Vector(NamedTuple):
    """One row of a vector index; `ts` says which version of the document it is of."""

    internal: bytes
    ts: Timestamp
    filters: bytes
    vector: bytes


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """All changes of one commit."""

    ts: Timestamp
    revisions: Sequence[Revision]
    entries: Sequence[EntryChange] = field(default=())
    texts: Sequence[TextChange] = field(default=())
    vectors: Sequence[VectorChange] = field(default=())


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

    # Text indexes. A text (one document's part, as long as it is the same) has a number; the postings of a term
    # are the numbers of the texts it occurs in. New texts are found among the recent ones first, and the numbers of
    # texts that are gone stay among the postings for a while; readers put this together (database/text_search.py).

    def text_statistics(self, index_id: int) -> TextStatistics:
        """Exact, whatever is folded and purged."""
        ...

    def postings(self, index_id: int, term: bytes, below: bytes | None) -> list[tuple[bytes, bytes]]:
        """(term, entries of `POSTING`) of one term, or (`below`) of all terms from `term` to below it. A term may
        come in several pieces; terms are in order, and numbers within each."""
        ...

    def recent_texts(self, index_id: int) -> list[RecentText]:
        """The texts that are not among the postings yet."""
        ...

    def gone_texts(self, index_id: int) -> list[int]:
        """Numbers among the postings whose texts are gone."""
        ...

    def text_columns(self, index_id: int, first: int, last: int) -> list[tuple[int, bytes]]:
        """(block, entries of `COLUMN`) for the blocks from `first` to `last`: creation time and length of the texts
        among the postings, `COLUMN_TEXTS` numbers a block; the length of one that is gone may be `GONE`."""
        ...

    def texts(self, index_id: int, text_ids: Sequence[int]) -> list[tuple[int, bytes]]:
        """(number, internal id of the document) of those that are there."""
        ...

    def text_of(self, index_id: int, internal: bytes) -> tuple[int, int] | None:
        """(number, length) of a document's text."""
        ...

    # Vector indexes.

    def vector(self, index_id: int, internal: bytes) -> Vector | None:
        """The document's row."""
        ...

    def vectors(self, index_id: int, after: bytes, limit: int) -> list[Vector]:
        """Up to `limit` rows, by internal id, of documents after `after`."""
        ...

    def vector_count(self, index_id: int) -> int:
        """How many rows the index has."""
        ...

    def changed_after(self, table_id: int, ts: Timestamp) -> bool:
        """Whether some document that is there was written after `ts`; looks at every one."""
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

    def fill(
        self,
        entries: Sequence[EntryChange],
        globals: Mapping[str, bytes],
        texts: Sequence[TextChange] = (),
        vectors: Sequence[VectorChange] = (),
    ) -> None:
        """Add entries, texts or vectors to an index that nobody reads yet, and note progress, as one step without a
        timestamp.

        An entry whose key is there already is left alone, as is what a text or vector index has of the document;
        an entry whose document is gone is skipped.
        """
        ...

    def text_backlog(self) -> int:
        """How many texts wait for `fold_texts` or `purge_texts`, over all text indexes."""
        ...

    def fold_texts(self, limit: int) -> int:
        """Put up to `limit` recent texts of one index among its postings; how many. Changes no answer."""
        ...

    def purge_texts(self, limit: int) -> int:
        """Take up to `limit` texts that are gone from the postings of one index; how many. Changes no answer."""
        ...

    async def durable(self, ts: Timestamp) -> None:
        """Return once everything up to `ts` is on disk."""
        ...

    def reading_elsewhere(self) -> AbstractContextManager[None]:
        """Inside, another process may hold a snapshot of the store for long (reader.py)."""
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

    def set_global(self, name: str, value: bytes | None) -> None:
        """Set a global, durably; None removes it."""
        ...

    def drop_table(self, table_id: int, limit: int) -> int:
        """Delete up to `limit` documents of a table that nobody reads; how many went (0: it is empty)."""
        ...

    def drop_index(self, index_id: int, limit: int) -> int:
        """Delete up to `limit` rows of an index of any kind that nobody reads; how many went (0: it is empty)."""
        ...

    def table_ids(self) -> list[int]:
        """Tables that have documents."""
        ...

    def index_ids(self) -> list[int]:
        """Indexes that have entries."""
        ...

    def load(self, bulk: BulkFile, documents: range, entries: range, globals: Mapping[str, bytes]) -> None:
        """Add some of a bulk file's documents (with their entries by creation time, if it has them), and entries of
        documents that are there, to a table that nobody reads yet, and note progress, as one step without a timestamp.

        Raises CvxError "DuplicateId" when the table has a document of the same id already.
        """
        ...

    def give_back_memory(self) -> None:
        """Forget pages that are on disk anyway, and return what is free to the system. For after a long piece of work."""
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
