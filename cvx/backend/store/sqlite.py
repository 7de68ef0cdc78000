"""The store in one SQLite file, in WAL mode.

One connection writes. A view begins as a promise: it reads on the writer's own connection, whose cache is always
warm, until something is about to be written; then it is settled as a read transaction of its own on a connection
from a small pool. So a transaction that no commit comes between costs no view at all. Tables:

    documents(id, table_id, internal, ts, size, checksum, document)   the current documents
    entries(index_id, key, document_id)                               the current index entries
    log(ts, seq, table_id, internal, previous_ts, document)           every revision, newest last
    counts(table_id, documents) · globals(name, value)
    text_rows.py and vector_rows.py: what text and vector indexes hold

`documents` has a rowid of its own, so an entry leads to its document by the cheapest lookup there is (measured:
a scan of 1,000 rows 1.7 ms against 2.2 ms with (table_id, internal) as the key). Each document carries a CRC,
checked on every read: a flipped byte is refused, not served.

Rule: the methods here are the only statements that write.

Source: design.md §1.4, §11.10; docs/adr/0003-state-and-log.md.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

from cvx.backend.config import Limits
from cvx.backend.store import statements, text_rows, vector_rows
from cvx.backend.store.bulk import BulkFile
from cvx.backend.store.checkpoints import Checkpointer
from cvx.backend.store.durability import Flusher
from cvx.backend.store.errors import corrupt, duplicate, reading, store_error
from cvx.backend.store.folder import HighWaterFile
from cvx.backend.store.interface import (
    CommitRecord,
    EntryChange,
    FatalCallback,
    LogEntry,
    Revision,
    TextChange,
    VectorChange,
)
from cvx.backend.store.memory import forget_pages, trim_heap
from cvx.backend.store.sqlite_view import SqliteView
from cvx.backend.store.statements import connect
from cvx.errors import CvxError
from cvx.values import Timestamp

# About so many a fold or a purge touches, for the checkpointer's idea of how long the log is.
_ROWS_A_TEXT = 50

# A commit empties a reader's cache, so a large one would only be memory.
_READER_CACHE_BYTES = 4 << 20


class SqliteStore:
    """A `Store` (interface.py). Made by open.py, which has checked the file."""

    def __init__(self, path: Path, mark: HighWaterFile, limits: Limits, on_fatal: FatalCallback) -> None:
        self._path = path
        self._limits = limits
        self._mark = mark
        self._writer = connect(path, limits.page_cache_bytes)
        self._write = threading.Lock()  # Uncontended: writes take turns in the committer's queue.
        self.live_lock = (
            threading.Lock()
        )  # Held for microseconds: to read live, to settle, to begin and end a write.
        self._live: list[SqliteView] = []
        self._is_writing = False
        self._readers: list[sqlite3.Connection] = []
        self._closed = False
        row = self._writer.execute(statements.LATEST).fetchone()
        self._latest_ts: Timestamp = row[0] if row else 0
        self._next_id: int = self._writer.execute(
            "SELECT coalesce(max(id), 0) + 1 FROM documents"
        ).fetchone()[0]
        self._text_backlog = text_rows.backlog(self._writer)
        wal = path.with_name(path.name + "-wal")
        self._flusher = Flusher(path, wal, mark, self._latest_ts, on_fatal)
        self._checkpointer = Checkpointer(connect(path, 1 << 20), self._flusher, limits)

    # ------------------------------------------------------------------------------------------------ reading

    @property
    def latest_ts(self) -> Timestamp:
        return self._latest_ts

    def view(self, *, detached: bool = False) -> SqliteView:
        if not detached:
            with self.live_lock:
                if not self._is_writing:
                    view = SqliteView(self, None, self._latest_ts)
                    self._live.append(view)
                    return view
        connection, ts = self._begin_reading()
        return SqliteView(self, connection, ts)

    def _reader(self) -> sqlite3.Connection:
        try:
            return self._readers.pop()
        except IndexError:
            with reading():
                connection = connect(self._path, _READER_CACHE_BYTES)
                connection.execute("PRAGMA query_only=1")
            return connection

    def _begin_reading(self) -> tuple[sqlite3.Connection, Timestamp]:
        connection = self._reader()
        with reading():
            connection.execute("BEGIN")
            row = connection.execute(
                statements.LATEST
            ).fetchone()  # The first read fixes what this connection sees.
        return connection, row[0] if row else 0

    def read_live(self, view: SqliteView, sql: str, parameters: tuple[object, ...]) -> list[Any]:
        """Run a view's query on the writer's connection. For SqliteView, under `live_lock`."""
        assert view in self._live and not self._is_writing
        return self._writer.execute(sql, parameters).fetchall()

    def forget(self, view: SqliteView) -> None:
        """A live view is closed."""
        with self.live_lock:
            if view in self._live:
                self._live.remove(view)

    def give_back(self, connection: sqlite3.Connection) -> None:
        """Keep a view's connection for the next view."""
        with contextlib.suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("COMMIT")
            if not self._closed and len(self._readers) < self._limits.idle_views_max:
                self._readers.append(connection)
                return
        connection.close()

    def _read(self, sql: str, parameters: tuple[object, ...]) -> list[Any]:
        """One query on the latest state, beside whatever is being written."""
        connection = self._reader()
        try:
            with reading():
                return connection.execute(sql, parameters).fetchall()
        finally:
            self.give_back(connection)

    def log(self, since: Timestamp, limit: int) -> list[LogEntry]:
        select = "SELECT ts, table_id, internal, document, previous_ts FROM log WHERE ts > ? "
        rows = self._read(select + "ORDER BY ts, seq LIMIT ?", (since, limit))
        if len(rows) == limit:  # Perhaps in the middle of a commit: complete it.
            rows = self._read(select + "AND ts <= ? ORDER BY ts, seq", (since, rows[-1][0]))
        return [LogEntry(*row) for row in rows]

    def get_global(self, name: str) -> bytes | None:
        rows = self._read("SELECT value FROM globals WHERE name=?", (name,))
        return bytes(rows[0][0]) if rows else None

    def table_ids(self) -> list[int]:
        return self._leading("documents", "table_id")

    def index_ids(self) -> list[int]:
        tables = ("entries", "texts", "text_terms", "text_indexes", "postings", "vectors")
        return sorted({index_id for table in tables for index_id in self._leading(table, "index_id")})

    def text_backlog(self) -> int:
        return self._text_backlog

    def _leading(self, table: str, column: str) -> list[int]:
        """The distinct values of a key's first column, by one seek for each."""
        found: list[int] = []
        while True:
            sql = f"SELECT min({column}) FROM {table} WHERE {column} > ?"
            ((value,),) = self._read(sql, (found[-1] if found else -1,))
            if value is None:
                return found
            found.append(value)

    def size_bytes(self) -> int:
        files = (self._path, self._path.with_name(self._path.name + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    # ------------------------------------------------------------------------------------------------ writing

    def append(self, record: CommitRecord) -> None:
        self.append_many((record,))

    def append_many(self, records: Sequence[CommitRecord]) -> None:
        ts = self._latest_ts
        for record in records:
            assert record.ts > ts, "timestamps of commits must increase"
            ts = record.ts
        rows = backlog = 0
        with self._writing(ts) as writer:
            for record in records:
                rows += self._apply(writer, record)
                if record.texts:
                    backlog += text_rows.apply(writer, record.texts)
                    rows += 4 * len(record.texts)
                if record.vectors:
                    vector_rows.apply(writer, record.ts, record.vectors)
                    rows += sum(1 + len(change.vector or b"") // 4096 for change in record.vectors)
        self._text_backlog += backlog
        self._flusher.wrote(ts)
        self._checkpointer.wrote(rows)

    def _apply(self, writer: sqlite3.Connection, record: CommitRecord) -> int:
        ts = record.ts
        inserts, updates, deletes, lines = [], [], [], []
        counts: dict[int, int] = {}
        for seq, (table_id, internal, document, size, previous_ts) in enumerate(record.revisions):
            lines.append((ts, seq, table_id, internal, previous_ts, document))
            if document is None:
                deletes.append((table_id, internal))
                counts[table_id] = counts.get(table_id, 0) - 1
            elif previous_ts is None:
                inserts.append((self._next_id, table_id, internal, ts, size, crc32(document), document))
                self._next_id += 1
                counts[table_id] = counts.get(table_id, 0) + 1
            else:
                updates.append((ts, size, crc32(document), document, table_id, internal))
        entries = record.entries
        left = [(index_id, key) for _, index_id, key, internal in entries if internal is None]
        if left:
            writer.executemany(statements.LEAVE, left)
        if deletes:
            _expect(writer.executemany(statements.DELETE, deletes), len(deletes))
        if inserts:
            writer.executemany(statements.INSERT, inserts)
        if updates:
            _expect(writer.executemany(statements.UPDATE, updates), len(updates))
        entered = [
            (index_id, key, table_id, internal)
            for table_id, index_id, key, internal in entries
            if internal is not None
        ]
        if entered:
            writer.executemany(statements.ENTER, entered)
        if lines:
            writer.executemany(statements.LOG, lines)
        changed = [(table_id, delta) for table_id, delta in counts.items() if delta]
        if changed:
            writer.executemany(statements.COUNT, changed)
        return 2 * len(lines) + len(entries)

    def fill(
        self,
        entries: Sequence[EntryChange],
        globals: Mapping[str, bytes],
        texts: Sequence[TextChange] = (),
        vectors: Sequence[VectorChange] = (),
    ) -> None:
        rows = [(e.index_id, e.key, e.table_id, e.internal) for e in entries if e.internal is not None]
        with self._writing() as writer:
            writer.executemany(statements.FILL, rows)
            backlog = text_rows.fill(writer, texts)
            vector_rows.fill(writer, self._latest_ts, vectors)
            writer.executemany(statements.SET, list(globals.items()))
        self._text_backlog += backlog
        self._checkpointer.wrote(len(rows) + 4 * len(texts) + 2 * len(vectors))

    def fold_texts(self, limit: int) -> int:
        return self._tidy_texts(text_rows.fold, limit)

    def purge_texts(self, limit: int) -> int:
        return self._tidy_texts(text_rows.purge, limit)

    def _tidy_texts(self, step: Callable[[sqlite3.Connection, int], int], limit: int) -> int:
        with self._writing() as writer:
            done = step(writer, limit)
        self._text_backlog -= done
        if done:
            self._checkpointer.wrote(_ROWS_A_TEXT * done)
        return done

    def load(self, bulk: BulkFile, documents: range, entries: range, globals: Mapping[str, bytes]) -> None:
        first, last = documents.start, documents.stop
        with self._writing(beside=bulk.path) as writer:
            if documents:
                shift = self._next_id - first
                try:
                    writer.execute(statements.LOAD_DOCUMENTS, (shift, bulk.table_id, bulk.ts, first, last))
                except sqlite3.IntegrityError:
                    twice = writer.execute(statements.LOADED_TWICE, (bulk.table_id, first, last)).fetchone()
                    raise duplicate(twice) from None
                if bulk.creation_index is not None:
                    writer.execute(statements.LOAD_CREATIONS, (bulk.creation_index, shift, first, last))
                writer.execute(statements.COUNT, (bulk.table_id, len(documents)))
            if entries:
                writer.execute(statements.LOAD_ENTRIES, (bulk.table_id, entries.start, entries.stop))
            writer.executemany(statements.SET, list(globals.items()))
        self._next_id += len(documents)
        self._checkpointer.wrote((len(documents) + len(entries) // 4) // 4)

    def set_global(self, name: str, value: bytes | None) -> None:
        with self._writing() as writer:
            if value is None:
                writer.execute("DELETE FROM globals WHERE name=?", (name,))
            else:
                writer.execute(statements.SET, (name, value))
        self._flusher.sync()

    def trim(self, before: Timestamp, limit: int) -> int:
        before = min(before, self._latest_ts)  # The newest commit stays: latest_ts is read from it.
        with self._writing() as writer:
            row = writer.execute(statements.TRIM_TO, (before, limit)).fetchone()
            if row is None:
                gone = writer.execute("DELETE FROM log WHERE ts < ?", (before,)).rowcount
            else:
                gone = writer.execute("DELETE FROM log WHERE (ts, seq) < (?, ?)", row).rowcount
        if gone:
            self._checkpointer.wrote(gone)
        return gone

    def drop_table(self, table_id: int, limit: int) -> int:
        with self._writing() as writer:
            gone = writer.execute(
                "DELETE FROM documents WHERE id IN (SELECT id FROM documents WHERE table_id=? LIMIT ?)",
                (table_id, limit),
            ).rowcount
            writer.execute("DELETE FROM counts WHERE table_id=?", (table_id,))
        if gone:
            self._checkpointer.wrote(gone)
        return gone

    def drop_index(self, index_id: int, limit: int) -> int:
        with self._writing() as writer:
            gone = writer.execute(
                "DELETE FROM entries WHERE index_id=? AND key IN "
                "(SELECT key FROM entries WHERE index_id=? ORDER BY key LIMIT ?)",
                (index_id, index_id, limit),
            ).rowcount
            gone = (
                gone or text_rows.drop(writer, index_id, limit) or vector_rows.drop(writer, index_id, limit)
            )
            backlog = text_rows.backlog(writer)
        self._text_backlog = backlog
        if gone:
            self._checkpointer.wrote(gone)
        return gone

    @contextlib.contextmanager
    def _writing(
        self, latest_ts: Timestamp | None = None, *, beside: Path | None = None
    ) -> Iterator[sqlite3.Connection]:
        """A write transaction: committed at the end, undone by any error, fatal when neither can be known.

        `latest_ts`: the timestamp of what is written, when it is a commit. `beside`: a bulk file to read from.
        """
        if self._flusher.failure is not None:
            raise self._flusher.failure
        with self._write:
            self._settle()
            try:
                with self._attached(beside):
                    yield from self._in_transaction()
                if latest_ts is not None:
                    self._latest_ts = latest_ts
            finally:
                with self.live_lock:
                    self._is_writing = False

    def _settle(self) -> None:
        """Give every live view a read transaction of its own, before anything changes."""
        with self.live_lock:
            for view in self._live:
                connection, ts = self._begin_reading()
                assert ts == view.ts, "a live view is of the latest state"
                view.settle(connection)
            self._live.clear()
            self._is_writing = True

    @contextlib.contextmanager
    def _attached(self, file: Path | None) -> Iterator[None]:
        """The writer also sees this bulk file, as `bulk`."""
        if file is None:
            yield
            return
        with reading():
            self._writer.execute("ATTACH ? AS bulk", (str(file),))
        try:
            yield
        finally:
            with contextlib.suppress(sqlite3.Error):  # After a fatal failure there is nothing to tidy.
                self._writer.execute("DETACH bulk")

    def _in_transaction(self) -> Iterator[sqlite3.Connection]:
        writer = self._writer
        try:
            writer.execute("BEGIN IMMEDIATE")
            yield writer
            writer.execute("COMMIT")
        except BaseException as error:  # edge: a write that failed is undone, whatever failed.
            try:
                if writer.in_transaction:
                    writer.execute("ROLLBACK")
            except sqlite3.Error as second:
                self._flusher.fail(second)
            if isinstance(error, sqlite3.Error):
                raise store_error(error) from error
            raise

    # --------------------------------------------------------------------------------------------- durability

    async def durable(self, ts: Timestamp) -> None:
        await self._flusher.durable(ts)

    def fail(self, error: BaseException) -> CvxError:
        return self._flusher.fail(error)

    @contextlib.contextmanager
    def reading_elsewhere(self) -> Iterator[None]:
        self._checkpointer.readers_elsewhere += 1
        try:
            yield
        finally:
            self._checkpointer.readers_elsewhere -= 1

    def give_back_memory(self) -> None:
        with self._write:
            while self._readers:  # The next view opens one again.
                self._readers.pop().close()
            with self.live_lock:
                forget_pages(self._writer)
        trim_heap()

    async def writable(self) -> None:
        await self._checkpointer.writable()

    def close(self) -> None:
        """Everything on disk and in the database file itself, every thread ended, the note marked clean."""
        if self._closed:
            return
        self._closed = True
        self._checkpointer.close()
        try:
            self._flusher.close()
        finally:
            for connection in self._readers:
                connection.close()
            self._readers.clear()
            if self._flusher.failure is None:
                with contextlib.suppress(
                    sqlite3.Error
                ):  # A view still open only leaves the log for next time.
                    self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._mark.write(self._latest_ts, clean=True)
            self._writer.close()
            self._mark.close()


def _expect(cursor: sqlite3.Cursor, rows: int) -> None:
    if cursor.rowcount != rows:
        raise corrupt(f"a commit changed {cursor.rowcount} documents instead of {rows}")


def _check_interface(store: SqliteStore) -> None:
    """Fails type checking when the class drifts from the protocol."""
    from cvx.backend.store.interface import Store

    _: Store = store


_REVISION_FIELDS = Revision._fields  # The tuple order `_apply` unpacks.
assert _REVISION_FIELDS == ("table_id", "internal", "document", "size", "previous_ts")
