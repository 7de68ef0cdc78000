"""What a store means, in a hundred lines without a disk: the model that real stores are held against.

Every append copies the maps it changes, so a view is simply the maps of its moment.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from cvx.backend.store import (
    BulkFile,
    CommitRecord,
    EntryChange,
    LogEntry,
    Row,
    StoredDocument,
    TextChange,
    VectorChange,
    read_documents,
    read_entries,
)
from cvx.errors import CvxError
from cvx.values import KeyRange
from tests.store.memory_search import MemorySearch, MemorySearchView

Documents = dict[tuple[int, bytes], StoredDocument]
Entries = dict[tuple[int, bytes], tuple[int, bytes]]


class MemoryView(MemorySearchView):
    def __init__(self, ts: int, documents: Documents, entries: Entries, search: MemorySearch) -> None:
        super().__init__(search.all_texts, search.all_vectors, search.next_text_id)
        self.ts = ts
        self._documents = documents
        self._entries = entries

    def get(self, table_id: int, internal: bytes) -> StoredDocument | None:
        return self._documents.get((table_id, internal))

    def scan(self, index_id: int, range: KeyRange, *, descending: bool, limit: int) -> list[Row]:
        keys = sorted(k for i, k in self._entries if i == index_id and range.contains(k))
        rows = []
        for key in (keys[::-1] if descending else keys)[:limit]:
            table_id, internal = self._entries[index_id, key]
            document = self._documents[table_id, internal]
            rows.append(Row(key, internal, document.document, document.size, document.ts))
        return rows

    def scan_table(self, table_id: int, range: KeyRange, *, descending: bool, limit: int) -> list[Row]:
        keys = sorted(k for t, k in self._documents if t == table_id and range.contains(k))
        found = [(k, self._documents[table_id, k]) for k in (keys[::-1] if descending else keys)[:limit]]
        return [Row(k, k, document.document, document.size, document.ts) for k, document in found]

    def count(self, table_id: int) -> int:
        return sum(t == table_id for t, _ in self._documents)

    def changed_after(self, table_id: int, ts: int) -> bool:
        return any(t == table_id and document.ts > ts for (t, _), document in self._documents.items())

    def close(self) -> None:
        pass


class MemoryStore(MemorySearch):
    def __init__(self) -> None:
        super().__init__()
        self.latest_ts = 0
        self._documents: Documents = {}
        self._entries: Entries = {}
        self._log: list[LogEntry] = []
        self._globals: dict[str, bytes] = {}

    def view(self, *, detached: bool = False) -> MemoryView:
        return MemoryView(self.latest_ts, self._documents, self._entries, self)

    def append(self, record: CommitRecord) -> None:
        self.append_many([record])

    def append_many(self, records: Sequence[CommitRecord]) -> None:
        documents, entries, log, ts = (
            dict(self._documents),
            dict(self._entries),
            list(self._log),
            self.latest_ts,
        )
        for record in records:
            assert record.ts > ts
            ts = record.ts
            for r in record.revisions:
                log.append(LogEntry(ts, r.table_id, r.internal, r.document, r.previous_ts))
                if r.document is None:
                    del documents[r.table_id, r.internal]
                else:
                    documents[r.table_id, r.internal] = StoredDocument(r.document, r.size, ts)
            for e in sorted(record.entries, key=lambda e: e.internal is not None):
                if e.internal is None:
                    entries.pop((e.index_id, e.key), None)
                else:
                    entries[e.index_id, e.key] = (e.table_id, e.internal)
        self._documents, self._entries, self._log, self.latest_ts = documents, entries, log, ts
        for record in records:
            self.apply_search(record)

    def fill(
        self,
        entries: Sequence[EntryChange],
        globals: Mapping[str, bytes],
        texts: Sequence[TextChange] = (),
        vectors: Sequence[VectorChange] = (),
    ) -> None:
        self.fill_search(self.latest_ts, texts, vectors)
        filled = dict(self._entries)
        for e in entries:
            if e.internal is not None and (e.table_id, e.internal) in self._documents:
                filled.setdefault((e.index_id, e.key), (e.table_id, e.internal))
        self._entries = filled
        self._globals |= globals

    def load(self, bulk: BulkFile, documents: range, entries: range, globals: Mapping[str, bytes]) -> None:
        loaded = dict(self._documents)
        added = {}
        found = read_documents(bulk.path, documents.start, documents.stop)
        for internal, size, document, line, creation in found:
            if bulk.creation_index is not None:
                added[bulk.creation_index, creation + internal] = (bulk.table_id, internal)
            if (bulk.table_id, internal) in loaded:
                raise CvxError("DuplicateId", "twice", details={"internal": internal, "line": line})
            loaded[bulk.table_id, internal] = StoredDocument(document, size, bulk.ts)
        self._documents = loaded
        for index_id, key in read_entries(bulk.path, entries.start, entries.stop):
            added[index_id, key] = (bulk.table_id, key[-16:])
        self._entries = self._entries | added
        self._globals |= globals

    async def durable(self, ts: int) -> None:
        pass

    def reading_elsewhere(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def give_back_memory(self) -> None:
        pass

    async def writable(self) -> None:
        pass

    def log(self, since: int, limit: int) -> list[LogEntry]:
        later = [line for line in self._log if line.ts > since]
        return [line for line in later if len(later) <= limit or line.ts <= later[limit - 1].ts]

    def trim(self, before: int, limit: int) -> int:
        gone = [line for line in self._log if line.ts < min(before, self.latest_ts)][:limit]
        self._log = self._log[len(gone) :]
        return len(gone)

    def get_global(self, name: str) -> bytes | None:
        return self._globals.get(name)

    def set_global(self, name: str, value: bytes | None) -> None:
        self._globals.pop(name, None)
        if value is not None:
            self._globals[name] = value

    def drop_table(self, table_id: int, limit: int) -> int:
        gone = sorted(key for key in self._documents if key[0] == table_id)[:limit]
        self._documents = {k: v for k, v in self._documents.items() if k not in set(gone)}
        return len(gone)

    def drop_index(self, index_id: int, limit: int) -> int:
        gone = sorted(key for key in self._entries if key[0] == index_id)[:limit]
        self._entries = {k: v for k, v in self._entries.items() if k not in set(gone)}
        return len(gone) or self.drop_search(index_id)

    def table_ids(self) -> list[int]:
        return sorted({table_id for table_id, _ in self._documents})

    def index_ids(self) -> list[int]:
        held = (self._entries, self.all_texts, self.all_vectors)
        return sorted({index_id for kept in held for index_id, _ in kept})

    def size_bytes(self) -> int:
        return sum(len(d.document) for d in self._documents.values())

    def close(self) -> None:
        pass
