"""Upload tokens: leave to send one file, for a while, to one component of this deployment.

Token text: base64url (unpadded) of version 01 ‖ issued (u64 milliseconds) ‖ component path ‖ HMAC-SHA256 (32 bytes) over
all of that and the instance name, keyed by a key derived from the instance secret. A token may be used more than once.

Source: reference/runtime-and-database.md §8; values-and-sync.md §5.1.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from cvx.errors import CvxError

_VERSION = b"\x01"
_TAG_BYTES = 32
_HEAD_BYTES = 1 + 8


class UploadTokens:
    """Issues and checks the upload tokens of one deployment. Times are milliseconds since 1970."""

    def __init__(self, instance_name: str, instance_secret: str, lifetime_s: float) -> None:
        self._name = instance_name.encode()
        self._key = hmac.new(instance_secret.encode(), b"cvx upload token v1", hashlib.sha256).digest()
        self._lifetime_ms = lifetime_s * 1000.0

    def issue(self, component: str, now_ms: float) -> str:
        """A token that is good from now on."""
        body = _VERSION + int(now_ms).to_bytes(8, "big") + component.encode()
        return base64.urlsafe_b64encode(body + self._tag(body)).decode().rstrip("=")

    def check(self, token: str, now_ms: float) -> str:
        """The component it is for. Raises CvxError "StorageTokenInvalid" and "StorageTokenExpired" (401)."""
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise _invalid() from None
        body, tag = raw[:-_TAG_BYTES], raw[-_TAG_BYTES:]
        if len(body) < _HEAD_BYTES or body[:1] != _VERSION or not hmac.compare_digest(tag, self._tag(body)):
            raise _invalid()
        if now_ms > int.from_bytes(body[1:_HEAD_BYTES], "big") + self._lifetime_ms:
            raise CvxError(
                "StorageTokenExpired",
                f"This upload URL is older than {self._lifetime_ms / 1000:.0f} seconds.",
                kind="unauthenticated",
                hint="Ask for a new URL with ctx.storage.generateUploadUrl() right before each upload.",
            )
        return body[_HEAD_BYTES:].decode()

    def _tag(self, body: bytes) -> bytes:
        return hmac.new(self._key, body + self._name, hashlib.sha256).digest()


def _invalid() -> CvxError:
    return CvxError(
        "StorageTokenInvalid",
        "This upload URL is not one of this deployment, or is cut short.",
        kind="unauthenticated",
        hint="Use the URL exactly as ctx.storage.generateUploadUrl() returned it.",
    )
