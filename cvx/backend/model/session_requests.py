"""Answers already given: what makes a re-sent mutation an answer and not a second execution.

Rows are written in the mutation's own transaction, and looking them up is part of the mutation's ReadSet, so two
racing copies of one request serialise and the second finds the first's rows. An answer larger than a document
may be is kept in several.

Source: reference/values-and-sync.md §4.6; runtime-and-database.md §4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from cvx.backend.database import Transaction
from cvx.values import COMMIT_TS, Timestamp

REQUESTS = "_session_requests"
_BY_SESSION = "by_session"
_PART_BYTES = 256 * 1024

_lines = msgspec.json.Decoder(list[str])
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """What a mutation returned the first time. `value_json` is canonical Convex JSON."""

    ts: Timestamp
    value_json: bytes
    log_lines: list[str]


def lookup(tx: Transaction, session_id: str, request_id: int) -> RecordedAnswer | None:
    """The recorded answer to this request, if it succeeded before."""
    rows = tx.all(REQUESTS, _BY_SESSION, [session_id, float(request_id)], privileged=True)
    if not rows:
        return None
    value, lines = (b"".join(row[name] for row in rows) for name in ("value", "logLines"))
    return RecordedAnswer(rows[0]["ts"], value, _lines.decode(lines) if lines else [])


def record(
    tx: Transaction, session_id: str, request_id: int, value_json: bytes, log_lines: Sequence[str]
) -> None:
    """Note this request's answer, with the timestamp the commit will get."""
    lines = _encode(log_lines) if log_lines else b""
    for part, start in enumerate(range(0, max(len(value_json), len(lines), 1), _PART_BYTES)):
        end = start + _PART_BYTES
        fields: dict[str, Any] = {
            "sessionId": session_id,
            "requestId": float(request_id),
            "part": float(part),
            "value": value_json[start:end],
            "logLines": lines[start:end],
            "ts": COMMIT_TS,
        }
        tx.insert(REQUESTS, fields, privileged=True)


def drop_expired(tx: Transaction, before_ms: float, rows_max: int) -> int:
    """Delete up to `rows_max` of the oldest answers, created before `before_ms`; how many rows were deleted."""
    query = {
        "source": {
            "type": "IndexRange",
            "indexName": f"{REQUESTS}.by_creation_time",
            "order": "asc",
            "range": [{"type": "Lt", "fieldPath": "_creationTime", "value": before_ms}],
        },
        "operators": [{"limit": rows_max}],
    }
    rows = tx.collect(query, privileged=True)
    for row in rows:
        tx.delete(row["_id"], privileged=True)
    return len(rows)
