"""First boot: the system tables it is handed as data. Every boot: the Catalog, read from the store.

Source: design.md §4 (database/bootstrap); values-and-sync.md §2.2.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from cvx.backend.database.catalog import (
    BASIC_TABLES,
    FIRST_FREE_STORE_ID,
    INDEXES,
    PUBLIC_SYSTEM_TABLES,
    ROOT,
    Catalog,
    SystemTable,
    TableInfo,
    basic_catalog,
)
from cvx.backend.database.definitions import add_index, drop_index
from cvx.backend.database.engine import create_table
from cvx.backend.database.transaction import Transaction
from cvx.backend.store import Store, StoreView
from cvx.protocol.schema import DatabaseIndex
from cvx.values import FULL_RANGE, DocumentId, decode

_NEXT_STORE_ID = "next_store_id"
_CURSOR_KEY = "cursor_key"
_STORE_IDS_AT_ONCE = 1_000
_EVERYTHING = 1 << 40


def load_catalog(store: Store) -> Catalog:
    """The Catalog of the store's latest state."""
    view = store.view()
    try:
        return catalog_of(view)
    finally:
        view.close()


def catalog_of(view: StoreView) -> Catalog:
    """The Catalog that belongs to a view."""
    changes = []
    for table in BASIC_TABLES:
        for row in view.scan_table(table.table_id, FULL_RANGE, descending=False, limit=_EVERYTHING):
            document = decode(row.document)
            assert isinstance(document, dict)
            changes.append((table.table_id, row.internal, document))
    return basic_catalog().applied(changes)


def cursor_key(store: Store) -> bytes:
    """The key under which cursors are written; made once."""
    key = store.get_global(_CURSOR_KEY)
    if key is None:
        key = os.urandom(32)
        store.set_global(_CURSOR_KEY, key)
    return key


def store_id_source(store: Store) -> Callable[[int], int]:
    """A function that gives out consecutive store ids. They are set aside in blocks before they are used, so
    that none is ever used twice."""
    raw = store.get_global(_NEXT_STORE_ID)
    next_id = set_aside = FIRST_FREE_STORE_ID if raw is None else int(raw)

    def take(count: int) -> int:
        nonlocal next_id, set_aside
        if next_id + count > set_aside:
            set_aside = next_id + count + _STORE_IDS_AT_ONCE
            store.set_global(_NEXT_STORE_ID, str(set_aside).encode())
        first, next_id = next_id, next_id + count
        return first

    return take


def define_system_tables(tx: Transaction, tables: Sequence[SystemTable], *, component: str = ROOT) -> None:
    """Create what is missing of the system tables and their indexes; drop indexes they no longer have."""
    for wanted in tables:
        info = tx.table(wanted.name, component=component)
        is_new = info is None
        if info is None:
            info = create_table(tx, wanted.name, component, numbered=wanted.number)
        assert info.number == wanted.number, f"{wanted.name} keeps its number"
        have = {index.name: index for index in info.indexes}
        for name, fields in wanted.indexes.items():
            old = have.pop(name, None)
            if old is not None and old.definition == DatabaseIndex(name, fields):
                continue
            if old is not None and old.row is not None:
                drop_index(tx, DocumentId(_INDEXES_NUMBER, old.row))
                info = _again(tx, wanted.name, component)
            add_index(tx, info, DatabaseIndex(name, fields), state="enabled" if is_new else "backfilling")
            info = _again(tx, wanted.name, component)
        for old in have.values():
            if old.row is not None:
                drop_index(tx, DocumentId(_INDEXES_NUMBER, old.row))


_INDEXES_NUMBER = next(table.number for table in BASIC_TABLES if table.name == INDEXES)


def define_component_tables(tx: Transaction, tables: Sequence[SystemTable], component: str) -> None:
    """Create the system tables that each component has for itself: those user code may read."""
    own = [table for table in tables if table.name in PUBLIC_SYSTEM_TABLES]
    define_system_tables(tx, own, component=component)


def _again(tx: Transaction, name: str, component: str) -> TableInfo:
    info = tx.table(name, component=component)
    assert info is not None
    return info


def orphans(store: Store, catalog: Catalog) -> tuple[list[int], list[int]]:
    """(tables, indexes) that have rows in the store and no place in the Catalog: drops that were cut off."""
    known = catalog.store_ids
    return [i for i in store.table_ids() if i not in known], [i for i in store.index_ids() if i not in known]


def system_indexes_backfilling(catalog: Catalog) -> Iterable[tuple[TableInfo, DocumentId]]:
    """Indexes of system tables that an upgrade added and that are not filled yet, with the ids of their rows."""
    for table in catalog.tables():
        if table.is_system:
            for index in table.indexes:
                if index.row is not None and index.state != "enabled":
                    yield table, DocumentId(_INDEXES_NUMBER, index.row)
