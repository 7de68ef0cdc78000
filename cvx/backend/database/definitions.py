"""Changes of what exists: tables, indexes and schemas. Functions over a Transaction.

An index goes backfilling → backfilled → enabled. It is kept up by every write from the moment its row exists;
`backfill.py` adds what was there before. A staged one stops at backfilled. A schema goes pending →
validated → active, or failed, or overwritten by a later one; one is active in each component.

Source: reference/runtime-and-database.md §7.1, §7.2.
"""

from __future__ import annotations

from cvx.backend.database.catalog import INDEXES, ROOT, SCHEMAS, TABLES_TABLE, SchemaInfo, TableInfo
from cvx.backend.database.engine import create_table
from cvx.backend.database.indexes import IndexInfo, definition_to_row
from cvx.backend.database.transaction import Transaction
from cvx.errors import CvxError
from cvx.protocol.schema import Index
from cvx.values import FULL_RANGE, DocumentId

# ----------------------------------------------------------------------------------------------------- tables


def ensure_table(tx: Transaction, name: str, *, component: str = ROOT) -> TableInfo:
    """The table of this name, created if there is none. Raises CvxError: InvalidTableName, TooManyTables."""
    info = tx.table(name, component=component)
    return create_table(tx, name, component, numbered=None) if info is None else info


def delete_table(tx: Transaction, name: str, *, component: str = ROOT) -> bool:
    """Make a table and its indexes go away at the commit (their rows follow in the background); whether there
    was one. Refused by CvxError "TableInSchema" while the active schema names it."""
    info = tx.table(name, component=component)
    if info is None:
        return False
    active = active_schema(tx, component=component)
    if active is not None and (name in active.schema.tables or name in active.schema.referenced_tables()):
        raise CvxError(
            "TableInSchema", f'Table "{name}" cannot be deleted because the schema names it.',
            hint="Remove it from convex/schema.ts and push first.", retry_when="files",
        )  # fmt: skip
    retire_table(tx, info)
    return True


def retire_table(tx: Transaction, info: TableInfo) -> None:
    """Make a table and its indexes go away at the commit, whatever the schema says."""
    for index in info.indexes:
        if index.row is not None:
            drop_index(tx, DocumentId(_INDEXES_NUMBER, index.row))
    assert info.row is not None
    tx.patch(DocumentId(TABLES_TABLE.number, info.row), {"state": "deleting"}, privileged=True)


# ---------------------------------------------------------------------------------------------------- indexes


def indexes(tx: Transaction, *, component: str = ROOT) -> list[tuple[TableInfo, IndexInfo, DocumentId]]:
    """Every index of every user table (built-in ones left out), with the id of its row."""
    tx.note_read(INDEXES, "by_id", FULL_RANGE, privileged=True)
    return [
        (table, index, DocumentId(_INDEXES_NUMBER, index.row))
        for table in sorted(tx.catalog.tables(component), key=lambda table: table.name)
        if not table.is_system
        for index in table.indexes
        if index.row is not None
    ]


_INDEXES_NUMBER = 514


def create_index(tx: Transaction, table: str, definition: Index, *, component: str = ROOT) -> DocumentId:
    """Add an index in state backfilling (backfilled where there is nothing to fill in); the id of its row.

    The table is created if there is none. An index of the same name stays usable until it is dropped. What the
    definition must obey is checked by `protocol.schema`; here only CvxError "TooManyIndexes".
    """
    info = ensure_table(tx, table, component=component)
    return add_index(tx, info, definition, state=None)


def add_index(tx: Transaction, info: TableInfo, definition: Index, *, state: str | None) -> DocumentId:
    """As `create_index`, for a table at hand, and with a state of one's own choosing."""
    limit = tx.engine.limits.indexes_per_table_max
    assert info.row is not None
    if len({index.name for index in info.indexes} | {definition.name}) > limit:
        raise CvxError("TooManyIndexes", f'Table "{info.name}" would have more than {limit} indexes.')
    if state is None:
        created_here = tx.writes.writes.get((TABLES_TABLE.table_id, info.row))
        is_new = created_here is not None and created_here.old_raw is None
        state = "backfilled" if is_new else "backfilling"
    return tx.insert(
        INDEXES,
        {
            "table": str(DocumentId(TABLES_TABLE.number, info.row)),
            "name": definition.name,
            **definition_to_row(definition),
            "state": state,
            "staged": definition.staged,
            "storeId": float(tx.engine.new_store_ids(1)),
        },
        privileged=True,
    )


