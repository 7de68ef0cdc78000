"""The tables of the store's file, the statements that write them, and how a connection to it is made.

sqlite.py says what they are for.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from cvx.backend.store import text_rows, vector_rows

SCHEMA = (
    "CREATE TABLE documents (id INTEGER PRIMARY KEY, table_id INTEGER NOT NULL, internal BLOB NOT NULL, "
    "ts INTEGER NOT NULL, size INTEGER NOT NULL, checksum INTEGER NOT NULL, document BLOB NOT NULL)",
    "CREATE UNIQUE INDEX documents_by_internal ON documents (table_id, internal)",
    "CREATE TABLE entries (index_id INTEGER NOT NULL, key BLOB NOT NULL, document_id INTEGER NOT NULL, "
    "PRIMARY KEY (index_id, key)) WITHOUT ROWID",
    "CREATE TABLE log (ts INTEGER NOT NULL, seq INTEGER NOT NULL, table_id INTEGER NOT NULL, "
    "internal BLOB NOT NULL, previous_ts INTEGER, document BLOB, PRIMARY KEY (ts, seq)) WITHOUT ROWID",
    "CREATE TABLE counts (table_id INTEGER PRIMARY KEY, documents INTEGER NOT NULL)",
    "CREATE TABLE globals (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    *text_rows.SCHEMA,
    *vector_rows.SCHEMA,
)
UPGRADES = {1: (*text_rows.SCHEMA, *vector_rows.SCHEMA)}
"""By the format of a file: what makes it one of the next format."""

LATEST = "SELECT ts FROM log ORDER BY ts DESC LIMIT 1"
INSERT = "INSERT INTO documents (id, table_id, internal, ts, size, checksum, document) VALUES (?,?,?,?,?,?,?)"
UPDATE = "UPDATE documents SET ts=?, size=?, checksum=?, document=? WHERE table_id=? AND internal=?"
DELETE = "DELETE FROM documents WHERE table_id=? AND internal=?"
LOG = "INSERT INTO log (ts, seq, table_id, internal, previous_ts, document) VALUES (?,?,?,?,?,?)"
COUNT = (
    "INSERT INTO counts (table_id, documents) VALUES (?,?) "
    "ON CONFLICT (table_id) DO UPDATE SET documents = documents + excluded.documents"
)
ENTER = (
    "INSERT OR REPLACE INTO entries (index_id, key, document_id) "
    "VALUES (?, ?, (SELECT id FROM documents WHERE table_id=? AND internal=?))"
)
LEAVE = "DELETE FROM entries WHERE index_id=? AND key=?"
FILL = (
    "INSERT OR IGNORE INTO entries (index_id, key, document_id) "
    "SELECT ?, ?, id FROM documents WHERE table_id=? AND internal=?"
)
LOAD_DOCUMENTS = (
    "INSERT INTO documents (id, table_id, internal, ts, size, checksum, document) "
    "SELECT n + ?, ?, internal, ?, size, checksum, document FROM bulk.documents "
    "WHERE n >= ? AND n < ? ORDER BY n"
)
# The file has them in the order of their ids; the index wants the order of its own keys.
LOAD_CREATIONS = (
    "INSERT INTO entries (index_id, key, document_id) SELECT ?, CAST(creation || internal AS BLOB), n + ? "
    "FROM bulk.documents WHERE n >= ? AND n < ? ORDER BY creation, internal"
)
LOAD_ENTRIES = (
    "INSERT INTO entries (index_id, key, document_id) SELECT index_id, key, "
    "(SELECT id FROM documents WHERE table_id=? AND internal=substr(b.key, -16)) "
    "FROM bulk.entries b WHERE b.n > ? AND b.n <= ? ORDER BY b.n"
)
LOADED_TWICE = (
    "SELECT b.internal, b.line FROM bulk.documents b JOIN documents d "
    "ON d.table_id = ? AND d.internal = b.internal WHERE b.n >= ? AND b.n < ? ORDER BY b.n LIMIT 1"
)
SET = "INSERT OR REPLACE INTO globals (name, value) VALUES (?,?)"
TRIM_TO = "SELECT ts, seq FROM log WHERE ts < ? ORDER BY ts, seq LIMIT 1 OFFSET ?"


def connect(path: Path, cache_bytes: int) -> sqlite3.Connection:
    """A connection as all of ours are: no implicit transactions, WAL, no checkpoint in a commit's way."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=64, timeout=10.0
    )
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute(f"PRAGMA cache_size={-cache_bytes // 1024}")
    return connection
