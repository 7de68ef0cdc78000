"""The data folder: one process at a time, and a note of what was promised.

Two small files stand beside the database. `lock` is held (by the operating system, so a killed process lets
go) and names its holder. `high-water` carries the timestamp up to which commits have been acknowledged, and
whether the last process left in good order: a database that ends before it has lost data, whatever SQLite
thinks of the file. The note is written after the disk has confirmed the commits, so it never promises more
than is there, and it need not be synced itself.

Source: fault-list.md lines 10–13.
"""

from __future__ import annotations

import os
import struct
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

from cvx.errors import CvxError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_MARK = struct.Struct("<4sqB")
_MAGIC = b"cvx1"
_BINARY: int = getattr(os, "O_BINARY", 0)  # Windows would translate line ends.


class FolderLock:
    """Holds `<folder>/lock` until released. Raises CvxError "DataFolderInUse" naming the other process."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "lock"
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | _BINARY, 0o600)
        try:
            _lock(self._fd)
        except OSError:
            holder = _read_at(self._fd, 1).decode(errors="replace").strip() or "another process"
            os.close(self._fd)
            raise CvxError(
                "DataFolderInUse",
                f"The data folder {folder} is in use by {holder}.",
                kind="unavailable",
                hint="Stop that process, or choose another folder with --data.",
                retry_when="time",
            ) from None
        os.ftruncate(self._fd, 0)
        # The first byte is what Windows locks, so the name starts at the second.
        name = Path(sys.argv[0] or "python").name
        _write_at(self._fd, 0, f" process {os.getpid()} ({name})\n".encode())

    def release(self) -> None:
        """Let another process have the folder."""
        if self._fd >= 0:
            os.close(self._fd)  # The operating system drops the lock with the last descriptor.
            self._fd = -1


def lock_holder(folder: Path) -> str | None:
    """The process that holds a folder's lock, as it named itself; None when nobody does. Takes nothing."""
    try:
        fd = os.open(folder / "lock", os.O_RDWR | _BINARY)
    except OSError:
        return None
    try:
        _lock(fd)
    except OSError:
        return _read_at(fd, 1).decode(errors="replace").strip() or "another process"
    finally:
        os.close(fd)
    return None


def read_high_water(folder: Path) -> HighWater | None:
    """A folder's note without opening it for writing; None when there is none or it is torn."""
    try:
        fd = os.open(folder / "high-water", os.O_RDONLY | _BINARY)
    except OSError:
        return None
    try:
        return _high_water(_read_at(fd, 0))
    finally:
        os.close(fd)


def _read_at(fd: int, position: int) -> bytes:
    os.lseek(fd, position, os.SEEK_SET)
    return os.read(fd, 256)


def _write_at(fd: int, position: int, data: bytes) -> None:
    os.lseek(fd, position, os.SEEK_SET)
    os.write(fd, data)


def _lock(fd: int) -> None:
    os.lseek(fd, 0, os.SEEK_SET)
    if sys.platform == "win32":
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


@dataclass(frozen=True, slots=True)
class HighWater:
    """What the note says: commits up to `ts` were acknowledged; `clean`: the last process closed the store."""

    ts: int
    clean: bool


def _high_water(raw: bytes) -> HighWater | None:
    size = _MARK.size
    if len(raw) < size + 4 or zlib.crc32(raw[:size]) != int.from_bytes(raw[size : size + 4], "little"):
        return None
    magic, ts, clean = _MARK.unpack(raw[:size])
    return HighWater(ts, bool(clean)) if magic == _MAGIC else None


class HighWaterFile:
    """`<folder>/high-water`, open for rewriting in place."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "high-water"
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | _BINARY, 0o600)

    def read(self) -> HighWater | None:
        """The note, or None when there is none (a new folder, or one restored without it)."""
        return _high_water(_read_at(self._fd, 0))

    def write(self, ts: int, *, clean: bool = False) -> None:
        """Replace the note. A kill in between leaves the old or the new one: it is a single small write."""
        body = _MARK.pack(_MAGIC, ts, clean)
        _write_at(self._fd, 0, body + zlib.crc32(body).to_bytes(4, "little"))

    def close(self) -> None:
        os.close(self._fd)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable (files that were just created)."""
    if sys.platform == "win32":
        return  # Directories cannot be opened there; the file system journals names by itself.
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
