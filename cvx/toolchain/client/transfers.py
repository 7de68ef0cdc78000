"""What imports and exports have in common: the state of one as a deployment tells it, and how sizes are told to people."""

from __future__ import annotations

from typing import Any

from cvx.errors import CvxError
from cvx.toolchain.client.live import QueryResult
from cvx.values import decode

CANCEL_S = 2.0
READ_BYTES = 1 << 20


def row_of(result: QueryResult, path: str) -> dict[str, Any] | None:
    """The row of `_imports` or `_exports` that a system query answered with, None when it is gone. Raises CvxError."""
    if not hasattr(result, "value"):
        raise CvxError("SystemQueryFailed", f"{path}: {getattr(result, 'error_message', 'it failed')}")
    value = decode(bytes(result.value))
    return value if isinstance(value, dict) else None


def hint_for(code: str) -> str | None:
    """What helps against an error that is not the file's fault."""
    return "Free some space where the backend keeps its data, then try again." if code == "DiskFull" else None


def size_text(count: int | None) -> str:
    """Of so many bytes."""
    size = float(count or 0)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError
