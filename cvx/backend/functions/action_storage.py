"""`ctx.storage.store` and `get` in actions: blobs that stream between a running action and the FileStore.

The host of an action (functions/action_syscalls) hands its `store_blob` and `get_blob` on to the two functions here, and the
syscalls of `storage_syscalls.ACTION_SYSCALLS` to `storage_syscalls.in_action`.

Source: reference/runtime-and-database.md §1.5, §8.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from cvx.backend.functions.calls import Services
from cvx.backend.functions.file_storage import FileStorage
from cvx.backend.functions.storage_syscalls import parse_sha256
from cvx.backend.functions.syscalls import syscall_failure
from cvx.backend.model import FileRecord
from cvx.backend.runner import SyscallFailure
from cvx.errors import CvxError


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A `StoredBlob` of the runner: opened when it is read, closed when that ends."""

    files: FileStorage
    record: FileRecord

    @property
    def size(self) -> int:
        return self.record.size

    @property
    def content_type(self) -> str | None:
        return self.record.content_type

    async def chunks(self) -> AsyncIterator[bytes]:
        file = await self.files.open(self.record)
        try:
            async for chunk in file.chunks():
                yield chunk
        finally:
            await file.close()


async def store_blob(
    services: Services,
    chunks: AsyncIterator[bytes],
    content_type: str | None,
    sha256: str | None,
    component: str,
) -> str | SyscallFailure:
    """Store a file in a transaction of its own; its id. Raises CvxError for trouble that code must not see."""
    try:
        digest = parse_sha256(sha256)
        return await services.files.save(chunks, content_type, sha256=digest, component=component)
    except CvxError as error:
        return syscall_failure(error)


async def get_blob(services: Services, storage_id: str, component: str) -> StoredFile | SyscallFailure | None:
    """The file as it is now; None when there is none."""
    try:
        record = await services.files.record_of(storage_id, "storage.get", component=component)
    except CvxError as error:
        return syscall_failure(error)
    return None if record is None else StoredFile(services.files, record)
