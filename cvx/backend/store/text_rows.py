"""Text indexes in SQLite: recent texts as they came, and postings that they are folded into.

    text_indexes(index_id, documents, tokens, next_id, folded)   one row an index
    texts(index_id, text_id, internal, gone, created, length)
    text_terms(index_id, text_id, terms)                         of recent texts and of gone ones
    postings(index_id, term, first_id, entries)                  numbers of texts, a few hundred a row
    text_columns(index_id, block, entries)                       creation time and length by number

A text is written as one row, with its terms; a commit touches a few pages however long it is (measured: postings
written at once would be 50 pages of log for 50 words). In the background, batches of recent texts are folded into
the postings, and their terms forgotten. A text that goes after that is marked, with its terms, and later purged
from the postings. Numbers are never used twice, and grow in the order of writing.

All of it is in the same transactions, and read through the same views, as the documents. Neither folding nor purging
changes any answer: readers look at recent texts, leave out gone ones, and see one consistent state.

Rule: only SqliteStore calls this, within its write transaction.

Source: docs/adr/0011-text-search.md.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Sequence

from cvx.backend.store.interface import RecentText, StoredText, TextChange, TextStatistics

SCHEMA = (
    "CREATE TABLE text_indexes (index_id INTEGER PRIMARY KEY, documents INTEGER NOT NULL, "
    "tokens INTEGER NOT NULL, next_id INTEGER NOT NULL, folded INTEGER NOT NULL)",
    "CREATE TABLE texts (index_id INTEGER NOT NULL, text_id INTEGER NOT NULL, internal BLOB NOT NULL, "
    "gone INTEGER NOT NULL, created REAL NOT NULL, length INTEGER NOT NULL, "
    "PRIMARY KEY (index_id, text_id)) WITHOUT ROWID",
    "CREATE UNIQUE INDEX texts_by_document ON texts (index_id, internal) WHERE gone = 0",
    "CREATE INDEX texts_gone ON texts (index_id, text_id) WHERE gone = 1",
    "CREATE TABLE text_terms (index_id INTEGER NOT NULL, text_id INTEGER NOT NULL, terms BLOB NOT NULL, "
    "PRIMARY KEY (index_id, text_id)) WITHOUT ROWID",
    "CREATE TABLE postings (index_id INTEGER NOT NULL, term BLOB NOT NULL, first_id INTEGER NOT NULL, "
    "entries BLOB NOT NULL, PRIMARY KEY (index_id, term, first_id)) WITHOUT ROWID",
    "CREATE TABLE text_columns (index_id INTEGER NOT NULL, block INTEGER NOT NULL, entries BLOB NOT NULL, "
    "PRIMARY KEY (index_id, block)) WITHOUT ROWID",
)

POSTING = struct.Struct("<IH")
"""The number of a text, and how often the term occurs in it (at most OCCURRENCES_MAX)."""
COLUMN = struct.Struct("<dI")
"""A text's creation time and length; the length of one that is gone is GONE."""
OCCURRENCES_MAX = 0xFFFF
COLUMN_TEXTS = 256
GONE = 0xFFFFFFFF

_ENTRIES_BYTES_MAX = 512 * POSTING.size
_NO_TEXT = COLUMN.pack(0.0, GONE)
_NO_TEXTS = _NO_TEXT * COLUMN_TEXTS

