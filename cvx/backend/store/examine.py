"""What can be said of a data folder without opening it for good: for `cvx doctor`.

Rule: nothing is created, changed or kept open; a folder in use stays in use undisturbed.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from cvx.backend.store.folder import lock_holder, read_high_water
from cvx.backend.store.open import DATABASE_FILE, FORMAT


@dataclass(frozen=True, slots=True)
class FolderReport:
    """`format`: of the data, None when there is none. `format_max`: the newest this program reads. `latest_ts`: of
    the last acknowledged commit, in nanoseconds. `held_by`: the process that has the folder open."""

    format: int | None
    format_max: int
    latest_ts: int | None
    held_by: str | None


def examine_folder(folder: Path) -> FolderReport:
    """Look at a data folder. A file that is no database counts as none: `open_store` says what is wrong with it."""
    mark = read_high_water(folder)
    latest = mark.ts if mark is not None else None
    return FolderReport(_format(folder / DATABASE_FILE), FORMAT, latest, lock_holder(folder))


def _format(path: Path) -> int | None:
    """The version in the file's header, which every reader may look at, also beside a running backend."""
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError:
        return None
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        return None
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        return int(version)
    except sqlite3.DatabaseError:
        return None
    finally:
        connection.close()
