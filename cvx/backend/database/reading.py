"""Reading: what a transaction can look at, and how looking becomes a dependency.

Reads see the snapshot with the transaction's own writes laid over it, and enter the ReadSet; so do the table and
index documents they rest on, found or not.

Source: reference/runtime-and-database.md §1.3, §2, §4.1; values-and-sync.md §2.3, §8.3.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from cvx.backend.database.catalog import (
    BY_INDEXED_TABLE,
    BY_TABLE_NAME,
    BY_TABLE_NUMBER,
    INDEXES_TABLE,
    ROOT,
    TABLES_TABLE,
    Catalog,
    TableInfo,
)
from cvx.backend.database.cursors import Cursor, fingerprint_of
from cvx.backend.database.engine import Engine
from cvx.backend.database.index_range import compile_range
from cvx.backend.database.indexes import BUILT_IN_FIELDS, IndexInfo
from cvx.backend.database.pagination import Page, PageReader, PageRequest, Positions
from cvx.backend.database.query import QuerySource, QueryStream, parse_operators, parse_source
from cvx.backend.database.read_set import ReadSet
from cvx.backend.database.scan import Scan, Seen
from cvx.backend.database.snapshot import Snapshot
from cvx.backend.database.text_search import SearchScan, SearchSource, compile_search
from cvx.backend.database.usage import Meter, Usage
from cvx.backend.database.write_set import WriteSet
from cvx.errors import CvxError
from cvx.values import (
    FULL_RANGE,
    DocumentId,
    KeyRange,
    MaybeValue,
    Timestamp,
    decode,
    encode_key,
    prefix_range,
)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

AnyId: TypeAlias = DocumentId | str


class Reading:
    """The half of a Transaction that only looks."""

    __slots__ = (
        "_engine",
        "_meter",
        "_noted",
        "_owns_snapshot",
        "_reads",
        "_seen",
        "_streams",
        "begin_time",
        "catalog",
        "identity",
        "read_only",
        "snapshot",
        "write_source",
        "writes",
    )

    def __init__(
        self,
        engine: Engine,
        snapshot: Snapshot,
        identity: Any,
        begin_time: Timestamp,
        *,
        read_only: bool,
        write_source: str,
        owns_snapshot: bool,
    ) -> None:
        self._engine = engine
        self.snapshot = snapshot
        self.catalog: Catalog = snapshot.catalog
        """The snapshot's, with this transaction's own tables and indexes."""
        self.identity = identity
        self.begin_time = begin_time
        """ns; the later of the clock and the snapshot."""
        self.read_only = read_only
        self.write_source = write_source
        self.writes = WriteSet()
        self._reads = ReadSet()
        self._streams: list[QueryStream] = []
        self._noted: set[bytes] = set()
        self._seen: Seen | None = None if read_only else {}
        self._meter = Meter(engine.limits)
        self._owns_snapshot = owns_snapshot

    # ----------------------------------------------------------------------------------------------- lifetime

    def close(self) -> None:
        """Let go of the snapshot. Committing does it too; closing twice is fine."""
        if self._owns_snapshot:
            self._owns_snapshot = False
            self.snapshot.release()

    @property
    def reads(self) -> ReadSet:
        """Everything looked at so far. May be added to (for what was learnt by other means)."""
        reads = self._reads
        for stream in self._streams:
            before, now = stream.interval()
            if before != now and stream.index_id is not None:
                if before is not None and before in reads.ranges.get(stream.index_id, ()):
                    reads.ranges[stream.index_id].discard(before)
                reads.add(stream.index_id, now)
        return reads

    @property
    def begin_time_ms(self) -> float:
        """`begin_time` as user code's frozen clock shows it."""
        return float(self.begin_time // 1_000_000)

    @property
    def engine(self) -> Engine:
        """What all transactions of a database share."""
        return self._engine

    @property
    def usage(self) -> Usage:
        """What has been read and written so far."""
        return self._meter.usage

    def budget(self, extra: Mapping[str, int]) -> AbstractContextManager[None]:
        """Inside, use no more than this on top; keys are fields of `Limits` (documents_read_max, …)."""
        return self._meter.budget(extra)

    # ----------------------------------------------------------------------------------------- tables and names

    def table(self, name: str, *, component: str = ROOT) -> TableInfo | None:
        """The table of this name; the answer, also None, becomes a dependency."""
        info = self.catalog.table(component, name)
        if info is None:
            self._reads.add(BY_TABLE_NAME.index_id, prefix_range(encode_key([component, name])))
        else:
            self._note_row(TABLES_TABLE.table_id, info.row)
        return info

    def table_of(self, id: DocumentId, *, component: str = ROOT) -> TableInfo | None:
        """The table that the id's number belongs to; a dependency as in `table`."""
        info = self.catalog.table_by_number(component, id.table)
        if info is None:
            key = encode_key([component, float(id.table)])
            self._reads.add(BY_TABLE_NUMBER.index_id, prefix_range(key))
        else:
            self._note_row(TABLES_TABLE.table_id, info.row)
        return info

    def table_name_of(self, id: AnyId, *, component: str = ROOT) -> str | None:
        """The name of the table an id is of, or None."""
        info = self.table_of(id_of(id), component=component)
        return None if info is None else info.name

    def index_id(self, table: str, index: str, *, component: str = ROOT, privileged: bool = False) -> int:
        """The number under which ReadSets know an index. Raises CvxError "IndexNotFoundError"."""
        info = self._visible(table, component, privileged)
        found = None if info is None else info.by_name.get(index)
        if info is None or found is None:
            raise no_index(table, index)
        self._note_row(INDEXES_TABLE.table_id, found.row)
        return found.index_id

    def note_read(
        self, table: str, index: str, range: KeyRange, *, component: str = ROOT, privileged: bool = False
    ) -> None:
        """Depend on everything in the range of an index, without reading it (a cache already knows it)."""
        self._reads.add(self.index_id(table, index, component=component, privileged=privileged), range)

    def _visible(self, name: str, component: str, privileged: bool) -> TableInfo | None:
        """The table, unless it is one that user code must not know of."""
        if name[:1] == "_" and not privileged:
            return None
        return self.table(name, component=component)

    def _note_row(self, table_id: int, row: bytes | None) -> None:
        if row is not None and row not in self._noted:
            self._noted.add(row)
            self._reads.add_point(table_id, row)

    # ------------------------------------------------------------------------------------------- point reads

    def get(self, id: AnyId, *, component: str = ROOT, privileged: bool = False) -> bytes | None:
        """The document as canonical JSON, or None. Raises CvxError "SystemTableError" and the read limits."""
        id = id_of(id)
        info = self.table_of(id, component=component)
        if info is None:
            return None
        if info.is_system and not privileged:
            raise _system_table(info.name)
        return self._read(info, id)[0]

    def get_value(
        self, id: AnyId, *, component: str = ROOT, privileged: bool = False
    ) -> dict[str, Any] | None:
        """As `get`, decoded."""
        raw = self.get(id, component=component, privileged=privileged)
        return None if raw is None else document_of(raw)

    def _read(self, info: TableInfo, id: DocumentId) -> tuple[bytes | None, int, Timestamp | None]:
        """(document, size, when the snapshot's version was written); a dependency and counted."""
        table_id, internal = info.table_id, id.internal
        points = self._reads.points.get(table_id)
        if points is None or internal not in points:
            if not info.is_system:
                self._meter.interval()
            self._reads.add_point(table_id, internal)
        pending = self.writes.writes.get((table_id, internal)) if self.writes.writes else None
        if pending is not None:
            raw, size, ts = pending.new_raw, pending.new_size, pending.old_ts
        else:
            stored = None if self._seen is None else self._seen.get((table_id, internal))
            if stored is None:
                stored = self.snapshot.view.get(table_id, internal)
                if stored is None:
                    return None, 0, None
                if self._seen is not None:
                    self._seen[table_id, internal] = stored
            raw, size, ts = stored
        if raw is not None and not info.is_system:
            self._meter.read(1, size)
        return raw, size, ts

    # ------------------------------------------------------------------------------------------------ queries

    def stream(
        self, query: dict[str, Any], *, component: str = ROOT, privileged: bool = False
    ) -> QueryStream:
        """The documents of a serialized query (runtime-and-database.md §2.1).

        Raises CvxError: IndexNotFoundError, IndexBackfillingError, IndexStagedError, WrongIndexType, those of
        `compile_range` and `compile_search`, and those of malformed queries and filters. A missing table has no
        documents.
        """
        source = parse_source(query)
        operators = parse_operators(query, self._engine.limits)
        scan, table, _ = self._open(source, component, privileged)
        counted = table is not None and not table.is_system
        stream = QueryStream(scan, operators, self._meter, self._engine.limits, counted)
        self._streams.append(stream)
        return stream

    def collect(
        self, query: dict[str, Any], *, component: str = ROOT, privileged: bool = False
    ) -> list[dict[str, Any]]:
        """All documents of a serialized query, decoded."""
        return self._documents(self.stream(query, component=component, privileged=privileged))

    def all(
        self,
        table: str,
        index: str = "by_creation_time",
        prefix: Sequence[MaybeValue] = (),
        *,
        component: str = ROOT,
        privileged: bool = False,
    ) -> list[dict[str, Any]]:
        """Every document whose first index fields equal `prefix`, in index order."""
        return self._some(table, index, prefix, None, component, privileged)

    def first(
        self,
        table: str,
        index: str = "by_creation_time",
        prefix: Sequence[MaybeValue] = (),
        *,
        component: str = ROOT,
        privileged: bool = False,
    ) -> dict[str, Any] | None:
        """The first document whose first index fields equal `prefix`, or None."""
        found = self._some(table, index, prefix, 1, component, privileged)
        return found[0] if found else None

    def _some(
        self,
        table: str,
        index: str,
        prefix: Sequence[MaybeValue],
        limit: int | None,
        component: str,
        privileged: bool,
    ) -> list[dict[str, Any]]:
        source = QuerySource(table, index, False, [])
        range = prefix_range(encode_key(prefix)) if prefix else FULL_RANGE
        scan, info, _ = self._open(source, component, privileged, range)
        stream = QueryStream(
            scan, () if limit is None else (limit,), self._meter, self._engine.limits,
            info is not None and not info.is_system,
        )  # fmt: skip
        self._streams.append(stream)
        return self._documents(stream)

    def _documents(self, stream: QueryStream) -> list[dict[str, Any]]:
        found: list[bytes] = []
        done = False
        while not done:
            page, done = stream.next_page(self._engine.limits.scan_batch_rows_max)
            found += page
        return [document_of(raw) for raw in found]

    def paginate(
        self,
        query: dict[str, Any],
        cursor: str | None,
        end_cursor: str | None,
        page_size: int,
        maximum_rows_read: int | None = None,
        maximum_bytes_read: int | None = None,
        *,
        component: str = ROOT,
        privileged: bool = False,
        journal_end: str | None = None,
    ) -> Page:
        """One page. `journal_end`: the cursor an earlier run of the same query ended with, if there was one.

        Raises CvxError as `stream` does, and: NoDocumentsForPagination, PageSizeTooLarge,
        InvalidPaginationLimit, InvalidCursor.
        """
        limits, codec = self._engine.limits, self._engine.cursors
        ends_at = end_cursor if end_cursor is not None else journal_end
        request = PageRequest(cursor, ends_at, page_size, maximum_rows_read, maximum_bytes_read)
        request.check(limits)
        source = parse_source(query)
        operators = parse_operators(query, limits)
        scan, table, index = self._open(source, component, privileged)
        # A table that comes to be has the built-in indexes at once: its cursors from before still fit then.
        fields = BUILT_IN_FIELDS.get(source.index, ()) if index is None else index.fields
        fingerprint = fingerprint_of(query, fields)
        positions = Positions.of(request, codec, fingerprint)
        the_end = codec.encode(Cursor(None, fingerprint))
        if scan is None or index is None:
            return Page([], True, the_end, None, None)
        scan.remaining = within = positions.within(scan.remaining, scan.descending)
        scan.exhausted = within.is_empty
        bounded = ends_at is not None
        counted = table is not None and not table.is_system
        reader = PageReader(scan, operators, self._meter, limits, request, bounded, counted)
        try:
            reader.read()
        except CvxError:
            self._depend_on(scan, within)  # What a page failed on was looked at, too.
            raise
        keys = reader.keys

        def cursor_after(key: bytes) -> str:
            return codec.encode(Cursor(key, fingerprint))

        if reader.exhausted and not reader.cut_short:
            self._depend_on(scan, within)
            is_done = positions.end is None or positions.end.after is None
            continue_cursor = the_end if is_done or ends_at is None else ends_at
        else:
            last = keys[-1]
            start, end = within.start, within.end
            self._depend_on(scan, KeyRange(last, end) if scan.descending else KeyRange(start, last + b"\x00"))
            is_done, continue_cursor = False, cursor_after(last)
        return Page(
            reader.documents,
            is_done,
            continue_cursor,
            cursor_after(keys[len(keys) // 2]) if len(keys) > 2 and index.is_database else None,
            reader.status(),
        )

    def _depend_on(self, scan: Scan | SearchScan, range: KeyRange) -> None:
        if scan.index_id is not None:
            self._reads.add(scan.index_id, range)

    def count(self, table: str, *, component: str = ROOT, privileged: bool = False) -> int:
        """How many documents a table has; depends on all of them."""
        info = self._visible(table, component, privileged)
        if info is None:
            return 0
        if not info.is_system:
            self._meter.interval()
        self._reads.add(info.table_id, FULL_RANGE)
        return self.snapshot.view.count(info.table_id) + self.writes.count_delta(info)

    def _open(
        self,
        source: QuerySource | SearchSource,
        component: str,
        privileged: bool,
        range: KeyRange | None = None,
    ) -> tuple[Scan | SearchScan | None, TableInfo | None, IndexInfo | None]:
        """A scan over what the source means; None for a table that does not exist."""
        table = self._visible(source.table, component, privileged)
        if table is None:
            return None, None, None
        index = table.by_name.get(source.index)
        if index is None:
            self._reads.add(BY_INDEXED_TABLE.index_id, table.indexes_range)
            raise no_index(table.name, source.index)
        self._note_row(INDEXES_TABLE.table_id, index.row)
        if isinstance(source, SearchSource):
            return self._search(source, table, index), table, index
        check_usable(table, index, "database")
        if range is None:
            range = compile_range(table.name, table.number, index, source.conditions)
        if not table.is_system:  # Or a push of thousands of modules would be too much.
            self._meter.interval()
            self.usage.queries += 1
        scan = Scan(self.snapshot, self.writes, table, index, range, source.descending, self._seen)
        return scan, table, index

    def _search(self, source: SearchSource, table: TableInfo, index: IndexInfo) -> SearchScan:
        check_usable(table, index, "search")
        limits = self._engine.limits
        query = compile_search(source, index, limits)
        self._meter.interval()
        self.usage.queries += 1
        if query is not None:
            self._reads.add_search(index.index_id, query.read)
        return SearchScan(self.snapshot, self.writes, table, index, query, limits)

    @contextlib.contextmanager
    def unrecorded(self) -> Iterator[None]:
        """Inside, reads leave no dependency (snapshot queries, progress reports)."""
        kept, streams, noted = self._reads, self._streams, self._noted
        self._reads, self._streams, self._noted = ReadSet(), [], set()
        try:
            yield
        finally:
            self._reads, self._streams, self._noted = kept, streams, noted


_USED_WITH = {
    "database": ".withIndex",
    "search": ".withSearchIndex",
    "vector": "ctx.vectorSearch in an action",
}


def id_of(id: AnyId) -> DocumentId:
    """The id that a caller named, by itself or as its string."""
    return id if type(id) is DocumentId else DocumentId.parse(str(id))


def document_of(raw: bytes) -> dict[str, Any]:
    """A stored or pending document, decoded."""
    value = decode(raw, internal=True)  # A pending write may hold the placeholder of its commit's timestamp.
    assert isinstance(value, dict), "documents are objects"
    return value


def no_index(table: str, index: str) -> CvxError:
    """The error for an index that a table has not."""
    return CvxError(
        "IndexNotFoundError", f"Index {table}.{index} not found.",
        hint="Add it to the table in convex/schema.ts and push.", retry_when="files",
    )  # fmt: skip


def check_usable(table: TableInfo, index: IndexInfo, kind: Literal["database", "search", "vector"]) -> None:
    """Raise CvxError for an index that is not of this kind (WrongIndexType) or cannot be asked yet
    (IndexBackfillingError, IndexStagedError)."""
    where = f"Index {table.name}.{index.name}"
    found = "search" if index.is_text else "vector" if index.is_vector else "database"
    if found != kind:
        raise CvxError(
            "WrongIndexType", f"{where} is a {found} index, not a {kind} index.",
            hint=f"Use it with {_USED_WITH[found]}.", retry_when="files",
        )  # fmt: skip
    if index.state != "enabled" and not index.staged:
        raise CvxError(
            "IndexBackfillingError", f"{where} is currently backfilling and not available to query yet.",
            hint="Wait until the push that adds it has finished.", retry_when="time",
        )  # fmt: skip
    if index.staged:
        raise CvxError(
            "IndexStagedError", f"{where} is currently staged and not available to query until it is no longer staged.",
            hint="Remove `staged: true` from it and push.", retry_when="files",
        )  # fmt: skip


def _system_table(name: str) -> CvxError:
    return CvxError(
        "SystemTableError",
        f"The table {name} is a system table.",
        hint="Use db.system for public system tables.",
    )
