"""Cursors: a position in a query's results, as a string that only this deployment can read.

A cursor says where it stands (after an index key, or at the end) and of which query (a fingerprint of the query
and its index's fields). The text is encrypted and authenticated, and deterministic: the same position always
gives the same string, so that equal results stay equal. The construction is SIV: a keyed hash of the plain text
is both the check and the nonce of the key stream.

Source: reference/runtime-and-database.md §2.6; values-and-sync.md §8.3.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import msgspec

from cvx.errors import CvxError

FINGERPRINT_BYTES = 16
_TAG_BYTES = 16
_encode = msgspec.json.Encoder(order="sorted").encode


@dataclass(frozen=True, slots=True)
class Cursor:
    """A position: after this key, or (None) at the end."""

    after: bytes | None
    fingerprint: bytes


def fingerprint_of(query: dict[str, Any], fields: tuple[str, ...]) -> bytes:
    """What must be the same for a cursor to be used again: the query, and the fields of its index."""
    return blake2b(_encode([query, fields]), digest_size=FINGERPRINT_BYTES).digest()


class CursorCodec:
    """Cursor ⇄ text under this deployment's key (32 bytes)."""

    def __init__(self, key: bytes) -> None:
        self._tag_key = blake2b(b"tag", key=key).digest()
        self._stream_key = blake2b(b"stream", key=key).digest()

    def encode(self, cursor: Cursor) -> str:
        plain = cursor.fingerprint + (b"\x00" if cursor.after is None else b"\x01" + cursor.after)
        tag = self._tag(plain)
        return base64.urlsafe_b64encode(tag + self._crypted(plain, tag)).decode().rstrip("=")

    def decode(self, text: str) -> Cursor:
        """Raises CvxError "InvalidCursor", without data, for a text that this deployment did not make."""
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise _foreign() from None
        tag, body = raw[:_TAG_BYTES], raw[_TAG_BYTES:]
        plain = self._crypted(body, tag)
        if len(plain) <= FINGERPRINT_BYTES or self._tag(plain) != tag:
            raise _foreign()
        fingerprint, position = plain[:FINGERPRINT_BYTES], plain[FINGERPRINT_BYTES:]
        return Cursor(position[1:] if position[0] else None, fingerprint)

    def _tag(self, plain: bytes) -> bytes:
        return blake2b(plain, key=self._tag_key, digest_size=_TAG_BYTES).digest()

    def _crypted(self, data: bytes, tag: bytes) -> bytes:
        stream = b"".join(
            blake2b(tag + block.to_bytes(4, "big"), key=self._stream_key).digest()
            for block in range(-(-len(data) // 64))
        )
        length = len(data)
        return (int.from_bytes(data, "big") ^ int.from_bytes(stream[:length], "big")).to_bytes(length, "big")


def _foreign() -> CvxError:
    return CvxError(
        "InvalidCursor",
        "Failed to parse cursor: it was not made by this deployment.",
        hint="Start again from the first page, with cursor null.",
    )


def mismatched_cursor() -> CvxError:
    """The error for a cursor of another query, in the form that makes clients start again from page one."""
    return CvxError(
        "InvalidCursor",
        "InvalidCursor: Tried to run a query starting from a cursor, but it is from another query, "
        "or the index it used has changed.",
        hint="Start again from the first page, with cursor null.",
        data={"isConvexSystemError": True, "paginationError": "InvalidCursor"},
    )
