"""Hidden tables: filled out of sight, then put in a table's place at one stroke. Functions over a Transaction.

A hidden table has a row in `_tables`, indexes of its own and rows in the store, but no name and no number that
anybody could use; it may bear the number of the table it will replace. Its rows come by `Database.load`, which
keeps no order with commits, because nobody can see them. `show_tables` is the one transaction that changes what
everybody sees, however many rows there are.

Source: design.md §5.3; reference/cli-and-deploy.md §5.3 (semantics of imports).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import replace

from cvx.backend.database.catalog import (
    BY_INDEXED_TABLE,
    INDEXES_TABLE,
    ROOT,
    TABLES,
    TABLES_TABLE,
    TableInfo,
)
from cvx.backend.database.definitions import active_schema, add_index, retire_table
from cvx.backend.database.indexes import IndexInfo
from cvx.backend.database.schema import fail_schema_for
from cvx.backend.database.transaction import Transaction
from cvx.errors import CvxError
from cvx.values import FIRST_USER_TABLE_NUMBER, DocumentId, TableNumber, check_table_name


def hide_table(tx: Transaction, name: str, *, number: TableNumber | None, component: str = ROOT) -> TableInfo:
    """Create a hidden table to become the table `name`, with the indexes that one has now.

    `number`: what its documents' ids say (see `check_number`); None takes the present table's, or a new one. Raises
    CvxError "InvalidTableName".
    """
    check_table_name(name)
    like = tx.table(name, component=component)
    if number is None:
        number = tx.catalog.next_number(component) if like is None else like.number
    store_id = tx.engine.new_store_ids(2)
    id = tx.insert(
        TABLES,
        {
            "component": component,
            "name": name,
            "number": float(number),
            "state": "hidden",
            "storeId": float(store_id),
            "creationIndexId": float(store_id + 1),
        },
        privileged=True,
    )
    for index in () if like is None else like.indexes:
        assert index.definition is not None
        state = "backfilled" if index.state == "backfilling" else index.state
        add_index(tx, hidden_table(tx, id.internal), index.definition, state=state)
    return hidden_table(tx, id.internal)


def hidden_table(tx: Transaction, row: bytes) -> TableInfo:
    """The hidden table of this row in `_tables`. Raises CvxError "NoHiddenTable" when it is gone."""
    info = tx.catalog.table_of_row(row)
    if info is None or info.state != "hidden":
        raise CvxError("NoHiddenTable", "The table that was being filled is gone.", kind="internal")
    return info


def show_tables(tx: Transaction, rows: Sequence[bytes]) -> None:
    """Put hidden tables in the places of the tables of their names; those ones' rows go away in the background.

    Raises CvxError "ImportSchemaChanged" when a table's indexes are not those that the hidden one was filled for, and
    "TableNumberConflict".
    """
    tables = [hidden_table(tx, row) for row in rows]
    for new in tables:  # All go before any comes: they may have exchanged their numbers.
        old = tx.table(new.name, component=new.component)
        if old is not None:
            tx.reads.add(BY_INDEXED_TABLE.index_id, old.indexes_range)
            _take_over_indexes(tx, old, new)
            retire_table(tx, old)
        elif new.indexes:
            raise _changed(new.name)
    for new in tables:
        check_number(tx, new.name, new.number, new.component)
        for info in tx.catalog.checked_schemas(new.component):
            # Its check looks at what could be seen when it began; this table could not.
            if info.state != "active" and info.table(new.name) is not None:
                why = "the table was replaced by an import during the push; push again"
                fail_schema_for(tx, info, new.name, why)
        assert new.row is not None
        tx.patch(DocumentId(TABLES_TABLE.number, new.row), {"state": "active"}, privileged=True)


def discard_table(tx: Transaction, row: bytes) -> None:
    """Make a hidden table go away; nothing happens when it is not there or not hidden any more."""
    info = tx.catalog.table_of_row(row)
    if info is not None and info.state == "hidden":
        retire_table(tx, info)


def check_references(
    tx: Transaction, changed: Iterable[str], imported: Iterable[str], component: str
) -> None:
    """Refuse a change of which number the names in `changed` stand for (or that they vanish), when documents of a
    table outside `imported` hold ids of them. Raises CvxError "ImportForeignKey"."""
    schema = active_schema(tx, component=component)
    changed, imported = set(changed), set(imported)
    if schema is None or not schema.schema.validation or not changed:
        return
    for name, table in sorted(schema.schema.tables.items()):
        dangling = sorted(changed & table.validator.referenced_tables())
        if dangling and name not in imported and tx.count(name, component=component) > 0:
            raise CvxError(
                "ImportForeignKey",
                f'Documents of table "{name}" refer to documents of "{dangling[0]}" by id, and those would be gone.',
                hint=f'Import "{name}" together with "{dangling[0]}".',
                retry_when="data",
            )


def check_number(
    tx: Transaction, name: str, number: TableNumber, component: str, leaving: Container[str] = ()
) -> None:
    """Refuse a number of another table, except of those that are `leaving`. Raises CvxError "TableNumberConflict"."""
    holder = tx.catalog.table_by_number(component, number)
    if holder is not None:
        tx.reads.add_point(TABLES_TABLE.table_id, holder.row or b"")
        if holder.name == name or holder.name in leaving:
            return
    if number < FIRST_USER_TABLE_NUMBER or holder is not None:
        used = "is for system tables" if holder is None else f'belongs to table "{holder.name}"'
        raise CvxError(
            "TableNumberConflict",
            f'The ids of table "{name}" carry the table number {number}, which {used} here.',
            hint="Import it together with that table, or leave the field _id out.",
            retry_when="data",
        )


def _take_over_indexes(tx: Transaction, old: TableInfo, new: TableInfo) -> None:
    """Give the new table's indexes the states of the old one's, which must be the same indexes."""
    mine = list(new.indexes)
    for index in old.indexes:
        twin = next((i for i in mine if i.name == index.name and _is_same(i, index)), None)
        if twin is None or twin.row is None:
            raise _changed(new.name)
        mine.remove(twin)
        state = "backfilled" if index.state == "backfilling" else index.state
        if (twin.state, twin.staged) != (state, index.staged):
            id = DocumentId(INDEXES_TABLE.number, twin.row)
            tx.patch(id, {"state": state, "staged": index.staged}, privileged=True)
    if mine:
        raise _changed(new.name)


def _is_same(a: IndexInfo, b: IndexInfo) -> bool:
    assert a.definition is not None and b.definition is not None
    return replace(a.definition, staged=False) == replace(b.definition, staged=False)


def _changed(name: str) -> CvxError:
    return CvxError(
        "ImportSchemaChanged",
        f'The indexes or the schema of table "{name}" changed while the import was running.',
        hint="Import again.",
        retry_when="time",
    )
