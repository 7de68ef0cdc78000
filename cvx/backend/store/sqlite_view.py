"""A view of the SQLite store: live, settled, or closed (see sqlite.py)."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from typing import Any, Protocol
from zlib import crc32

from cvx.backend.store import text_rows, vector_rows
from cvx.backend.store.errors import damaged, store_error, too_old
from cvx.backend.store.interface import RecentText, Row, StoredDocument, TextStatistics, Vector
from cvx.values import KeyRange, Timestamp


class ViewOwner(Protocol):
    """What a view needs of its store."""

    live_lock: threading.Lock

    def read_live(self, view: SqliteView, sql: str, parameters: tuple[object, ...]) -> list[Any]: ...

    def forget(self, view: SqliteView) -> None: ...

    def give_back(self, connection: sqlite3.Connection) -> None: ...


class SqliteView:
    """A `StoreView`: live (on the writer's connection), settled (on one of its own), or closed."""

    __slots__ = ("_connection", "_is_open", "_store", "ts")

    def __init__(self, store: ViewOwner, connection: sqlite3.Connection | None, ts: Timestamp) -> None:
        self._store = store
        self._connection = connection
        self._is_open = True
        self.ts = ts

    def settle(self, connection: sqlite3.Connection) -> None:
        """Read from here on; called by the store before it changes anything."""
        self._connection = connection

    def _fetch(self, sql: str, parameters: tuple[object, ...]) -> list[Any]:
        if not self._is_open:
            raise too_old()
        try:
            connection = self._connection
            if connection is None:
                with self._store.live_lock:
                    connection = self._connection  # It may have been settled at this very moment.
                    if connection is None:
                        return self._store.read_live(self, sql, parameters)
            return connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise store_error(error) from error

    def get(self, table_id: int, internal: bytes) -> StoredDocument | None:
        rows = self._fetch(
            "SELECT document, size, ts, checksum FROM documents WHERE table_id=? AND internal=?",
            (table_id, internal),
        )
        if not rows:
            return None
        document, size, ts, checksum = rows[0]
        if crc32(document) != checksum:
            raise damaged(internal)
        return StoredDocument(document, size, ts)

    def scan(self, index_id: int, range: KeyRange, *, descending: bool, limit: int) -> list[Row]:
        below, bounds = ("AND e.key < ?", (range.end,)) if range.end is not None else ("", ())
        return self._rows(
            "SELECT e.key, d.internal, d.document, d.size, d.ts, d.checksum FROM entries e "
            "LEFT JOIN documents d ON d.id = e.document_id "  # An entry that leads nowhere must be noticed.
            f"WHERE e.index_id = ? AND e.key >= ? {below} ORDER BY e.key {'DESC' if descending else ''} LIMIT ?",
            (index_id, range.start, *bounds, limit),
        )

    def scan_table(self, table_id: int, range: KeyRange, *, descending: bool, limit: int) -> list[Row]:
        below, bounds = ("AND internal < ?", (range.end,)) if range.end is not None else ("", ())
        return self._rows(
            "SELECT internal, internal, document, size, ts, checksum FROM documents "
            f"WHERE table_id = ? AND internal >= ? {below} "
            f"ORDER BY internal {'DESC' if descending else ''} LIMIT ?",
            (table_id, range.start, *bounds, limit),
        )

    def _rows(self, sql: str, parameters: tuple[object, ...]) -> list[Row]:
        rows = []
        for key, internal, document, size, ts, checksum in self._fetch(sql, parameters):
            if document is None or crc32(document) != checksum:
                raise damaged(key if internal is None else internal)
            rows.append(Row(key, internal, document, size, ts))
        return rows

    def count(self, table_id: int) -> int:
        rows = self._fetch("SELECT documents FROM counts WHERE table_id=?", (table_id,))
        return rows[0][0] if rows else 0

    # -------------------------------------------------------------------------------------------- text and vectors

    def text_statistics(self, index_id: int) -> TextStatistics:
        return text_rows.statistics_of(self._fetch(text_rows.STATISTICS, (index_id,)))

    def postings(self, index_id: int, term: bytes, below: bytes | None) -> list[tuple[bytes, bytes]]:
        if below is None:
            return self._fetch(text_rows.POSTINGS_OF_TERM, (index_id, term))
        return self._fetch(text_rows.POSTINGS_OF_TERMS, (index_id, term, below))

    def recent_texts(self, index_id: int) -> list[RecentText]:
        return text_rows.recent_of(self._fetch(text_rows.RECENT, (index_id, index_id)))

    def gone_texts(self, index_id: int) -> list[int]:
        return [text_id for (text_id,) in self._fetch(text_rows.GONE_TEXTS, (index_id,))]

    def text_columns(self, index_id: int, first: int, last: int) -> list[tuple[int, bytes]]:
        return self._fetch(text_rows.COLUMNS, (index_id, first, last))

    def texts(self, index_id: int, text_ids: Sequence[int]) -> list[tuple[int, bytes]]:
        return self._fetch(text_rows.TEXTS, (str(list(text_ids)), index_id)) if text_ids else []

    def text_of(self, index_id: int, internal: bytes) -> tuple[int, int] | None:
        rows = self._fetch(text_rows.OF_DOCUMENT, (index_id, internal))
        return rows[0] if rows else None

    def vector(self, index_id: int, internal: bytes) -> Vector | None:
        rows = self._fetch(vector_rows.VECTOR, (index_id, internal))
        return Vector(*rows[0]) if rows else None

    def vectors(self, index_id: int, after: bytes, limit: int) -> list[Vector]:
        return [Vector(*row) for row in self._fetch(vector_rows.VECTORS, (index_id, after, limit))]

    def vector_count(self, index_id: int) -> int:
        return int(self._fetch(vector_rows.COUNT, (index_id,))[0][0])

    def changed_after(self, table_id: int, ts: Timestamp) -> bool:
        sql = "SELECT 1 FROM documents WHERE table_id=? AND ts > ? LIMIT 1"
        return bool(self._fetch(sql, (table_id, ts)))

    def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        if self._connection is None:
            self._store.forget(self)
        if self._connection is not None:  # Also when it was settled while it was being forgotten.
            connection, self._connection = self._connection, None
            self._store.give_back(connection)
