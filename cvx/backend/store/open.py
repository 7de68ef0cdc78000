"""From a data folder to an open store, or to the reason why not.

Refused, each with what to do: a folder in use by another process, a file that is not ours, a format newer than
this program, a damaged file, and a file that ends before the last acknowledged commit.

Source: fault-list.md lines 10–13, 28.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from cvx.backend.config import Limits
from cvx.backend.store.errors import corrupt
from cvx.backend.store.folder import FolderLock, HighWater, HighWaterFile, sync_folder
from cvx.backend.store.interface import FatalCallback
from cvx.backend.store.sqlite import SqliteStore
from cvx.backend.store.statements import SCHEMA, UPGRADES, connect
from cvx.errors import CvxError

APPLICATION_ID = 0x63767831  # "cvx1"
FORMAT = 2
DATABASE_FILE = "data.sqlite3"

# Measured: quick_check reads 300–500 MB/s. Only after a crash, and not when it would delay the start by seconds.
_QUICK_CHECK_BYTES_MAX = 256 << 20
_PAGE_BYTES = 4096  # Measured against 8192: the same speed, and a log half the size.


class OpenStore(SqliteStore):
    """A store together with the lock on its folder."""

    def __init__(self, folder: Path, limits: Limits, on_fatal: FatalCallback) -> None:
        self._lock = FolderLock(folder)
        try:
            path = folder / DATABASE_FILE
            mark = HighWaterFile(folder)
            _prepare(path, mark.read())
            super().__init__(path, mark, limits, on_fatal)
            # SQLite would sync the name of a new log file with its own first sync, which never comes.
            sync_folder(folder)
            _check_high_water(mark, self.latest_ts)
            mark.write(self.latest_ts)
        except BaseException:  # edge: the folder must be let go of, whatever happened; raised again.
            self._lock.release()
            raise

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._lock.release()


def open_store(folder: Path, limits: Limits, on_fatal: FatalCallback) -> OpenStore:
    """The store in `folder`, created if it is not there.

    Raises CvxError: DataFolderInUse, DataTooNew, DataCorrupt, DataLost.
    """
    return OpenStore(folder, limits, on_fatal)


def _prepare(path: Path, mark: HighWater | None) -> None:
    """Check the file, or create it."""
    is_new = not path.exists() or path.stat().st_size == 0
    if is_new and mark is not None and mark.ts > 0:
        raise _lost(path, "the data file is gone")
    connection = None
    try:
        connection = connect(path, 1 << 20)
        if is_new:
            connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application not in (0, APPLICATION_ID) or (
            application == 0 and not is_new and _has_tables(connection)
        ):
            raise CvxError(
                "NotOurData", f"{path} is a database of another program.",
                hint="Choose another folder with --data.",
            )  # fmt: skip
        if version > FORMAT:
            raise CvxError(
                "DataTooNew",
                f"{path} was written by a newer cvx (format {version}; this one reads up to {FORMAT}).",
                hint="Upgrade cvx, or open the folder with the version that wrote it and export its data.",
                retry_when="env",
            )
        connection.execute("PRAGMA journal_mode=WAL")
        if application == 0:
            _create(connection)
        elif (
            mark is not None and not mark.clean and path.stat().st_size <= _QUICK_CHECK_BYTES_MAX
        ):  # The last process did not leave in good order.
            (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if answer != "ok":
                raise corrupt(str(answer))
        if application != 0 and version < FORMAT:
            _upgrade(connection, version)
    except sqlite3.DatabaseError as error:
        raise corrupt(str(error)) from error
    finally:
        if connection is not None:
            connection.close()


def _has_tables(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement in SCHEMA:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={FORMAT}")
    connection.execute("COMMIT")


def _upgrade(connection: sqlite3.Connection, version: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for older in range(version, FORMAT):
        for statement in UPGRADES[older]:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version={FORMAT}")
    connection.execute("COMMIT")


def _check_high_water(mark: HighWaterFile, latest_ts: int) -> None:
    note = mark.read()
    if note is not None and note.ts > latest_ts:
        raise _lost(mark.path, f"it ends at {latest_ts}, and commits up to {note.ts} were acknowledged")


def _lost(path: Path, detail: str) -> CvxError:
    return CvxError(
        "DataLost",
        f"The data in {path.parent} is not complete: {detail}.",
        kind="internal",
        hint="Restore the whole folder from a backup, "
        "or delete the file 'high-water' in it to go on with what is there.",
        retry_when="env",
    )
