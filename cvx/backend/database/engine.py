"""What all transactions of one database share; and the one change of the catalog that any insert can make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cvx.backend.config import Limits
from cvx.backend.database.catalog import BY_TABLE_NUMBER, TABLES, TableInfo
from cvx.backend.database.cursors import CursorCodec
from cvx.errors import CvxError
from cvx.values import TableNumber, check_table_name, encode_key, prefix_range

if TYPE_CHECKING:
    from cvx.backend.database.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Engine:
    """Limits, the cursor key, and numbers for new tables and indexes in the store (never used twice)."""

    limits: Limits
    cursors: CursorCodec
    new_store_ids: Callable[[int], int]
    """The first of so many fresh, consecutive numbers."""


def create_table(tx: Transaction, name: str, component: str, *, numbered: TableNumber | None) -> TableInfo:
    """Create a table inside the transaction. `numbered`: a system table's fixed number.

    Raises CvxError: InvalidTableName, TooManyTables.
    """
    if numbered is None:
        check_table_name(name)
        limit = tx.engine.limits.tables_max
        if sum(not table.is_system for table in tx.catalog.tables(component)) >= limit:
            raise CvxError("TooManyTables", f"There are {limit} tables already, which is the maximum.")
        # Two transactions that pick the same next number must conflict.
        tx.reads.add(BY_TABLE_NUMBER.index_id, prefix_range(encode_key([component])))
        numbered = tx.catalog.next_number(component)
    store_id = tx.engine.new_store_ids(2)
    tx.insert(
        TABLES,
        {
            "component": component,
            "name": name,
            "number": float(numbered),
            "state": "active",
            "storeId": float(store_id),
            "creationIndexId": float(store_id + 1),
        },
        privileged=True,
    )
    table = tx.catalog.table(component, name)
    assert table is not None
    return table