_STATISTICS = "SELECT documents, tokens, next_id, folded FROM text_indexes WHERE index_id=?"
_SET_STATISTICS = (
    "INSERT OR REPLACE INTO text_indexes (index_id, documents, tokens, next_id, folded) VALUES (?,?,?,?,?)"
)
_OF_DOCUMENT = "SELECT text_id, length FROM texts WHERE index_id=? AND internal=? AND gone=0"
_INSERT = "INSERT INTO texts (index_id, text_id, internal, gone, created, length) VALUES (?,?,?,0,?,?)"
_INSERT_TERMS = "INSERT INTO text_terms (index_id, text_id, terms) VALUES (?,?,?)"
_DELETE = "DELETE FROM texts WHERE index_id=? AND text_id=?"
_DELETE_TERMS = "DELETE FROM text_terms WHERE index_id=? AND text_id=?"
_MARK_GONE = "UPDATE texts SET gone=1 WHERE index_id=? AND text_id=?"
_RECENT = (
    "SELECT t.text_id, t.created, t.length, w.terms FROM texts t "
    "LEFT JOIN text_terms w ON w.index_id=t.index_id AND w.text_id=t.text_id "
    "WHERE t.index_id=? AND t.text_id > (SELECT folded FROM text_indexes WHERE index_id=?) AND t.gone=0 "
    "ORDER BY t.text_id"
)
_GONE = "SELECT text_id FROM texts INDEXED BY texts_gone WHERE index_id=? AND gone=1 ORDER BY text_id"
_LAST_PIECE = (
    "SELECT first_id, entries FROM postings WHERE index_id=? AND term=? ORDER BY first_id DESC LIMIT 1"
)
_SET_PIECE = "UPDATE postings SET entries=? WHERE index_id=? AND term=? AND first_id=?"
_NEW_PIECE = "INSERT INTO postings (index_id, term, first_id, entries) VALUES (?,?,?,?)"
_PIECE_OF = (
    "SELECT first_id, entries FROM postings WHERE index_id=? AND term=? AND first_id <= ? "
    "ORDER BY first_id DESC LIMIT 1"
)


def occurrences(terms: bytes) -> list[tuple[bytes, int]]:
    """(term, how often) of a `StoredText.terms`, in order."""
    return [
        (term, int(count)) for term, _, count in (part.partition(b"\t") for part in terms[1:-1].split(b"\n"))
    ]


def text_terms(counts: Sequence[tuple[bytes, int]]) -> bytes:
    """Inverse of `occurrences`: a newline around each term and its count. Terms have no control characters."""
    return b"\n" + b"\n".join([b"%b\t%d" % pair for pair in sorted(counts)]) + b"\n"


# ---------------------------------------------------------------------------------------------------------- writing


def apply(writer: sqlite3.Connection, changes: Sequence[TextChange]) -> int:
    """Make the changes of one commit; by how much the backlog grew."""
    backlog = 0
    for index_id, of_index in _by_index(changes).items():
        documents, tokens, next_id, folded = _statistics(writer, index_id)
        for change in of_index:
            row = writer.execute(_OF_DOCUMENT, (index_id, change.internal)).fetchone()
            if row is not None:
                text_id, length = row
                documents, tokens = documents - 1, tokens - length
                if text_id > folded:
                    writer.execute(_DELETE, (index_id, text_id))
                    writer.execute(_DELETE_TERMS, (index_id, text_id))
                    backlog -= 1
                else:
                    assert change.old is not None, "what is there was put there by an earlier version"
                    writer.execute(_MARK_GONE, (index_id, text_id))
                    writer.execute(_INSERT_TERMS, (index_id, text_id, change.old))
                    backlog += 1
            if change.new is not None:
                _insert(writer, index_id, next_id, change.internal, change.new)
                documents, tokens, next_id = documents + 1, tokens + change.new.length, next_id + 1
                backlog += 1
        writer.execute(_SET_STATISTICS, (index_id, documents, tokens, next_id, folded))
    return backlog


def fill(writer: sqlite3.Connection, changes: Sequence[TextChange]) -> int:
    """As `apply`, for documents of which the index has nothing yet; others are left alone."""
    backlog = 0
    for index_id, of_index in _by_index(changes).items():
        documents, tokens, next_id, folded = _statistics(writer, index_id)
        for change in of_index:
            if change.new is None or writer.execute(_OF_DOCUMENT, (index_id, change.internal)).fetchone():
                continue
            _insert(writer, index_id, next_id, change.internal, change.new)
            documents, tokens, next_id = documents + 1, tokens + change.new.length, next_id + 1
            backlog += 1
        writer.execute(_SET_STATISTICS, (index_id, documents, tokens, next_id, folded))
    return backlog


def _by_index(changes: Sequence[TextChange]) -> dict[int, list[TextChange]]:
    found: dict[int, list[TextChange]] = {}
    for change in changes:
        found.setdefault(change.index_id, []).append(change)
    return found


def _statistics(connection: sqlite3.Connection, index_id: int) -> tuple[int, int, int, int]:
    row: tuple[int, int, int, int] | None = connection.execute(_STATISTICS, (index_id,)).fetchone()
    return (0, 0, 1, 0) if row is None else row


