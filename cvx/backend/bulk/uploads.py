"""Files that come in parts: a folder for each upload, a file for each part, and all of them read as one.

Rule: nothing is copied. Whoever imports reads the parts where they lie.

Source: reference/cli-and-deploy.md §5.3 (upload).
"""

from __future__ import annotations

import asyncio
import bisect
import errno
import io
import os
import re
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from cvx.backend.config import Limits
from cvx.errors import CvxError

_token = re.compile(r"[0-9a-f]{32}")
_WRITE_BYTES = 1 << 20


class Uploads:
    """The folder of all uploads."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder = folder
        self._limits = limits

    def begin(self) -> str:
        """The token of a new upload. Raises CvxError "TooManyUploads"."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self.sweep(keep=None)
        if sum(1 for _ in self._folder.glob("*/uploading")) >= self._limits.import_uploads_max:
            raise CvxError(
                "TooManyUploads", "Too many uploads are under way.", kind="rate_limited",
                hint="Wait until some of them have finished.", retry_when="time",
            )  # fmt: skip
        token = secrets.token_hex(16)
        (self._folder / token).mkdir()
        (self._folder / token / "uploading").touch()
        return token

    def folder_of(self, token: str) -> Path:
        """Where an upload, and what is made of it, is kept. Raises CvxError "UploadNotFound"."""
        folder = self._folder / token
        if _token.fullmatch(token) is None or not folder.is_dir():
            raise CvxError(
                "UploadNotFound", "There is no upload with this token.", kind="not_found",
                hint="Begin the upload again.",
            )  # fmt: skip
        return folder

    async def put(self, token: str, number: int, pieces: AsyncIterator[bytes]) -> str:
        """Keep a part, in place of an earlier one of the same number; its own token. Raises CvxError:
        UploadNotFound, InvalidPartNumber, RequestTooLarge, DiskFull."""
        folder, limits = self.folder_of(token), self._limits
        if not 1 <= number <= limits.import_parts_max:
            raise CvxError("InvalidPartNumber", f"Parts are numbered from 1 to {limits.import_parts_max}.")
        if not (folder / "uploading").exists():
            raise CvxError("UploadFinished", "This upload is finished; its parts cannot be changed.")
        path = folder / f".part-{number:05}-{secrets.token_hex(4)}"
        try:
            with path.open("xb") as file:  # Buffered: a disk that is nearly full takes a part of a raw write.
                size = 0
                waiting: list[bytes] = []
                held = 0
                check_room(folder, limits)
                async for piece in pieces:
                    waiting.append(piece)
                    held += len(piece)
                    if held >= _WRITE_BYTES:
                        await asyncio.to_thread(file.write, b"".join(waiting))
                        size, held, waiting = size + held, 0, []
                        check_room(folder, limits)
                    if size > limits.import_part_bytes_max:
                        raise CvxError(
                            "RequestTooLarge",
                            f"A part may have {limits.import_part_bytes_max} bytes.",
                            details={"status": 413, "headers": {"connection": "close"}},
                        )
                await asyncio.to_thread(file.write, b"".join(waiting))
            path.rename(folder / f"part-{number:05}")
        except OSError as error:
            self._give_up(token, found := _disk_error(error))
            raise found from error
        except CvxError as error:
            self._give_up(token, error)
            raise
        finally:
            path.unlink(missing_ok=True)
        return f"{token}-{number}"

    def _give_up(self, token: str, error: CvxError) -> None:
        """An upload that a full disk has ended takes its parts with it: they are what fills the disk."""
        if error.code == "DiskFull":
            self.discard(token)

    def finish(self, token: str, part_tokens: Sequence[object]) -> Path:
        """Settle which parts there are, in their order; the folder. Raises CvxError: UploadNotFound,
        InvalidPartToken, UploadFinished."""
        folder = self.folder_of(token)
        names = []
        for part in part_tokens:
            prefix, _, number = str(part).rpartition("-")
            name = f"part-{int(number):05}" if number.isdecimal() and len(number) < 6 else ""
            if prefix != token or not name or not (folder / name).is_file():
                raise CvxError("InvalidPartToken", f"'{str(part)[:80]}' is not a part of this upload.")
            names.append(name)
        if not (folder / "uploading").exists():
            raise CvxError("UploadFinished", "This upload is finished already.")
        (folder / "parts").write_text("\n".join(names))
        (folder / "uploading").unlink()
        return folder

    def discard(self, token: str) -> None:
        """Remove an upload and everything made of it."""
        if _token.fullmatch(token) is not None:
            shutil.rmtree(self._folder / token, ignore_errors=True)

    def sweep(self, *, keep: set[str] | None) -> None:
        """Remove uploads that were never finished and, unless `keep` is None, finished ones that are not in it."""
        if not self._folder.is_dir():
            return
        oldest = time.time() - self._limits.import_upload_s
        for folder in self._folder.iterdir():
            try:
                begun = (folder / "uploading").exists()
                stale = (
                    folder.stat().st_mtime < oldest if begun else keep is not None and folder.name not in keep
                )
            except FileNotFoundError:
                continue
            if stale:
                shutil.rmtree(folder, ignore_errors=True)


def parts_of(folder: Path) -> list[Path]:
    """The parts of a finished upload, in their order."""
    return [folder / name for name in (folder / "parts").read_text().split()]


class Parts(io.RawIOBase):
    """Several files, one after the other, as one that can be read anywhere."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        self._starts: list[int] = []
        self.size = 0
        for path in self._paths:
            self._starts.append(self.size)
            self.size += path.stat().st_size
        self._at = 0
        self._open: tuple[int, io.FileIO] | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = 0 if whence == os.SEEK_SET else self._at if whence == os.SEEK_CUR else self.size
        if base + offset < 0:
            raise ValueError("seek before the beginning")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        if self._at >= self.size or not len(view):
            return 0
        index = bisect.bisect_right(self._starts, self._at) - 1
        file = self._file(index)
        file.seek(self._at - self._starts[index])
        count = file.readinto(view) or 0
        self._at += count
        return count

    def _file(self, index: int) -> io.FileIO:
        if self._open is None or self._open[0] != index:
            if self._open is not None:
                self._open[1].close()
            self._open = index, io.FileIO(self._paths[index])
        return self._open[1]

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None
        super().close()


def check_room(folder: Path, limits: Limits) -> None:
    """Raises CvxError "DiskFull" before an import takes what its own undoing would need."""
    free = shutil.disk_usage(folder).free
    if free < limits.import_disk_reserve_bytes:
        raise _disk_full(f"{free >> 20} MiB are free, and {limits.import_disk_reserve_bytes >> 20} stay so")


def _disk_full(why: str) -> CvxError:
    return CvxError(
        "DiskFull", f"The disk of the backend is full ({why}).", kind="overloaded",
        hint="Free some space where the backend keeps its data, then import again.", retry_when="env",
    )  # fmt: skip


def _disk_error(error: OSError) -> CvxError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _disk_full("no space is left")
    return CvxError("UploadFailed", f"The part could not be kept: {error.strerror}.", kind="internal")
