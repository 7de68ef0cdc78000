"""Stored schemas and their states: pending → validated → active; or failed; or overwritten.

A push submits a schema as pending; the database checks existing documents and marks it validated or failed, and
a write that breaks it while it is on its way marks it failed too; the push's last transaction activates it.

Source: reference/runtime-and-database.md §7.1, §7.2; cli-and-deploy.md §2.7, §2.8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cvx.backend.database import Transaction
from cvx.values import DocumentId

SCHEMAS = "_schemas"
_BY_STATE = "by_state"

State = Literal["pending", "validated", "active", "failed", "overwritten"]
IN_PROGRESS: Sequence[State] = ("pending", "validated")


@dataclass(frozen=True, slots=True)
class StoredSchema:
    """One schema and what became of it. `text` is the JSON that was pushed (cli-and-deploy.md §3.2)."""

    id: DocumentId
    component: str
    state: State
    text: str
    error: str | None
    failed_table: str | None


def active(tx: Transaction, component: str = "") -> StoredSchema | None:
    """The schema that writes must fit."""
    return _first(tx, component, "active")


def in_progress(tx: Transaction, component: str = "") -> StoredSchema | None:
    """The schema that a push is bringing in."""
    return _first(tx, component, "pending") or _first(tx, component, "validated")


def by_id(tx: Transaction, id: DocumentId) -> StoredSchema | None:
    row = tx.get_value(id, privileged=True)
    return None if row is None else _schema(row)


def submit(tx: Transaction, component: str, text: str) -> DocumentId:
    """Put a schema on its way; its id. One equal to the active or pending one is that one.

    Another schema that was on its way is overwritten: its push learns that it lost the race.
    """
    current = active(tx, component)
    same = current is not None and current.text == text
    for state in IN_PROGRESS:
        for row in tx.all(SCHEMAS, _BY_STATE, [component, state], privileged=True):
            if not same and row["schema"] == text:
                return DocumentId.parse(row["_id"])
            tx.patch(DocumentId.parse(row["_id"]), {"state": "overwritten"}, privileged=True)
    if current is not None and same:
        return current.id
    fields = {"component": component, "state": "pending", "schema": text, "error": None, "failedTable": None}
    return tx.insert(SCHEMAS, fields, privileged=True)


def activate(tx: Transaction, id: DocumentId) -> None:
    """Make a validated schema the one that writes must fit; the previous one goes."""
    schema = by_id(tx, id)
    assert schema is not None and schema.state in ("active", "validated")
    if schema.state == "active":
        return
    for row in tx.all(SCHEMAS, _BY_STATE, [schema.component, "active"], privileged=True):
        tx.delete(DocumentId.parse(row["_id"]), privileged=True)
    tx.patch(id, {"state": "active"}, privileged=True)


def deactivate(tx: Transaction, component: str) -> None:
    """Have no schema: the pushed code declares none."""
    for state in ("active", *IN_PROGRESS):
        for row in tx.all(SCHEMAS, _BY_STATE, [component, state], privileged=True):
            tx.delete(DocumentId.parse(row["_id"]), privileged=True)


def _first(tx: Transaction, component: str, state: State) -> StoredSchema | None:
    row = tx.first(SCHEMAS, _BY_STATE, [component, state], privileged=True)
    return None if row is None else _schema(row)


def _schema(row: dict[str, Any]) -> StoredSchema:
    return StoredSchema(
        id=DocumentId.parse(row["_id"]),
        component=row["component"],
        state=row["state"],
        text=row["schema"],
        error=row["error"],
        failed_table=row["failedTable"],
    )
