"""Issue and check admin keys.

Key text: `<instance name>|<hex>`, hex = version 01 ‖ flags ‖ issued (u64 seconds) ‖ 16 random bytes ‖
HMAC-SHA256 (32 bytes) over version..random and the instance name, keyed by a key derived from the instance
secret. Clients treat everything after `|` as opaque (cli-and-deploy.md §6), so the scheme is our own.

Rule: nothing here logs or repeats a key; errors name the instance only.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time

from cvx.backend.auth.identity import Admin, User
from cvx.errors import CvxError

_VERSION = 1
_FLAG_READ_ONLY = 1
_BODY_BYTES = 1 + 1 + 8 + 16
_TAG_BYTES = 32

# Cloud keys carry what kind of deployment they are for; it is no part of the instance name.
_TYPE_PREFIXES = ("prod:", "dev:", "preview:", "project:", "custom:")


def new_instance_secret() -> str:
    """32 random bytes in hex."""
    return secrets.token_hex(32)


def issue_admin_key(
    instance_name: str, instance_secret: str, *, read_only: bool = False, issued_s: int | None = None
) -> str:
    """A new admin key of this instance. Keys do not expire; changing the secret revokes all of them."""
    issued = int(time.time()) if issued_s is None else issued_s
    flags = _FLAG_READ_ONLY if read_only else 0
    body = bytes([_VERSION, flags]) + issued.to_bytes(8, "big") + secrets.token_bytes(16)
    return f"{instance_name}|{(body + _tag(instance_name, instance_secret, body)).hex()}"


def check_admin_key(
    key: str, instance_name: str, instance_secret: str, *, acting_as: User | None = None
) -> Admin:
    """The admin this key stands for.

    Raises CvxError `BadDeployKey` (403) for a key that is malformed, truncated, of another instance or not
    made with this instance's secret: from outside the four look alike on purpose.
    """
    name, separator, text = strip_type_prefix(key).partition("|")
    if not separator:
        # A bare hex part is accepted, as the instance is implied by where it was sent.
        name, text = instance_name, name
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raise bad_deploy_key(instance_name) from None
    if len(raw) != _BODY_BYTES + _TAG_BYTES or name != instance_name:
        raise bad_deploy_key(instance_name)
    body, tag = raw[:_BODY_BYTES], raw[_BODY_BYTES:]
    if not hmac.compare_digest(tag, _tag(instance_name, instance_secret, body)) or body[0] != _VERSION:
        raise bad_deploy_key(instance_name)
    return Admin(acting_as=acting_as, read_only=bool(body[1] & _FLAG_READ_ONLY))


def strip_type_prefix(key: str) -> str:
    """`prod:name|hex` → `name|hex`; `preview:team:project|hex` → `hex` (values-and-sync.md §5)."""
    if key.startswith(("preview:", "project:")):
        return key.rpartition("|")[2]
    for prefix in _TYPE_PREFIXES:
        if key.startswith(prefix):
            return key[len(prefix) :]
    return key


def bad_deploy_key(instance_name: str) -> CvxError:
    return CvxError(
        "BadDeployKey",
        f"The admin key is not valid for deployment '{instance_name}'. "
        "It may belong to another deployment, be cut short, or have been revoked.",
        kind="forbidden",
        hint="Print this deployment's key with `cvx backend key`.",
        retry_when="env",
    )


def read_only_key() -> CvxError:
    return CvxError(
        "ReadOnlyAdminKey",
        "This admin key may only read; the operation needs a key that may write.",
        kind="forbidden",
        hint="Use the deployment's full admin key.",
        retry_when="env",
    )


def _tag(instance_name: str, instance_secret: str, body: bytes) -> bytes:
    key = hmac.new(instance_secret.encode(), b"cvx admin key v1", hashlib.sha256).digest()
    return hmac.new(key, body + instance_name.encode(), hashlib.sha256).digest()
