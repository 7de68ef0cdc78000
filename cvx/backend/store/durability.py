"""The thread that waits for the disk.

SQLite commits with synchronous=NORMAL: a commit is visible at once and in the operating system's hands. This
thread calls fdatasync on one long-lived descriptor of the write-ahead log and then tells everyone whose commit
was written before the call. Commits that arrive meanwhile share the next call, so the group grows with the load.

Rules: only the -wal file is ever opened here (closing a descriptor of the database file itself would drop
SQLite's locks). After a failed sync nobody knows what is on disk: nothing is acknowledged any more, and the
fatal callback is told.

Source: design.md §11.10.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from pathlib import Path

from cvx.backend.store.folder import HighWaterFile
from cvx.backend.store.interface import FatalCallback
from cvx.errors import CvxError

if sys.platform == "darwin":
    import fcntl


class Flusher:
    """Turns "written" into "durable". `wrote` and `durable` are for the event loop's thread."""

    def __init__(
        self, database: Path, wal: Path, mark: HighWaterFile, durable_ts: int, on_fatal: FatalCallback
    ) -> None:
        self._fd = os.open(wal, os.O_RDWR)
        self._watched = [(path, _identity_of(path)) for path in (database, wal)]
        self._mark = mark
        self._on_fatal = on_fatal
        self._written = durable_ts
        self._durable = durable_ts
        self._failure: CvxError | None = None
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = threading.Event()
        self._syncing = threading.Lock()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="cvx-flusher", daemon=True)
        self._thread.start()

    @property
    def failure(self) -> CvxError | None:
        """Why the store has stopped, once it has."""
        return self._failure

    @property
    def is_behind(self) -> bool:
        """Whether something was written that the disk has not confirmed."""
        return self._written > self._durable

    def wrote(self, ts: int) -> None:
        """Note that everything up to `ts` has been handed to the operating system."""
        self._written = ts

    async def durable(self, ts: int) -> None:
        """Return once everything up to `ts` is on disk. Raises CvxError "StoreFailed"."""
        if ts <= self._durable:
            return
        if self._failure is not None:
            raise self._failure
        self._loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append((ts, future))
        self._wake.set()
        await future

    def sync(self) -> None:
        """Sync now, on the calling thread."""
        with self._syncing:
            target = self._written  # Read before the call: what is written during it may not be covered.
            if self._failure is not None:
                raise self._failure
            try:
                _sync(self._fd)
                for path, identity in self._watched:
                    if _identity_of(path) != identity:
                        raise OSError(f"{path} was replaced while it was open")
                self._mark.write(target)
            except OSError as error:
                self._fail(error)
                assert self._failure is not None
                raise self._failure from error
            self._durable = max(self._durable, target)

    def wake(self) -> None:
        """Ask the thread for a sync without waiting for it."""
        self._wake.set()

    def fail(self, error: BaseException) -> CvxError:
        """Stop acknowledging, for a reason found elsewhere; what everybody who waits is given."""
        self._fail(error)
        assert self._failure is not None
        return self._failure

    def close(self) -> None:
        """Sync what is written and end the thread."""
        self._stopping = True
        self._wake.set()
        self._thread.join()
        if self._failure is None:
            self.sync()
        self._tell()  # This may be a thread of its own.
        os.close(self._fd)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._stopping:
                return
            if self._written > self._durable:
                try:
                    self.sync()
                except CvxError:
                    return  # _fail has told everyone.
            self._tell()

    def _tell(self) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        waiters, self._waiters = self._waiters, []
        for ts, future in waiters:
            if future.done():
                continue
            if ts <= self._durable:
                future.set_result(None)
            elif self._failure is not None:
                future.set_exception(self._failure)
            else:
                self._waiters.append((ts, future))

    def _fail(self, error: BaseException) -> None:
        if self._failure is not None:
            return
        self._failure = CvxError(
            "StoreFailed",
            f"A commit could not be brought to its end ({error}); the backend stops rather than guess.",
            kind="internal",
            hint="Check the disk, then start the backend again: it recovers from its log.",
            retry_when="time",
        )
        self._on_fatal(error)
        self._tell()


def _sync(fd: int) -> None:
    if sys.platform == "darwin":
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # fsync there only reaches the drive's cache.
    elif hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    else:
        os.fsync(fd)


def _identity_of(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
