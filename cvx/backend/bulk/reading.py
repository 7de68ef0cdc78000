"""Who reads an upload: a process of its own or, when it is small, a thread here.

A process costs 0.2 s to start, which is most of the time that a small import takes. A thread shares the interpreter
with the event loop, so only uploads go there that are read in a moment: of few bytes and few rows
(`import_in_thread_…_max`), never a ZIP (which unpacks to more than it is). Both run `UploadReader` and say the same.

Rule: nobody but this file knows which of the two it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from cvx.backend.bulk.messages import ImportOrder, ImportPlan, ImportReport
from cvx.backend.bulk.uploads import Parts, parts_of
from cvx.backend.config import Limits
from cvx.errors import CvxError

if TYPE_CHECKING:
    from cvx.backend.bulk.upload_reader import UploadReader

_PROGRAM = "cvx.backend.bulk.import_child"
_REPORT_BYTES_MAX = 8 << 20


class Reading(Protocol):
    """One upload being read: the first report is the survey; after `go_on`, everything up to `ImportDone`."""

    async def report(self) -> ImportReport:
        """The next report; `ImportFailed` is one. Raises CvxError "ImportFailed" when there will be none."""

    def go_on(self, plan: ImportPlan) -> None:
        """Where the tables of the survey go."""

    async def close(self) -> None:
        """End it, wherever it is; nothing is written afterwards."""


async def read_upload(order: ImportOrder, limits: Limits) -> Reading:
    """Begin to read a finished upload; `close` what this returns."""
    if order.format != "zip" and await asyncio.to_thread(_is_small, Path(order.folder), limits):
        return _InThread(order)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", _PROGRAM,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_REPORT_BYTES_MAX,
    )  # fmt: skip
    return _InProcess(process, order)


def _is_small(folder: Path, limits: Limits) -> bool:
    """By its bytes, and by how many rows or objects it can have at most."""
    with Parts(parts_of(folder)) as parts:
        if parts.size > limits.import_in_thread_bytes_max:
            return False
        text = parts.readall()
    return max(text.count(b"\n"), text.count(b"\r"), text.count(b"{")) <= limits.import_in_thread_rows_max


class _InProcess:
    """`python -m cvx.backend.bulk.import_child`."""

    def __init__(self, process: asyncio.subprocess.Process, order: ImportOrder) -> None:
        self._process = process
        self._say(order)

    def _say(self, message: ImportOrder | ImportPlan) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(message) + b"\n")

    async def report(self) -> ImportReport:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            code = await self._process.wait()
            raise CvxError(
                "ImportFailed", f"The process that reads the file ended with status {code}.",
                kind="internal", hint="Import again.", retry_when="time",
            )  # fmt: skip
        report: ImportReport = msgspec.json.decode(line, type=ImportReport)
        return report

    def go_on(self, plan: ImportPlan) -> None:
        self._say(plan)

    async def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


class _InThread:
    """`UploadReader` in two turns of a thread: the survey, and the rest. None waits in a thread for anything."""

    def __init__(self, order: ImportOrder) -> None:
        self._order = order
        self._loop = asyncio.get_running_loop()
        self._reports: asyncio.Queue[ImportReport] = asyncio.Queue()  # Few: the upload is small.
        self._closed = False
        self._reader: UploadReader | None = None
        self._turn = self._begin(self._survey)

    def _begin(self, work: Callable[[], None]) -> asyncio.Future[None]:
        return self._loop.run_in_executor(None, self._do, work)

    def _do(self, work: Callable[[], None]) -> None:
        from cvx.backend.bulk.upload_reader import saying_failures

        saying_failures(work, self._say)

    def _say(self, report: ImportReport) -> None:
        if self._closed:
            raise BrokenPipeError("nobody listens any more")
        self._loop.call_soon_threadsafe(self._reports.put_nowait, report)

    def _survey(self) -> None:
        from cvx.backend.bulk.upload_reader import UploadReader

        self._reader = UploadReader(self._order, self._say)
        self._say(self._reader.survey())

    async def report(self) -> ImportReport:
        return await self._reports.get()

    def go_on(self, plan: ImportPlan) -> None:
        reader = self._reader
        assert reader is not None
        self._turn = self._begin(lambda: reader.read(plan))

    async def close(self) -> None:
        self._closed = True
        await asyncio.wait({self._turn})
        if not self._turn.cancelled():
            self._turn.exception()  # That nobody listens is no news.
        if self._reader is not None:
            self._reader.close()
