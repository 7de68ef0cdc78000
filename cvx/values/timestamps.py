"""Timestamps: commit times in nanoseconds since 1970, and how they are spelt on the wire.

Rule: a deployment's timestamps strictly increase, across restarts too; whoever makes one (the committer)
keeps that. Nothing here reads a clock: the real one is made in backend.py, a fake one in tests.

Source: reference/values-and-sync.md §2.4, §4.2.
"""

from __future__ import annotations

import binascii
import math
from typing import Protocol, TypeAlias

from cvx.errors import CvxError

Timestamp: TypeAlias = int
"""Nanoseconds since 1970-01-01 UTC."""

TIMESTAMP_MAX: Timestamp = (1 << 63) - 1


class Clock(Protocol):
    """Where the time comes from."""

    def now_ns(self) -> Timestamp:
        """The current time; may stand still or step back, so callers that need order keep it themselves."""
        ...


def encode_ts(ts: Timestamp) -> str:
    """A timestamp (or any unsigned 64-bit number) as clients spell it: base64 of 8 little-endian bytes."""
    return binascii.b2a_base64(ts.to_bytes(8, "little"), newline=False).decode()


def decode_ts(text: str) -> Timestamp:
    """Inverse of `encode_ts`. Raises CvxError "InvalidTimestamp"."""
    try:
        data = binascii.a2b_base64(text)
    except (binascii.Error, ValueError, TypeError):
        data = b""
    if len(data) != 8:
        raise CvxError("InvalidTimestamp", f"'{str(text)[:32]}' is not base64 of an unsigned 64-bit number.")
    return int.from_bytes(data, "little")


def creation_time_of(ts: Timestamp) -> float:
    """A timestamp as `_creationTime` holds it: milliseconds with a fraction."""
    return ts // 1_000_000 + (ts % 1_000_000) * 1e-6


def next_float(number: float) -> float:
    """The next larger float64: two documents of one transaction never share a creation time."""
    return math.nextafter(number, math.inf)
