"""Bulk files: many documents and index entries, made ready outside the store and taken in by `Store.load`.

Whoever parses an import (another process) writes them; the store copies them row by row with single statements,
so that no row passes through Python in the process that serves. One file holds one run of documents of one
table, sorted as the store's trees are: documents by internal id, entries by index and key.

Rule: a file is complete and on disk before its name is given to anybody.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from cvx.values import Timestamp

INTERNAL_BYTES = 16


class BulkDocument(NamedTuple):
    """A document to be: canonical JSON, its weight, where it stood in what was imported, and its key in the index
    by creation time without the id at its end (empty: it gets no entry there)."""

    internal: bytes
    size: int
    document: bytes
    line: int
    creation: bytes = b""


class BulkEntry(NamedTuple):
    """An index entry; the last sixteen bytes of the key name its document."""

    index_id: int
    key: bytes


@dataclass(frozen=True, slots=True)
class BulkFile:
    """A file, the table its documents go to, when they shall be said to have been written, and the table's index
    by creation time, if the documents' `creation` is to be entered there."""

    path: Path
    table_id: int
    ts: Timestamp
    creation_index: int | None = None


def write_bulk(path: Path, documents: list[BulkDocument], entries: list[BulkEntry]) -> None:
    """Make a bulk file. Both lists are sorted in place."""
    documents.sort(key=itemgetter(0))
    entries.sort()
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA page_size=32768")
        connection.execute(
            "CREATE TABLE documents (n INTEGER PRIMARY KEY, internal BLOB, size INTEGER, checksum INTEGER, "
            "line INTEGER, creation BLOB, document BLOB)"
        )
        connection.execute("CREATE TABLE entries (n INTEGER PRIMARY KEY, index_id INTEGER, key BLOB)")
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO documents VALUES (?,?,?,?,?,?,?)",
            [
                (n, internal, size, crc32(document), line, creation, document)
                for n, (internal, size, document, line, creation) in enumerate(documents)
            ],
        )
        connection.executemany("INSERT INTO entries (index_id, key) VALUES (?,?)", entries)
        connection.execute("COMMIT")
    finally:
        connection.close()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_documents(path: Path, first: int, last: int) -> list[BulkDocument]:
    """Documents `first` up to but not including `last` of a bulk file."""
    sql = "SELECT internal, size, document, line, creation FROM documents WHERE n >= ? AND n < ? ORDER BY n"
    return [BulkDocument(*row) for row in _rows(path, sql, (first, last))]


def read_entries(path: Path, first: int, last: int) -> list[BulkEntry]:
    """Entries `first` up to but not including `last` (counted from 0) of a bulk file."""
    sql = "SELECT index_id, key FROM entries WHERE n > ? AND n <= ? ORDER BY n"
    return [BulkEntry(*row) for row in _rows(path, sql, (first, last))]


def _rows(path: Path, sql: str, parameters: tuple[int, int]) -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql, parameters).fetchall()
    finally:
        connection.close()