def _insert(
    writer: sqlite3.Connection, index_id: int, text_id: int, internal: bytes, text: StoredText
) -> None:
    writer.execute(_INSERT, (index_id, text_id, internal, text.created, text.length))
    writer.execute(_INSERT_TERMS, (index_id, text_id, text.terms))


# ------------------------------------------------------------------------------------------------ fold and purge


def backlog(connection: sqlite3.Connection) -> int:
    """How many texts wait to be folded or purged."""
    (count,) = connection.execute("SELECT count(*) FROM text_terms").fetchone()
    return int(count)


def fold(writer: sqlite3.Connection, limit: int) -> int:
    """Fold the oldest recent texts of the first index that has any; how many."""
    found = writer.execute(
        "SELECT index_id, folded FROM text_indexes WHERE next_id - 1 > folded ORDER BY index_id"
    ).fetchall()
    for index_id, folded in found:
        texts = writer.execute(f"{_RECENT} LIMIT ?", (index_id, index_id, limit)).fetchall()
        if not texts:  # All that were written since are gone again.
            writer.execute("UPDATE text_indexes SET folded = next_id - 1 WHERE index_id=?", (index_id,))
            continue
        last = texts[-1][0]
        _add_postings(writer, index_id, texts)
        _set_columns(
            writer, index_id, {text_id: COLUMN.pack(created, length) for text_id, created, length, _ in texts}
        )
        writer.execute(
            "DELETE FROM text_terms WHERE index_id=? AND text_id > ? AND text_id <= ?",
            (index_id, folded, last),
        )
        writer.execute("UPDATE text_indexes SET folded=? WHERE index_id=?", (last, index_id))
        return len(texts)
    return 0


def _add_postings(
    writer: sqlite3.Connection, index_id: int, texts: Sequence[tuple[int, float, int, bytes]]
) -> None:
    entries: dict[bytes, list[bytes]] = {}
    firsts: dict[bytes, int] = {}
    pack = POSTING.pack
    for text_id, _, _, terms in texts:
        for term, count in occurrences(terms):
            found = entries.get(term)
            if found is None:
                entries[term], firsts[term] = [pack(text_id, min(count, OCCURRENCES_MAX))], text_id
            else:
                found.append(pack(text_id, min(count, OCCURRENCES_MAX)))
    extended, created = [], []
    per_piece = _ENTRIES_BYTES_MAX // POSTING.size
    for term in sorted(entries):
        added = entries[term]
        row = writer.execute(_LAST_PIECE, (index_id, term)).fetchone()
        room = 0 if row is None else (_ENTRIES_BYTES_MAX - len(row[1])) // POSTING.size
        if room > 0:
            extended.append((row[1] + b"".join(added[:room]), index_id, term, row[0]))
            added = added[room:]
        for start in range(0, len(added), per_piece):
            piece = added[start : start + per_piece]
            created.append((index_id, term, POSTING.unpack(piece[0])[0], b"".join(piece)))
    writer.executemany(_SET_PIECE, extended)
    writer.executemany(_NEW_PIECE, created)


def _set_columns(writer: sqlite3.Connection, index_id: int, columns: dict[int, bytes]) -> None:
    """Set the columns of texts; a block in which every text is gone goes away."""
    blocks: dict[int, bytearray] = {}
    for text_id, column in columns.items():
        number, place = divmod(text_id, COLUMN_TEXTS)
        block = blocks.get(number)
        if block is None:
            row = writer.execute(
                "SELECT entries FROM text_columns WHERE index_id=? AND block=?", (index_id, number)
            ).fetchone()
            block = blocks[number] = bytearray(_NO_TEXTS if row is None else row[0])
        block[place * COLUMN.size : (place + 1) * COLUMN.size] = column
    for number, block in blocks.items():
        if block == _NO_TEXTS:
            writer.execute("DELETE FROM text_columns WHERE index_id=? AND block=?", (index_id, number))
        else:
            writer.execute(
                "INSERT OR REPLACE INTO text_columns (index_id, block, entries) VALUES (?,?,?)",
                (index_id, number, bytes(block)),
            )


