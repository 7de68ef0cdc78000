"""FolderFileStore: files in a folder of this machine.

    <folder>/incoming/<key>        being written; nobody sees it
    <folder>/<first 2 digits>/<key>    visible

A file is written and hashed in `incoming` by threads, a megabyte at a time, synced, and renamed into its place, which is
synced too. What a killed process left in `incoming` is removed at the next start; only one process has the folder (the
data folder's lock sees to that).

Rule: no thread touches a file of a task that has moved on: a cancelled task waits for its thread first.

Source: reference/runtime-and-database.md §8; fault-list.md (writes that are cut off).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, TypeVar

from cvx.backend.config import Limits
from cvx.backend.files.interface import (
    FileDigest,
    KeptFile,
    digest_mismatch,
    file_is_missing,
    file_too_large,
)
from cvx.errors import CvxError

T = TypeVar("T")

_INCOMING = "incoming"
_KEY = re.compile(r"[0-9a-f]{32}")
_PREFIX = re.compile(r"[0-9a-f]{2}")


def open_folder_store(folder: Path, limits: Limits) -> FolderFileStore:
    """The store in `folder`, which is made if need be. What an earlier process left half-written is removed."""
    with _as_cvx_error(folder):
        incoming = folder / _INCOMING
        incoming.mkdir(parents=True, exist_ok=True)
        for leftover in incoming.iterdir():
            leftover.unlink()
    return FolderFileStore(folder, limits)


class FolderFileStore:
    """Made by `open_folder_store`. A `FileStore`."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder = folder
        self._incoming = folder / _INCOMING
        self._threads = _Threads(folder, limits)
        self._write_bytes = limits.file_write_bytes
        self._read_bytes = limits.file_read_bytes

    async def put(
        self, key: str, chunks: AsyncIterator[bytes], *, bytes_max: int, sha256: bytes | None = None
    ) -> FileDigest:
        """See `FileStore.put`."""
        target = self._path(key)
        incoming = _Incoming(self._incoming / key, target)
        waiting: list[bytes] = []
        received = unwritten = 0
        try:
            async for chunk in chunks:
                received += len(chunk)
                if received > bytes_max:
                    raise file_too_large(bytes_max)
                waiting.append(chunk)
                unwritten += len(chunk)
                if unwritten >= self._write_bytes:
                    await self._threads.run(incoming.write, waiting)
                    waiting, unwritten = [], 0
            return await self._threads.run(incoming.finish, waiting, sha256)
        except BaseException:  # edge: whatever ended it, nothing of it stays; raised again.
            await self._threads.run(incoming.discard)
            raise

    async def open(self, key: str, start: int = 0, end: int | None = None) -> OpenFolderFile:
        """See `FileStore.open`."""

        def open_at() -> OpenFolderFile:
            try:
                file = self._path(key).open("rb", buffering=0)
            except FileNotFoundError:
                raise file_is_missing(key) from None
            size = os.fstat(file.fileno()).st_size
            file.seek(start)
            length = max(0, min(size, size if end is None else end) - start)
            return OpenFolderFile(file, self._threads, size, length, self._read_bytes)

        return await self._threads.run(open_at)

    async def size(self, key: str) -> int | None:
        """See `FileStore.size`."""

        def measure() -> int | None:
            try:
                return self._path(key).stat().st_size
            except FileNotFoundError:
                return None

        return await self._threads.run(measure)

    async def delete(self, key: str) -> None:
        """See `FileStore.delete`."""
        await self._threads.run(lambda: self._path(key).unlink(missing_ok=True))

    async def list(self, after: str, limit: int) -> list[KeptFile]:
        """See `FileStore.list`."""
        return await self._threads.run(_list, self._folder, after, limit)

    async def close(self) -> None:
        """Let the threads end, when what they do is done."""
        await self._threads.close()

    def _path(self, key: str) -> Path:
        assert _KEY.fullmatch(key), "keys come from new_key, never from outside"
        return self._folder / key[:2] / key


