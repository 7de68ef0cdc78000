"""The store's file, read from another process: one snapshot, for work that would keep the backend from its clients.

Rule: read-only. SQLite keeps the log's pages that this snapshot needs, so the backend must know that it is there
(`Store.reading_elsewhere`), and it must not stay for ever.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from cvx.backend.store.errors import damaged, store_error
from cvx.backend.store.open import DATABASE_FILE
from cvx.backend.store.sqlite_view import SqliteView
from cvx.backend.store.statements import LATEST, connect

_CACHE_BYTES = 8 << 20


class StoredRow(NamedTuple):
    """What a table is read as, many rows at a time."""

    internal: bytes
    document: bytes


class StoreReader:
    """A snapshot of a data folder. `view` reads as any view does; `documents` reads a whole table quickly."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        row = connection.execute(LATEST).fetchone()  # The first read fixes what this connection sees.
        self.ts: int = row[0] if row else 0
        self.view = SqliteView(_NoOwner(), connection, self.ts)

    def documents(self, table_id: int, batch_rows: int) -> Iterator[Sequence[StoredRow]]:
        """A table's documents in the order of their ids. Raises CvxError "DataCorrupt"."""
        try:
            cursor = self._connection.execute(
                "SELECT internal, document, checksum FROM documents WHERE table_id=? ORDER BY internal",
                (table_id,),
            )
            while rows := cursor.fetchmany(batch_rows):
                for internal, document, checksum in rows:
                    if crc32(document) != checksum:
                        raise damaged(internal)
                yield [StoredRow(internal, document) for internal, document, _ in rows]
        except sqlite3.Error as error:
            raise store_error(error) from error


@contextlib.contextmanager
def reading_folder(folder: Path) -> Iterator[StoreReader]:
    """A snapshot of the data in a folder that a backend has open."""
    try:
        connection = connect(folder / DATABASE_FILE, _CACHE_BYTES)
    except sqlite3.Error as error:
        raise store_error(error) from error
    try:
        connection.execute("PRAGMA query_only=1")
        connection.execute("BEGIN")
        yield StoreReader(connection)
    except sqlite3.Error as error:
        raise store_error(error) from error
    finally:
        connection.close()


class _NoOwner:
    """A view that was never live has nobody to ask, and its connection is closed by whoever opened it."""

    def __init__(self) -> None:
        self.live_lock = threading.Lock()

    def read_live(self, view: SqliteView, sql: str, parameters: tuple[object, ...]) -> list[Any]:
        raise AssertionError("this view has a connection of its own")

    def forget(self, view: SqliteView) -> None:
        return None

    def give_back(self, connection: sqlite3.Connection) -> None:
        return None
