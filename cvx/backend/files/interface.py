"""FileStore: what the backend needs of a place that keeps bytes. A folder today, a bucket later.

A file is a run of bytes under a key of 32 hexadecimal digits. Nothing else is known here: names, types, owners and
reasons are documents in system tables (model/file_records).

Rules, which `tests/files/test_conformance.py` holds every implementation to:
- A key is new for every `put` and never used again. So a file never changes, two files never share bytes, and whoever
  deletes a key deletes exactly what one record stood for: collecting garbage needs no reference counts and cannot race
  with an upload of the same content.
- A file is visible completely or not at all, and what is visible is on disk. A process killed in the middle leaves
  nothing visible, and what it left hidden is gone after the next start.
- Memory does not grow with the size of a file.
- A file that is open can be read to its end although it is deleted meanwhile.

Source: design.md §3 (seams); reference/runtime-and-database.md §8.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from cvx.errors import CvxError


@dataclass(frozen=True, slots=True)
class FileDigest:
    """What was written: how many bytes, and the 32 bytes of their SHA-256."""

    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file as `list` finds it. `modified_s`: when it became visible, in seconds since 1970."""

    key: str
    size: int
    modified_s: float


class OpenFile(Protocol):
    """A part of one file, to be read once. Its holder closes it, also after a failure."""

    @property
    def size(self) -> int:
        """Of the whole file, in bytes."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The part that was asked for, in its order."""
        ...

    async def close(self) -> None: ...


class FileStore(Protocol):
    """Files by key. Every method may be called by many tasks at once.

    All raise CvxError "FileStorageFailed" (kind unavailable) when the disk or the service does.
    """

    async def put(
        self, key: str, chunks: AsyncIterator[bytes], *, bytes_max: int, sha256: bytes | None = None
    ) -> FileDigest:
        """Keep what `chunks` yields under a new key; visible and on disk when this returns.

        Raises CvxError "FileTooLarge" beyond `bytes_max`, and "Sha256Mismatch" when `sha256` is given and is not the
        digest. Whatever it raises (also what `chunks` raises, or a cancellation), nothing stays behind.
        """
        ...

    async def open(self, key: str, start: int = 0, end: int | None = None) -> OpenFile:
        """Bytes from `start` up to, not including, `end` (None: to the last). Raises CvxError "FileNotFound"."""
        ...

    async def size(self, key: str) -> int | None:
        """In bytes; None when there is no such file."""
        ...

    async def delete(self, key: str) -> None:
        """Remove a file. That there is none is fine."""
        ...

    async def list(self, after: str, limit: int) -> list[KeptFile]:
        """The next visible files in the order of their keys, beginning after the key `after` ("" at first)."""
        ...

    async def close(self) -> None: ...


def new_key() -> str:
    """A key that was never used."""
    return secrets.token_hex(16)


def file_is_missing(key: str) -> CvxError:
    return CvxError("FileNotFound", f"There is no stored file {key}.", kind="not_found")


def file_too_large(bytes_max: int) -> CvxError:
    return CvxError(
        "FileTooLarge",
        f"The file is larger than {bytes_max} bytes, the most that one file may have.",
        hint="Split the file, or raise Limits.stored_file_bytes_max.",
        details={"status": 413},
    )


def digest_mismatch(expected: bytes, found: bytes) -> CvxError:
    return CvxError(
        "Sha256Mismatch",
        f"The bytes that arrived have the SHA-256 {found.hex()}, and {expected.hex()} was announced.",
        hint="Send the file again.",
    )
