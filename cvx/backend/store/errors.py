"""What SQLite's failures mean to a person."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

from cvx.errors import CvxError


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise store_error(error) from error


def store_error(error: sqlite3.Error) -> CvxError:
    """What a failed statement means to a person. Nothing was changed."""
    text = str(error)
    if "full" in text:
        return CvxError(
            "DiskFull",
            "The disk is full; the change was not made.",
            kind="overloaded",
            hint="Free some space, then try again.",
            retry_when="env",
        )
    if isinstance(error, sqlite3.DatabaseError) and ("malformed" in text or "not a database" in text):
        return corrupt(text)
    return CvxError(
        "StoreError",
        f"The store could not do its work: {text}.",
        kind="internal",
        hint="Check the disk and the permissions of the data folder.",
        retry_when="env",
    )


def corrupt(detail: str) -> CvxError:
    """The error for a file that cannot be trusted."""
    return CvxError(
        "DataCorrupt",
        f"The data file is damaged: {detail}.",
        kind="internal",
        hint="Restore the data folder from a backup.",
        retry_when="env",
    )


def damaged(where: bytes) -> CvxError:
    """The error for a document that is not what was written."""
    return corrupt(f"the document at {where.hex()} does not match its checksum")


def duplicate(found: tuple[bytes, int] | None) -> CvxError:
    """The error for loading a document whose id is taken; `found`: its internal id and its line."""
    internal, line = found or (b"", 0)
    return CvxError(
        "DuplicateId",
        "Two documents have the same _id.",
        details={"internal": internal, "line": line},
    )


def too_old() -> CvxError:
    """The error for reading a view that was closed."""
    return CvxError(
        "SnapshotTooOld",
        "The transaction has been open for so long that its snapshot is no longer readable.",
        kind="out_of_retention",
        hint="Do less in one function, or run it again.",
        retry_when="time",
    )
