"""Answers already given: what makes a re-sent mutation an answer and not a second execution.

A row is written in the mutation's own transaction, and looking it up is part of the mutation's ReadSet, so two
racing copies of one request serialise and the second finds the first's row.

Source: reference/values-and-sync.md §4.6; runtime-and-database.md §4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cvx.backend.database import Transaction
from cvx.values import COMMIT_TS, Timestamp

REQUESTS = "_session_requests"
_BY_SESSION = "by_session"


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """What a mutation returned the first time. `value_json` is canonical Convex JSON."""

    ts: Timestamp
    value_json: bytes
    log_lines: list[str]


def lookup(tx: Transaction, session_id: str, request_id: int) -> RecordedAnswer | None:
    """The recorded answer to this request, if it succeeded before."""
    row = tx.first(REQUESTS, _BY_SESSION, [session_id, float(request_id)], privileged=True)
    if row is None:
        return None
    return RecordedAnswer(row["ts"], row["value"].encode(), row["logLines"])


def record(
    tx: Transaction, session_id: str, request_id: int, value_json: bytes, log_lines: Sequence[str]
) -> None:
    """Note this request's answer, with the timestamp the commit will get."""
    fields = {
        "sessionId": session_id,
        "requestId": float(request_id),
        "value": value_json.decode(),
        "logLines": list(log_lines),
        "ts": COMMIT_TS,
    }
    tx.insert(REQUESTS, fields, privileged=True)


def drop_expired(tx: Transaction, before_ms: float, rows_max: int) -> int:
    """Delete up to `rows_max` of the oldest answers, created before `before_ms`; how many were deleted."""
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
