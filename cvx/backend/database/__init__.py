"""MVCC: snapshots, optimistic transactions, one committer, subscriptions."""

from cvx.backend.database import definitions, staging
from cvx.backend.database.bootstrap import catalog_of, define_component_tables
from cvx.backend.database.catalog import (
    INDEXES,
    PUBLIC_SYSTEM_TABLES,
    ROOT,
    SCHEMAS,
    TABLES,
    Catalog,
    SchemaInfo,
    SystemTable,
    TableInfo,
)
from cvx.backend.database.contention import ConflictKey, Turn
from cvx.backend.database.database import Database
from cvx.backend.database.indexes import IndexInfo, IndexState, key_of
from cvx.backend.database.pagination import Page
from cvx.backend.database.query import QueryStream
from cvx.backend.database.read_set import CommitChanges, ReadSet
from cvx.backend.database.snapshot import Snapshot
from cvx.backend.database.subscriptions import Subscription
from cvx.backend.database.transaction import Transaction
from cvx.backend.database.usage import Usage
from cvx.backend.database.write_set import Savepoint

__all__ = [
    "INDEXES",
    "PUBLIC_SYSTEM_TABLES",
    "ROOT",
    "SCHEMAS",
    "TABLES",
    "Catalog",
    "CommitChanges",
    "ConflictKey",
    "Database",
    "IndexInfo",
    "IndexState",
    "Page",
    "QueryStream",
    "ReadSet",
    "Savepoint",
    "SchemaInfo",
    "Snapshot",
    "Subscription",
    "SystemTable",
    "TableInfo",
    "Transaction",
    "Turn",
    "Usage",
    "catalog_of",
    "define_component_tables",
    "definitions",
    "key_of",
    "staging",
]
