"""FileStorage: stored files as the rest of the backend uses them: their bytes, their records, leave to upload.

Bytes are written before the record that names them, so there is always a moment when they have no record. During it a
`Reservation` holds their key. When it is released, after the commit or whatever came instead of it, the collector looks
whether a record names the key, and deletes the bytes if none does. So a mutation that throws, conflicts or is started
again leaves nothing behind, and neither does an upload that is cut off.

Rule: `release` only when the outcome of the commit is known. A killed process releases nothing; its leftovers are found
by the collector's sweep.

Source: reference/runtime-and-database.md §8; values-and-sync.md §5.1.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from cvx.backend.auth import SYSTEM, UploadTokens
from cvx.backend.config import Limits
from cvx.backend.database import ROOT, Database, Transaction
from cvx.backend.files import FileStore, OpenFile, new_key
from cvx.backend.functions.file_collector import FileCollector
from cvx.backend.model import file_records
from cvx.backend.model.file_records import FileRecord, KeptBytes
from cvx.errors import CvxError


class Reservation:
    """Keys of bytes that may not have a record yet."""

    def __init__(self, collector: FileCollector) -> None:
        self._collector = collector
        self._keys: list[str] = []

    def new_key(self) -> str:
        key = new_key()
        self._collector.reserve(key)
        self._keys.append(key)
        return key

    def release(self) -> None:
        """Leave the bytes to their records, if they have any. May be called twice."""
        keys, self._keys = self._keys, []
        self._collector.settle(keys)


@dataclass(slots=True)
class FileUse:
    """What one run of a mutation did with files. `again`: for the run that takes its place."""

    reservation: Reservation
    written: int = 0
    written_bytes: int = 0
    read: int = 0
    read_bytes: int = 0

    def again(self) -> FileUse:
        return FileUse(self.reservation)


@dataclass(slots=True)
class _Counter:
    count: int = 0


@dataclass
class FileStorage:
    """Made by backend.py. `start` before use; `close` at the end, before the database's."""

    db: Database
    store: FileStore
    tokens: UploadTokens
    limits: Limits
    _uploads: _Counter = field(default_factory=_Counter)
    _downloads: _Counter = field(default_factory=_Counter)

    def __post_init__(self) -> None:
        self.collector = FileCollector(self.db, self.store, self.limits)

    def start(self) -> None:
        self.collector.start()

    async def close(self) -> None:
        await self.collector.close()
        await self.store.close()

    # ------------------------------------------------------------------------------------------------- URLs

    def upload_url(self, origin: str, component: str, now_ms: float) -> str:
        """Where a client may POST one file, from `now_ms` (since 1970) on for a while. `origin` has no slash at its end."""
        return f"{origin}/api/storage/upload?token={self.tokens.issue(component, now_ms)}"

    def check_upload_token(self, token: str) -> str:
        """The component that an upload is for. Raises CvxError "StorageTokenInvalid" and "StorageTokenExpired"."""
        return self.tokens.check(token, self.db.clock.now_ns() / 1e6)

    # ---------------------------------------------------------------------------------------------- storing

    @contextmanager
    def reserving(self) -> Iterator[Reservation]:
        """For storing bytes whose records follow in another transaction, inside."""
        reservation = Reservation(self.collector)
        try:
            yield reservation
        finally:
            reservation.release()

    def use(self) -> FileUse:
        """For one mutation; its maker releases the reservation when the commit is done or will not be."""
        return FileUse(Reservation(self.collector))

    async def put(
        self, chunks: AsyncIterator[bytes], reservation: Reservation, *, sha256: bytes | None = None
    ) -> KeptBytes:
        """Keep bytes under a new key, on disk when this returns. Raises as `FileStore.put` does."""
        key = reservation.new_key()
        digest = await self.store.put(key, chunks, bytes_max=self.limits.stored_file_bytes_max, sha256=sha256)
        return KeptBytes(key, digest.size, digest.sha256)

    async def save(
        self,
        chunks: AsyncIterator[bytes],
        content_type: str | None,
        *,
        sha256: bytes | None = None,
        component: str = ROOT,
    ) -> str:
        """Store one file in a transaction of its own; its id, once it is on disk.

        Raises CvxError: FileTooLarge, Sha256Mismatch, BadContentType, FileStorageFailed, TooManyConcurrentRequests.
        """
        content_type = checked_type(content_type, self.limits)
        with (
            _one_of(self._uploads, self.limits.uploads_at_once_max, "uploads"),
            self.reserving() as reservation,
        ):
            kept = await self.put(chunks, reservation, sha256=sha256)

            def record(tx: Transaction) -> str:
                return file_records.add(tx, kept, content_type, component=component)

            id, _ = await self.db.run(SYSTEM, record, write_source="file storage", component=component)
            return id

    # ---------------------------------------------------------------------------------------------- reading

    async def record_of(self, file: str, api: str, *, component: str = ROOT) -> FileRecord | None:
        """The file that user code names now, once that is on disk."""

        def find(tx: Transaction) -> FileRecord | None:
            return file_records.find(tx, file, api, component=component)

        return await self._read(find)

    async def record_at_url(self, storage_id: str, *, component: str = ROOT) -> FileRecord | None:
        """The file that a URL names now, once that is on disk."""

        def find(tx: Transaction) -> FileRecord | None:
            return file_records.by_storage_id(tx, storage_id, component=component)

        return await self._read(find)

    async def _read(self, find: Callable[[Transaction], FileRecord | None]) -> FileRecord | None:
        with self.db.snapshot() as snapshot:
            found = find(self.db.begin(SYSTEM, snapshot=snapshot, read_only=True))
            await self.db.durable(snapshot.ts)
        return found

    async def open(self, record: FileRecord, start: int = 0, end: int | None = None) -> OpenFile:
        """Its bytes. Raises CvxError "FileNotFound" when it was deleted a while ago."""
        return await self.store.open(record.key, start, end)

    def downloading(self) -> AbstractContextManager[None]:
        """Around sending a file to somebody. Raises CvxError "TooManyConcurrentRequests"."""
        return _one_of(self._downloads, self.limits.downloads_at_once_max, "downloads")

    def holding(self) -> AbstractContextManager[None]:
        """Inside, no bytes are deleted: for whoever reads files of a snapshot that may be older than a minute."""
        return self.collector.holding()


def checked_type(content_type: str | None, limits: Limits) -> str | None:
    """A content type as it may stand in a header; None for none. Raises CvxError "BadContentType"."""
    if not content_type:
        return None
    printable = content_type.isascii() and content_type.isprintable()
    if not printable or len(content_type) > limits.stored_file_type_chars_max:
        raise CvxError(
            "BadContentType",
            f"The content type {content_type[:64]!r} is not printable ASCII text "
            f"of at most {limits.stored_file_type_chars_max} characters.",
            hint="Use a type such as image/png.",
        )
    return content_type


@contextmanager
def _one_of(counter: _Counter, most: int, what: str) -> Iterator[None]:
    if counter.count >= most:
        raise CvxError(
            "TooManyConcurrentRequests",
            f"There are {most} {what} under way, which is the maximum.",
            kind="overloaded",
            hint="Try again in a moment.",
            retry_when="time",
        )
    counter.count += 1
    try:
        yield
    finally:
        counter.count -= 1
