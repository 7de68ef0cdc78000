"""Stored files: which there are, what is known of each, and under which key its bytes are.

A file is two documents. The one in `_storage` is what everybody may see (`sha256`, `size`, `contentType`); the one in
`_stored_files` is ours: the component, the key of the bytes in the FileStore, and the `storageId`, a random UUID which is
the way to the bytes for whoever knows it (`/api/storage/<storageId>`), and therefore never in a document that user code
reads. Removing a file writes its key into `_doomed_files`; the bytes go later (functions/file_collector).

Rule: bytes first. A record is added in a transaction that begins after `FileStore.put` has returned, under a key that
nobody used before, while a `Reservation` keeps the collector from it (functions/file_storage).

For export, at one snapshot:
    with files.holding():                                   # FileStorage: no bytes are deleted inside
        records, cursor = file_records.page(tx, cursor, 500)   # until the cursor is None
        file = await files.open(records[0])                 # an OpenFile: `size`, `chunks()`, `close()`
For import, with what was exported:
    with files.reserving() as reservation:                  # released when the commit is done, or was given up
        kept = await files.put(chunks, reservation, sha256=expected_or_None)
        await db.run(SYSTEM, lambda tx: file_records.restore(tx, kept, id=…, creation_time=…, content_type=…))
`restore` raises DuplicateId for an id in use; `remove` in the same transaction makes room for it.

Source: reference/runtime-and-database.md §8; values-and-sync.md §2.5, §5.1; cli-and-deploy.md §5.3 (storage rows).
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cvx.backend.database import ROOT, Transaction
from cvx.errors import CvxError
from cvx.values import DocumentId, decode

FILES = "_storage"
FILES_NUMBER = 540
STORED = "_stored_files"
DOOMED = "_doomed_files"
_BY_FILE = "by_file"
_BY_STORAGE_ID = "by_storage_id"
_BY_KEY = "by_key"


@dataclass(frozen=True, slots=True)
class KeptBytes:
    """Bytes that are in the FileStore, and what was measured on the way. `sha256` is 32 bytes."""

    key: str
    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One stored file. `id` is its public id, `storage_id` the secret UUID of its URL."""

    id: str
    creation_time: float
    storage_id: str
    key: str
    size: int
    sha256: bytes
    content_type: str | None
    component: str

    @property
    def sha256_base64(self) -> str:
        return base64.b64encode(self.sha256).decode()


def add(tx: Transaction, kept: KeptBytes, content_type: str | None, *, component: str = ROOT) -> str:
    """A new file of these bytes; its id."""
    id = str(tx.insert(FILES, _public_fields(kept, content_type), component=component, privileged=True))
    _add_private(tx, id, kept.key, None, component)
    return id


def restore(
    tx: Transaction,
    kept: KeptBytes,
    *,
    id: str,
    creation_time: float,
    content_type: str | None,
    storage_id: str | None = None,
    component: str = ROOT,
) -> None:
    """A file that was exported: with its id, and with its old `storageId` if that is known and free.

    Raises CvxError as `Transaction.restore` does.
    """
    document = {**_public_fields(kept, content_type), "_id": id, "_creationTime": creation_time}
    tx.restore(FILES, document, component=component, privileged=True)
    if storage_id is not None and tx.first(STORED, _BY_STORAGE_ID, [storage_id], privileged=True) is not None:
        storage_id = None
    _add_private(tx, id, kept.key, storage_id, component)


def find(tx: Transaction, file: str, api: str, *, component: str = ROOT) -> FileRecord | None:
    """The file that user code names by its id or by its storage id.

    Raises CvxError "InvalidArgument" for what is neither; `api` is the function that was called with it.
    """
    id = DocumentId.try_parse(file)
    if id is not None:
        if id.table != FILES_NUMBER:
            table = tx.table_name_of(id, component=component)
            found = "" if table is None else f' (expected an Id<"_storage">, got an Id<"{table}">)'
            raise _invalid_id(file, api, found)
        row = tx.first(STORED, _BY_FILE, [component, file], privileged=True)
    else:
        storage_id = parse_storage_id(file)
        if storage_id is None:
            raise _invalid_id(file, api, "")
        row = tx.first(STORED, _BY_STORAGE_ID, [storage_id], privileged=True)
    return None if row is None or row["component"] != component else _record(tx, row)


