"""Stored files of an imported ZIP: from the folder where they were unpacked into file storage.

Bytes first: every file is kept under a new key, held by a reservation; the records follow in the same transaction that
shows the imported tables. Only when there are more of them than one transaction may write do the records come in
several, before it; old files then go in several, after it.

Source: reference/cli-and-deploy.md §5.3 (storage rows); model/file_records.py.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import msgspec

from cvx.backend.auth import SYSTEM
from cvx.backend.bulk import UNPACKED_FILES, UnpackedFile
from cvx.backend.config import Limits
from cvx.backend.database import Database, Transaction
from cvx.backend.files import pieces_of
from cvx.backend.functions import FileStorage, Reservation
from cvx.backend.model import file_records
from cvx.backend.model.file_records import KeptBytes
from cvx.errors import CvxError
from cvx.protocol.transfers import ImportMode

_YIELD_FILES = 20
_PAGE_FILES = 500


@dataclass(frozen=True, slots=True)
class _Arrived:
    """A file whose bytes are kept."""

    kept: KeptBytes
    file: UnpackedFile


class FileImport:
    """`keep` the bytes, then `record` them; all inside one `FileStorage.reserving()`."""

    def __init__(
        self, db: Database, files: FileStorage, folder: Path, mode: ImportMode, limits: Limits
    ) -> None:
        self._db = db
        self._files = files
        self._folder = folder
        self._mode = mode
        self._step = limits.import_files_per_commit
        self._arrived: list[_Arrived] = []
        self._new: set[tuple[str, str]] = set()

    async def keep(self, reservation: Reservation) -> None:
        """Keep the bytes of every file. Raises CvxError: FileTooLarge, FileStorageFailed."""
        listing = self._folder / UNPACKED_FILES
        if not await asyncio.to_thread(listing.exists):
            return
        raw = await asyncio.to_thread(listing.read_bytes)
        for line in raw.splitlines():
            file = msgspec.json.decode(line, type=UnpackedFile)
            kept = await self._files.put(pieces_of(self._folder / file.path), reservation)
            self._arrived.append(_Arrived(kept, file))
            self._new.add((file.component, file.id))

    async def record_most(self) -> None:
        """What does not fit into the last transaction."""
        while len(self._arrived) > self._step:
            some, self._arrived = self._arrived[: self._step], self._arrived[self._step :]

            async def record(tx: Transaction, some: list[_Arrived] = some) -> None:
                await self._record(tx, some)

            await self._db.run(SYSTEM, record, write_source="import")

    async def record(self, tx: Transaction) -> None:
        """The rest; and, when files are replaced, the end of the old ones (as many as fit)."""
        if self._replaces:
            await self._remove_old(tx)
        await self._record(tx, self._arrived)

    async def remove_rest(self) -> None:
        """Old files that did not fit into the last transaction."""
        while self._replaces and self._new:
            more, _ = await self._db.run(SYSTEM, self._remove_old, write_source="import")
            if not more:
                return

    @property
    def _replaces(self) -> bool:
        return self._mode in ("replace", "replaceAll")

    async def _remove_old(self, tx: Transaction) -> bool:
        """Remove files that are not of this import, up to a number; whether there may be more."""
        removed = 0
        for component in sorted({component for component, _ in self._new}):
            cursor: str | None = None
            while True:
                records, cursor = file_records.page(tx, cursor, _PAGE_FILES, component=component)
                for at, record in enumerate(records):
                    if at % _YIELD_FILES == 0:
                        await asyncio.sleep(0)
                    if (component, record.id) not in self._new:
                        file_records.remove(tx, record)
                        removed += 1
                if removed >= self._step:
                    return True
                if cursor is None:
                    break
        return False

    async def _record(self, tx: Transaction, some: list[_Arrived]) -> None:
        for at, arrived in enumerate(some):
            if at % _YIELD_FILES == 0:
                await asyncio.sleep(0)
            file = arrived.file
            present = file_records.find(tx, file.id, "import", component=file.component)
            if present is not None and self._replaces:
                file_records.remove(tx, present)
            elif present is not None:
                if present.sha256 == arrived.kept.sha256 and self._mode == "append":
                    continue  # The same file: appending it again changes nothing.
                raise CvxError(
                    "DuplicateId", f"There is a stored file with the _id {file.id} already.", retry_when="data",
                    hint="Replace the stored files (--replace).",
                )  # fmt: skip
            file_records.restore(
                tx, arrived.kept, id=file.id, creation_time=file.creation_time, content_type=file.content_type,
                storage_id=file.storage_id, component=file.component,
            )  # fmt: skip
