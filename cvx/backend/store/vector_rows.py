"""Vector indexes in SQLite: one row a document, written with it and read through the same views.

    vectors(index_id, internal, ts, filters, vector)

The rows are what is true; what makes a search fast is in memory (database/vector_matrix.py) and made from them.

Rule: only SqliteStore calls this, within its write transaction.

Source: docs/adr/0012-vector-search.md.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from cvx.backend.store.interface import VectorChange
from cvx.values import Timestamp

SCHEMA = (
    "CREATE TABLE vectors (id INTEGER PRIMARY KEY, index_id INTEGER NOT NULL, internal BLOB NOT NULL, "
    "ts INTEGER NOT NULL, filters BLOB NOT NULL, vector BLOB NOT NULL)",
    "CREATE UNIQUE INDEX vectors_by_document ON vectors (index_id, internal)",
)

_PUT = "INSERT OR REPLACE INTO vectors (index_id, internal, ts, filters, vector) VALUES (?,?,?,?,?)"
_FILL = "INSERT OR IGNORE INTO vectors (index_id, internal, ts, filters, vector) VALUES (?,?,?,?,?)"
_DELETE = "DELETE FROM vectors WHERE index_id=? AND internal=?"

VECTOR = "SELECT internal, ts, filters, vector FROM vectors WHERE index_id=? AND internal=?"
VECTORS = "SELECT internal, ts, filters, vector FROM vectors WHERE index_id=? AND internal > ? ORDER BY internal LIMIT ?"
COUNT = "SELECT count(*) FROM vectors INDEXED BY vectors_by_document WHERE index_id=?"


def apply(writer: sqlite3.Connection, ts: Timestamp, changes: Sequence[VectorChange]) -> None:
    """Make the changes of one commit."""
    gone = [(change.index_id, change.internal) for change in changes if change.vector is None]
    if gone:
        writer.executemany(_DELETE, gone)
    writer.executemany(_PUT, _rows(ts, changes))


def fill(writer: sqlite3.Connection, ts: Timestamp, changes: Sequence[VectorChange]) -> None:
    """Add rows of documents that have none; others are left alone."""
    writer.executemany(_FILL, _rows(ts, changes))


def _rows(ts: Timestamp, changes: Sequence[VectorChange]) -> list[tuple[int, bytes, int, bytes, bytes]]:
    return [
        (change.index_id, change.internal, ts, change.filters, change.vector)
        for change in changes
        if change.vector is not None
    ]


def drop(writer: sqlite3.Connection, index_id: int, limit: int) -> int:
    """Delete up to `limit` rows of an index; how many went."""
    return writer.execute(
        "DELETE FROM vectors WHERE id IN (SELECT id FROM vectors WHERE index_id=? LIMIT ?)", (index_id, limit)
    ).rowcount
