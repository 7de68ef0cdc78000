"""One error class for everything a person or a program must be told.

A `CvxError` carries a stable `code` (Convex's own short code where one exists), a `message` that says what,
where and why, a `hint` with one thing that fixes it, and `retry_when`: what would have to change before
trying again could help. `kind` is the class of failure; the HTTP layer maps it to a status, the sync layer
to a close code, and the runner to "user code may catch this" (`DETERMINISTIC_KINDS`).

Source: reference/values-and-sync.md §4.8 and §5, runtime-and-database.md §1.1.
"""

from __future__ import annotations

from typing import Any, Literal

ErrorKind = Literal[
    "bad_request",
    "pagination_limit",
    "unauthenticated",
    "auth_update_failed",
    "forbidden",
    "not_found",
    "conflict",
    "rate_limited",
    "overloaded",
    "occ",
    "out_of_retention",
    "unavailable",
    "internal",
]
RetryWhen = Literal["files", "data", "env", "time", "never"]

DETERMINISTIC_KINDS: frozenset[ErrorKind] = frozenset(
    {"bad_request", "conflict", "pagination_limit", "unauthenticated", "auth_update_failed", "forbidden"}
)
"""Failures that are a function of the request: user code may catch them (runtime-and-database.md §1.1)."""


class CvxError(Exception):
    """What went wrong, for a person (`message`, `hint`) and for a program (`code`, `kind`, `retry_when`)."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        kind: ErrorKind = "bad_request",
        hint: str | None = None,
        retry_when: RetryWhen = "never",
        data: Any = None,
        has_data: bool = False,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.kind: ErrorKind = kind
        self.hint = hint
        self.retry_when: RetryWhen = retry_when
        # ConvexError payload (a Value); `has_data` tells "data is null" from "no data".
        self.data = data
        self.has_data = has_data or data is not None
        self.details = details or {}

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class ConflictError(CvxError):
    """Something the transaction read has changed since its snapshot; run it again on a fresh one."""

    def __init__(self, message: str, *, details: dict[str, Any] | None = None) -> None:
        super().__init__("OptimisticConcurrencyControlFailure", message, kind="occ", details=details)


class ProtocolError(CvxError):
    """The other end of a conversation broke its rules; that one conversation ends."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message, kind="bad_request")
