"""How a push is refused: the codes that clients look for, and the words that they print.

Source: reference/cli-and-deploy.md §2.10.
"""

from __future__ import annotations

from typing import Any

from cvx.errors import CvxError

PUSH_PREFIX = "Hit an error while pushing:\n"


def push_error(code: str, message: str, **fields: Any) -> CvxError:
    """An error of a push: clients look for this code and print this message (§2.10)."""
    return CvxError(code, PUSH_PREFIX + message, retry_when=fields.pop("retry_when", "files"), **fields)


def as_push_error(error: CvxError) -> CvxError:
    """The same refusal, worded as a push's."""
    if error.message.startswith(PUSH_PREFIX):
        return error
    return CvxError(
        error.code, PUSH_PREFIX + error.message, kind=error.kind, hint=error.hint, retry_when=error.retry_when
    )


def in_component(error: CvxError, path: str) -> CvxError:
    """The same refusal, saying in which component; `path` is its definition's, "" the app's, which needs no word."""
    where = f"In the component {path}: "
    message = error.message.removeprefix(PUSH_PREFIX)
    if not path or message.startswith(where):
        return error
    return CvxError(
        error.code,
        PUSH_PREFIX + where + message,
        kind=error.kind,
        hint=error.hint,
        retry_when=error.retry_when,
    )


def race(why: str) -> CvxError:
    """Something changed under a push that had started; the client starts it again."""
    return push_error("RaceDetected", why, kind="conflict", hint="Push again.", retry_when="time")
