"""Where documents live: the current state for reading, and a log for history. SQLite; no policy."""

from cvx.backend.store.bulk import (
    BulkDocument,
    BulkEntry,
    BulkFile,
    read_documents,
    read_entries,
    write_bulk,
)
from cvx.backend.store.interface import (
    CommitRecord,
    EntryChange,
    FatalCallback,
    LogEntry,
    Revision,
    Row,
    Store,
    StoredDocument,
    StoreView,
)
from cvx.backend.store.open import open_store

__all__ = [
    "BulkDocument",
    "BulkEntry",
    "BulkFile",
    "CommitRecord",
    "EntryChange",
    "FatalCallback",
    "LogEntry",
    "Revision",
    "Row",
    "Store",
    "StoreView",
    "StoredDocument",
    "open_store",
    "read_documents",
    "read_entries",
    "write_bulk",
]
