"""What a function call comes to: its value or its error, and its log lines, as callers see them.

Rule: whether texts are redacted is decided when a result is made, so nothing unredacted can leave by mistake;
`data_json` of a ConvexError always goes out (reference/values-and-sync.md §7).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from cvx.backend.runner import FunctionFailure, LogLine
from cvx.errors import CvxError
from cvx.values import Timestamp, encode

_request_ids = Random()


@dataclass(frozen=True, slots=True)
class FunctionError:
    """Why there is no value. `message` is complete and unredacted, without request id, ending in a newline."""

    message: str
    data_json: bytes | None = None
    redacted: bool = False

    def client_text(self, request_id: str) -> str:
        """The text a client gets."""
        first = f"[Request ID: {request_id}] Server Error"
        return first if self.redacted else f"{first}\n{self.message}"


@dataclass(frozen=True, slots=True)
class LoggedLine:
    """One log line of a call. `udf_path` is set for lines of functions it ran inside its transaction."""

    line: LogLine
    udf_path: str | None = None
    component: str = ""

    def pretty(self) -> str:
        """`[LEVEL] message message`, as ordinary clients get it."""
        return pretty(self.line)

    def structured(self) -> dict[str, Any]:
        """As the command line and the dashboard get it (runtime-and-database.md §12)."""
        line = self.line
        out: dict[str, Any] = {
            "messages": list(line.messages),
            "isTruncated": line.is_truncated,
            "timestamp": line.timestamp_ms,
            "level": line.level,
        }
        if line.system_code is not None:
            out["systemMetadata"] = {"code": line.system_code}
        if self.udf_path is not None:
            out["udfPath"] = self.udf_path
            out["componentPath"] = self.component
        return out


def pretty(line: LogLine) -> str:
    text = f"[{line.level}] {' '.join(line.messages)}"
    return text + " (truncated due to length)" if line.is_truncated else text


@dataclass(frozen=True, slots=True)
class MutationResult:
    """One mutation's answer. `ts` is its commit (for a replay the original's) and None when it failed."""

    ts: Timestamp | None
    value_json: bytes | None
    error: FunctionError | None
    log_lines: list[str]
    request_id: str


@dataclass(frozen=True, slots=True)
class ActionResult:
    """One action's answer."""

    value_json: bytes | None
    error: FunctionError | None
    log_lines: list[str]
    request_id: str


@dataclass(frozen=True, slots=True)
class HttpActionResult:
    """What became of an HTTP action, whose response went where its request came from. `has_responded`: the head did."""

    error: FunctionError | None
    has_responded: bool
    request_id: str


@dataclass(frozen=True, slots=True)
class CallResult:
    """Any function's answer, for callers that do not care which kind it is. `ts` is what to await as durable."""

    value_json: bytes | None
    error: FunctionError | None
    log_lines: list[str]
    ts: Timestamp | None
    request_id: str = field(default="")


def failure_text(failure: FunctionFailure) -> str:
    """Message and frames, as one text that ends in a newline."""
    message = failure.message if failure.message.endswith("\n") else failure.message + "\n"
    return message + failure.frames


def error_of(failure: FunctionFailure, *, redacted: bool) -> FunctionError:
    return FunctionError(failure_text(failure), failure.data_json, redacted)


def error_of_cvx(error: CvxError, *, redacted: bool) -> FunctionError:
    """The function error for a refusal that happened outside user code."""
    data = encode(error.data) if error.has_data else None
    message = error.message if error.message.endswith("\n") else error.message + "\n"
    return FunctionError(message, data, redacted)


def fingerprint(value_json: bytes | None, error: FunctionError | None, log_lines: Sequence[str]) -> bytes:
    """Equal exactly when a client could not tell two results apart; request ids do not count."""
    digest = hashlib.blake2b(digest_size=16)
    if value_json is not None:
        digest.update(b"v")
        digest.update(value_json)
    elif error is not None:
        digest.update(b"r" if error.redacted else b"e" + error.message.encode("utf-8", "surrogatepass"))
        digest.update(b"\x00" + (error.data_json or b""))
    for line in log_lines:
        digest.update(b"\x00l" + line.encode("utf-8", "surrogatepass"))
    return digest.digest()


def new_request_id() -> str:
    """16 hex digits: a name for people to refer to, not a secret."""
    return f"{_request_ids.getrandbits(64):016x}"


def new_execution_id() -> str:
    """The name of one run in the function log."""
    return f"{_request_ids.getrandbits(64):016x}"


def session_request_id(session_id: str, request_id: int) -> str:
    """The request id of a socket's mutation or action: the same for a replay (values-and-sync.md §7)."""
    return hashlib.sha256(f"{session_id.lower()}|{request_id}".encode()).hexdigest()[:16]
