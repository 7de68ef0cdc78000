"""Stored files in a ZIP → files in the import's folder, and a list of them.

`_storage/documents.jsonl` says what is known of each; its bytes are the entry `_storage/<id>`, with or without an
extension. Rows without bytes (an export without file storage has only those) are left out.

Source: reference/cli-and-deploy.md §5.3, §5.4.
"""

from __future__ import annotations

import base64
import hashlib
import mimetypes
import zipfile
from pathlib import Path
from typing import Any

import msgspec

from cvx.backend.bulk.messages import UNPACKED_FILES, UnpackedFile
from cvx.backend.bulk.table_formats import ZipContents, problem, reading_entry
from cvx.errors import CvxError
from cvx.values import DocumentId

STORAGE_NUMBER = 540
_READ_BYTES = 1 << 20


def unpack_files(
    archive: zipfile.ZipFile, contents: ZipContents, folder: Path, created_ms: float
) -> dict[str, int]:
    """Unpack every stored file; how many, by component. Raises CvxError: InvalidId, Sha256Mismatch, InvalidZip."""
    count = 0
    with (folder / UNPACKED_FILES).open("wb") as listing:
        found = [(component, *item) for component, files in contents.files.items() for item in files.items()]
        rows = {component: _rows(archive, contents.storage.get(component)) for component in contents.files}
        for component, id, entry in sorted(found, key=lambda item: item[:2]):
            parsed = DocumentId.try_parse(id)
            if parsed is None or parsed.table != STORAGE_NUMBER:
                raise problem(
                    "InvalidId", f"{entry.filename[:200]} in the ZIP is not named after a stored file's id."
                )
            row = rows[component].get(id, {})
            path = f"file-{count:06}"
            digest = _unpack(archive, entry, folder / path)
            expected = row.get("sha256")
            if expected is not None and sha256_of(str(expected)) != digest:
                raise problem(
                    "Sha256Mismatch",
                    f"{entry.filename[:200]} in the ZIP is not what its sha256 says: it is damaged.",
                )
            listing.write(msgspec.json.encode(_unpacked(component, id, path, row, entry, created_ms)) + b"\n")
            count += 1
    return {component: len(files) for component, files in contents.files.items()}


def sha256_of(text: str) -> bytes | None:
    """The 32 bytes of a digest in base64 or hexadecimal digits."""
    try:
        found = bytes.fromhex(text) if len(text) == 64 else base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return found if len(found) == 32 else None


def _unpacked(
    component: str, id: str, path: str, row: dict[str, Any], entry: zipfile.ZipInfo, created_ms: float
) -> UnpackedFile:
    created = row.get("_creationTime")
    kind = row.get("contentType") if row else mimetypes.guess_type(entry.filename)[0]
    storage_id = row.get("internalId")
    return UnpackedFile(
        id,
        path,
        float(created) if isinstance(created, int | float) else created_ms,
        kind if isinstance(kind, str) else None,
        storage_id if isinstance(storage_id, str) else None,
        entry.file_size,
        component,
    )


def _rows(archive: zipfile.ZipFile, entry: zipfile.ZipInfo | None) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    if entry is None:
        return rows
    with reading_entry(archive, entry) as file:
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                row = msgspec.json.decode(text, type=dict[str, Any])
            except (msgspec.MsgspecError, UnicodeError) as error:
                raise problem("JsonInvalidRow", f"Line {line} is not a stored file: {error}.", line) from None
            rows[str(row.get("_id"))] = row
    return rows


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> bytes:
    digest = hashlib.sha256()
    try:
        with reading_entry(archive, entry) as source, path.open("wb") as target:
            while piece := source.read(_READ_BYTES):
                digest.update(piece)
                target.write(piece)
    except CvxError:
        path.unlink(missing_ok=True)
        raise
    return digest.digest()