def purge(writer: sqlite3.Connection, limit: int) -> int:
    """Take the oldest gone texts of the first index that has any from its postings; how many."""
    first = writer.execute("SELECT index_id FROM texts INDEXED BY texts_gone WHERE gone=1 LIMIT 1").fetchone()
    if first is None:
        return 0
    index_id: int = first[0]
    texts = writer.execute(
        "SELECT t.text_id, w.terms FROM texts t INDEXED BY texts_gone "
        "JOIN text_terms w ON w.index_id=t.index_id AND w.text_id=t.text_id "
        "WHERE t.index_id=? AND t.gone=1 ORDER BY t.text_id LIMIT ?",
        (index_id, limit),
    ).fetchall()
    by_term: dict[bytes, list[int]] = {}
    for text_id, terms in texts:
        for term, _ in occurrences(terms):
            by_term.setdefault(term, []).append(text_id)
    for term in sorted(by_term):
        _take_postings(writer, index_id, term, by_term[term])
    _set_columns(writer, index_id, {text_id: _NO_TEXT for text_id, _ in texts})
    for statement in (_DELETE, _DELETE_TERMS):
        writer.executemany(statement, [(index_id, text_id) for text_id, _ in texts])
    return len(texts)


def _take_postings(writer: sqlite3.Connection, index_id: int, term: bytes, text_ids: Sequence[int]) -> None:
    pieces: dict[int, dict[int, int]] = {}
    for text_id in text_ids:
        row = writer.execute(_PIECE_OF, (index_id, term, text_id)).fetchone()
        if row is None:
            continue
        first_id, entries = row
        piece = pieces.get(first_id)
        if piece is None:
            piece = pieces[first_id] = dict(POSTING.iter_unpack(entries))
        piece.pop(text_id, None)
    for first_id, piece in pieces.items():
        if piece:
            entries = b"".join([POSTING.pack(*pair) for pair in piece.items()])
            writer.execute(_SET_PIECE, (entries, index_id, term, first_id))
        else:
            writer.execute(
                "DELETE FROM postings WHERE index_id=? AND term=? AND first_id=?", (index_id, term, first_id)
            )


def drop(writer: sqlite3.Connection, index_id: int, limit: int) -> int:
    """Delete up to `limit` rows of an index; how many went."""
    keys = {
        "postings": "term, first_id",
        "text_terms": "text_id",
        "texts": "text_id",
        "text_columns": "block",
    }
    for table, key in keys.items():
        gone = writer.execute(
            f"DELETE FROM {table} WHERE index_id=? AND ({key}) IN "
            f"(SELECT {key} FROM {table} WHERE index_id=? ORDER BY {key} LIMIT ?)",
            (index_id, index_id, limit),
        ).rowcount
        if gone:
            return gone
    return writer.execute("DELETE FROM text_indexes WHERE index_id=?", (index_id,)).rowcount


# ---------------------------------------------------------------------------------------------------------- reading
# Statements and their parameters: a view runs them on whatever connection it has.

STATISTICS = "SELECT documents, tokens, next_id FROM text_indexes WHERE index_id=?"
POSTINGS_OF_TERM = "SELECT term, entries FROM postings WHERE index_id=? AND term=? ORDER BY first_id"
POSTINGS_OF_TERMS = (
    "SELECT term, entries FROM postings WHERE index_id=? AND term >= ? AND term < ? ORDER BY term, first_id"
)
RECENT = _RECENT
GONE_TEXTS = _GONE
COLUMNS = "SELECT block, entries FROM text_columns WHERE index_id=? AND block BETWEEN ? AND ? ORDER BY block"
TEXTS = (
    "SELECT t.text_id, t.internal FROM json_each(?) j CROSS JOIN texts t "
    "ON t.index_id=? AND t.text_id=j.value AND t.gone=0"
)
OF_DOCUMENT = _OF_DOCUMENT


def statistics_of(rows: Sequence[tuple[int, int, int]]) -> TextStatistics:
    return TextStatistics(*rows[0]) if rows else TextStatistics(0, 0, 1)


def recent_of(rows: Sequence[tuple[int, float, int, bytes]]) -> list[RecentText]:
    return [
        RecentText(text_id, StoredText(created, length, terms)) for text_id, created, length, terms in rows
    ]