def mark_backfilled(tx: Transaction, id: DocumentId) -> None:
    """Everything that was there before the index is in it now."""
    tx.patch(id, {"state": "backfilled"}, privileged=True)


def enable_index(tx: Transaction, id: DocumentId) -> None:
    """Let queries use a backfilled index (also: a staged one is staged no more). Raises CvxError
    "IndexBackfillingError" when it is not ready."""
    row = tx.get_value(id, privileged=True)
    if row is None or row["state"] == "backfilling":
        raise CvxError(
            "IndexBackfillingError", f"Index {row['name'] if row else id} is not backfilled yet.",
            hint="Wait for the backfill, then finish the push.", retry_when="time",
        )  # fmt: skip
    tx.patch(id, {"state": "enabled", "staged": False}, privileged=True)


def stage_index(tx: Transaction, id: DocumentId) -> None:
    """Keep an index up, but let no query use it."""
    row = tx.get_value(id, privileged=True)
    if row is not None:
        state = "backfilling" if row["state"] == "backfilling" else "backfilled"
        tx.patch(id, {"state": state, "staged": True}, privileged=True)


def drop_index(tx: Transaction, id: DocumentId) -> None:
    """Make an index go away at the commit; its entries follow in the background."""
    tx.delete(id, privileged=True)


def active_schema(tx: Transaction, *, component: str = ROOT) -> SchemaInfo | None:
    """The schema that writes must fit; the answer becomes a dependency."""
    tx.note_read(SCHEMAS, "by_id", FULL_RANGE, privileged=True)
    return tx.catalog.active_schema(component)


def schema(tx: Transaction, id: DocumentId) -> SchemaInfo | None:
    """A stored schema and its state; the answer becomes a dependency."""
    tx.note_read(SCHEMAS, "by_id", FULL_RANGE, privileged=True)
    return tx.catalog.schema(id)


def submit_schema(tx: Transaction, text: str, *, component: str = ROOT) -> DocumentId:
    """Store a schema (JSON text) as pending, or take one that is there already with the same text; its id.

    Other schemas on their way in are overwritten: the last push wins.
    """
    tx.note_read(SCHEMAS, "by_id", FULL_RANGE, privileged=True)
    stored = tx.catalog.schemas(component)
    usable = [
        info for info in stored if info.text == text and info.state in ("pending", "validated", "active")
    ]
    found = usable[0] if usable else None
    for other in stored:
        if other is not found and other.state in ("pending", "validated"):
            tx.patch(other.id, {"state": "overwritten"}, privileged=True)
    if found is not None:
        return found.id
    return tx.insert(
        SCHEMAS,
        {"component": component, "schema": text, "state": "pending", "error": None, "failedTable": None},
        privileged=True,
    )


def mark_validated(tx: Transaction, id: DocumentId) -> None:
    """Every existing document fits this schema; nothing happens when it is no longer pending."""
    info = schema(tx, id)
    if info is not None and info.state == "pending":
        tx.patch(id, {"state": "validated"}, privileged=True)


def activate_schema(tx: Transaction, id: DocumentId) -> None:
    """Make a validated schema the one that writes must fit. Raises CvxError "SchemaNotValidated"."""
    info = schema(tx, id)
    if info is not None and info.state == "active":
        return
    if info is None or info.state != "validated":
        raise CvxError(
            "SchemaNotValidated",
            f"The schema cannot become active: it is {'gone' if info is None else info.state}.",
            hint="Push again.",
            retry_when="files",
        )
    clear_schema(tx, component=info.component)
    tx.patch(id, {"state": "active"}, privileged=True)


def clear_schema(tx: Transaction, *, component: str = ROOT) -> None:
    """Leave the component without an active schema. Schemas that are over are not kept."""
    tx.note_read(SCHEMAS, "by_id", FULL_RANGE, privileged=True)
    for other in tx.catalog.schemas(component):
        if other.state in ("active", "overwritten", "failed"):
            tx.delete(other.id, privileged=True)
