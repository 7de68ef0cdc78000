"""Schemas against documents: at every write, and when a new schema comes in.

A write must fit the active schema. It may break one that is only on its way in; then that one is marked failed
in the same commit, and the push that brought it will say so.

Source: reference/runtime-and-database.md §7.1, §7.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cvx.backend.database.catalog import SchemaInfo, TableInfo
from cvx.errors import CvxError
from cvx.protocol.schema import Schema
from cvx.values import ANYTHING, Complaint, TableNames, Validator, is_superset_of

if TYPE_CHECKING:
    from cvx.backend.database.transaction import Transaction


def check_write(tx: Transaction, table: TableInfo, document: dict[str, Any]) -> None:
    """Raise CvxError "SchemaEnforcementError" when the active schema refuses the document; mark incoming
    schemas that refuse it as failed."""
    for info in tx.catalog.checked_schemas(table.component):
        complaint = complaint_about(info, table, document, tx.catalog.table_names(table.component))
        if complaint is None:
            continue
        if info.state == "active":
            raise CvxError(
                "SchemaEnforcementError",
                f'Failed to insert or update a document in table "{table.name}" because it does not match the '
                f"schema: {complaint.text()}",
                hint="Change the document, or the table's definition in convex/schema.ts.",
                retry_when="data",
            )
        fail_schema(tx, info, table.name, str(document["_id"]), complaint)


def complaint_about(
    info: SchemaInfo, table: TableInfo, document: dict[str, Any], names: TableNames
) -> Complaint | None:
    """Why a schema refuses a document, or None."""
    expected = info.table(table.name)
    return None if expected is None else expected.validator.check_document(document, names)


def fail_schema(
    tx: Transaction, info: SchemaInfo, table: str, document_id: str, complaint: Complaint
) -> None:
    """Mark an incoming schema failed, saying which document it refused and why."""
    error = (
        f'Document with ID "{document_id}" in table "{table}" does not match the schema: {complaint.text()}'
    )
    tx.patch(info.id, {"state": "failed", "error": error, "failedTable": table}, privileged=True)


def fail_schema_for(tx: Transaction, info: SchemaInfo, table: str, why: str) -> None:
    """Mark an incoming schema failed over a whole table."""
    error = f'Table "{table}" could not be checked against the schema: {why}'
    tx.patch(info.id, {"state": "failed", "error": error, "failedTable": table}, privileged=True)


def tables_to_check(new: Schema, active: Schema | None) -> list[str]:
    """The tables whose documents must be looked at before `new` can become active: all but those for which
    the validator that holds now proves that every document fits."""
    if not new.validation:
        return []
    found = []
    for name, table in new.tables.items():
        held: Validator = ANYTHING
        if active is not None and active.validation and name in active.tables:
            held = active.tables[name].validator
        if not is_superset_of(table.validator, held):
            found.append(name)
    return sorted(found)