def by_storage_id(tx: Transaction, storage_id: str, *, component: str = ROOT) -> FileRecord | None:
    """The file that a URL names."""
    row = tx.first(STORED, _BY_STORAGE_ID, [storage_id], privileged=True)
    return None if row is None or row["component"] != component else _record(tx, row)


def remove(tx: Transaction, record: FileRecord) -> None:
    """Delete a file. Its bytes are deleted some time after the commit."""
    row = tx.first(STORED, _BY_FILE, [record.component, record.id], privileged=True)
    assert row is not None, "a record is of the transaction that removes it"
    tx.delete(record.id, component=record.component, privileged=True)
    tx.delete(row["_id"], privileged=True)
    tx.insert(DOOMED, {"key": record.key}, privileged=True)


def page(
    tx: Transaction, cursor: str | None, limit: int, *, component: str = ROOT
) -> tuple[list[FileRecord], str | None]:
    """The next files in the order of their creation, and where to go on (None: that was all)."""
    query = {"source": {"type": "FullTableScan", "tableName": FILES, "order": "asc"}, "operators": []}
    found = tx.paginate(query, cursor, None, limit, component=component, privileged=True)
    records = []
    for raw in found.documents:
        document = decode(raw)
        assert isinstance(document, dict)
        row = tx.first(STORED, _BY_FILE, [component, document["_id"]], privileged=True)
        if row is not None:
            records.append(_record_of(row, document))
    return records, None if found.is_done else found.continue_cursor


def parse_storage_id(text: str) -> str | None:
    """A UUID in its usual spelling, or None."""
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        return None
    return str(parsed) if len(text) == 36 else None


# ------------------------------------------------------------------------------------------ for the collector


def is_named(tx: Transaction, key: str) -> bool:
    """Whether a file has its bytes under this key."""
    return tx.first(STORED, _BY_KEY, [key], privileged=True) is not None


def is_doomed(tx: Transaction, key: str) -> bool:
    """Whether a file that had its bytes under this key was deleted, and the bytes were not yet."""
    return tx.first(DOOMED, _BY_KEY, [key], privileged=True) is not None


def doomed(tx: Transaction, before_ms: float, limit: int) -> list[tuple[str, str]]:
    """(row id, key) of bytes whose files were deleted before that moment (ms since 1970), the oldest first."""
    query = {
        "source": {
            "type": "IndexRange",
            "indexName": f"{DOOMED}.by_creation_time",
            "order": "asc",
            "range": [{"type": "Lt", "fieldPath": "_creationTime", "value": before_ms}],
        },
        "operators": [{"limit": limit}],
    }
    return [(row["_id"], row["key"]) for row in tx.collect(query, privileged=True)]


def forget_doomed(tx: Transaction, row_ids: Sequence[str]) -> None:
    """The bytes of these are gone."""
    for id in row_ids:
        tx.delete(id, privileged=True)


# ------------------------------------------------------------------------------------------------------ inside


def _public_fields(kept: KeptBytes, content_type: str | None) -> dict[str, Any]:
    return {
        "sha256": base64.b64encode(kept.sha256).decode(),
        "size": float(kept.size),
        "contentType": content_type,
    }


def _add_private(tx: Transaction, id: str, key: str, storage_id: str | None, component: str) -> None:
    fields = {
        "component": component,
        "fileId": id,
        "storageId": storage_id or str(uuid.uuid4()),
        "key": key,
    }
    tx.insert(STORED, fields, privileged=True)


def _record(tx: Transaction, row: dict[str, Any]) -> FileRecord:
    document = tx.get_value(row["fileId"], component=row["component"], privileged=True)
    assert document is not None, "both documents of a file come and go together"
    return _record_of(row, document)


def _record_of(row: dict[str, Any], document: dict[str, Any]) -> FileRecord:
    return FileRecord(
        id=document["_id"],
        creation_time=document["_creationTime"],
        storage_id=row["storageId"],
        key=row["key"],
        size=int(document["size"]),
        sha256=base64.b64decode(document["sha256"]),
        content_type=document["contentType"],
        component=row["component"],
    )


def _invalid_id(file: str, api: str, why: str) -> CvxError:
    return CvxError(
        "InvalidArgument",
        f'Invalid argument `storageId` for `{api}`: Invalid storage ID: "{file[:64]}"{why}.',
        hint='Pass an Id<"_storage">: what the upload answered, or storage.store() returned.',
    )