class OpenFolderFile:
    """Bytes of one file that is open. An `OpenFile`."""

    def __init__(self, file: BinaryIO, threads: _Threads, size: int, remaining: int, read_bytes: int) -> None:
        self._file = file
        self._threads = threads
        self._size = size
        self._remaining = remaining
        self._read_bytes = read_bytes

    @property
    def size(self) -> int:
        return self._size

    async def chunks(self) -> AsyncIterator[bytes]:
        while self._remaining:
            chunk = await self._threads.run(self._file.read, min(self._remaining, self._read_bytes))
            if not chunk:
                raise CvxError(
                    "FileDamaged",
                    f"A stored file ends {self._remaining} bytes early.",
                    kind="internal",
                    hint="Restore the data folder from a backup.",
                )
            self._remaining -= len(chunk)
            yield chunk

    async def close(self) -> None:
        self._file.close()


class _Incoming:
    """One file on its way in. Its methods run in threads, one at a time; made lazily, so that there may be none."""

    def __init__(self, path: Path, target: Path) -> None:
        self._path = path
        self._target = target
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, pieces: list[bytes]) -> None:
        if self._file is None:
            self._file = self._path.open("xb", buffering=0)
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._hash.update(data)
        self._size += len(data)
        view = memoryview(data)
        while view:  # A write may stop early, for instance at a signal.
            view = view[self._file.write(view) :]

    def finish(self, pieces: list[bytes], sha256: bytes | None) -> FileDigest:
        """Write the last of it, and make it visible once it is on disk."""
        self.write(pieces or [b""])
        digest = self._hash.digest()
        if sha256 is not None and sha256 != digest:
            raise digest_mismatch(sha256, digest)
        assert self._file is not None
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        try:
            self._path.replace(self._target)
        except FileNotFoundError:
            self._target.parent.mkdir(exist_ok=True)
            _sync_folder(self._target.parent.parent)
            self._path.replace(self._target)
        _sync_folder(self._target.parent)
        return FileDigest(self._size, digest)

    def discard(self) -> None:
        """Leave nothing, whether hidden or already visible."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._path.unlink(missing_ok=True)
        self._target.unlink(missing_ok=True)


def _list(folder: Path, after: str, limit: int) -> list[KeptFile]:
    found: list[KeptFile] = []
    prefixes = sorted(entry.name for entry in os.scandir(folder) if _PREFIX.fullmatch(entry.name))
    for prefix in prefixes:
        if prefix < after[:2] or len(found) >= limit:
            continue
        names = sorted(entry.name for entry in os.scandir(folder / prefix) if _KEY.fullmatch(entry.name))
        for name in names:
            if name <= after:
                continue
            if len(found) >= limit:
                break
            with contextlib.suppress(FileNotFoundError):  # Deleted meanwhile.
                status = (folder / prefix / name).stat()
                found.append(KeptFile(name, status.st_size, status.st_mtime))
    return found


class _Threads:
    """The threads that touch the folder: few, and nobody else's, since a slow disk holds them for long."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder = folder
        self._pool = ThreadPoolExecutor(limits.file_threads_max, thread_name_prefix="cvx-files")

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """Run `work` in a thread; a cancellation is passed on when the thread is through with it."""

        def guarded() -> T:
            with _as_cvx_error(self.folder):
                return work(*arguments)

        job = asyncio.get_running_loop().run_in_executor(self._pool, guarded)
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            while not job.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([job])
            if not job.cancelled():
                job.exception()  # Looked at, so that it is not reported as forgotten.
            raise

    async def close(self) -> None:
        await asyncio.to_thread(self._pool.shutdown)


@contextlib.contextmanager
def _as_cvx_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise CvxError(
            "FileStorageFailed",
            f"The folder of stored files, {folder}, failed: {error.strerror or error}.",
            kind="unavailable",
            hint="Free some space on its disk." if full else "Check its disk and its permissions.",
            retry_when="env",
        ) from error


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    if sys.platform == "win32":
        return  # Directories cannot be opened there; the file system journals names by itself.
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
