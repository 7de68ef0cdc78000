"""From an Authorization header, a query parameter or a socket's token to an `Identity`.

Parsing is apart from checking: a header that cannot be parsed is the client's mistake (400), a key or token
that does not check out is a refusal (401 here; 403 where a request must be an admin's).

Source: reference/values-and-sync.md §4.7, §5; cli-and-deploy.md §6.
"""

from __future__ import annotations

import base64
import binascii
import time
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from cvx.backend.auth.admin_keys import bad_deploy_key, check_admin_key, read_only_key, strip_type_prefix
from cvx.backend.auth.identity import (
    ANONYMOUS,
    Admin,
    Anonymous,
    Identity,
    System,
    user_from_attributes,
)
from cvx.backend.auth.user_tokens import UserTokenChecks
from cvx.backend.config import Limits
from cvx.errors import DETERMINISTIC_KINDS, CvxError

_SCHEME_CHARS = 7  # len("convex ") == len("bearer ")


@dataclass(frozen=True, slots=True)
class Token:
    """What the caller presented, parsed but not believed."""

    kind: Literal["none", "admin", "user"]
    value: str = ""
    acting_as: dict[str, Any] | None = None


NO_TOKEN = Token("none")


def parse_authorization(header: str | None) -> Token:
    """An Authorization header's token.

    Raises CvxError (400) `InvalidHeaderFailure` (shorter than a scheme), `InvalidAdminKey` (unknown scheme)
    or `HeaderParseFailure` (the user to act as is not base64 of a JSON object).
    """
    if header is None:
        return NO_TOKEN
    if len(header) < _SCHEME_CHARS:
        raise CvxError("InvalidHeaderFailure", "The Authorization header is too short to name a scheme.")
    scheme, rest = header[:_SCHEME_CHARS].lower(), header[_SCHEME_CHARS:].strip()
    if scheme == "bearer ":
        return Token("user", rest)
    if scheme != "convex ":
        raise CvxError(
            "InvalidAdminKey",
            "The Authorization header has neither the scheme Convex (admin key) nor Bearer (user token).",
        )
    key, separator, acting = strip_type_prefix(rest).partition(":")
    return Token("admin", key, _attributes(acting) if separator else None)


def _attributes(text: str) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, msgspec.DecodeError):
        decoded = None
    if not isinstance(decoded, dict):
        raise CvxError(
            "HeaderParseFailure",
            "The part of the Authorization header after the admin key is not base64 of a JSON object.",
        )
    return decoded


class Authenticator:
    """Checks admin keys of one instance, and has `user_tokens` check the rest."""

    def __init__(
        self, instance_name: str, instance_secret: str, user_tokens: UserTokenChecks | None = None
    ) -> None:
        self.instance_name = instance_name
        self._instance_secret = instance_secret
        self._user_tokens = user_tokens or UserTokenChecks(Limits(), lambda: (), time.time)

    async def authenticate(self, token: Token) -> Identity:
        """Who presented this token. Raises CvxError of kind unauthenticated (401) for a bad one."""
        if token.kind == "none":
            return ANONYMOUS
        if token.kind == "admin":
            acting_as = None if token.acting_as is None else user_from_attributes(token.acting_as)
            try:
                return check_admin_key(
                    token.value, self.instance_name, self._instance_secret, acting_as=acting_as
                )
            except CvxError as error:
                raise CvxError(
                    "BadAdminKey", error.message, kind="unauthenticated", hint=error.hint, retry_when="env"
                ) from None
        return await self._user_tokens.check(token.value)

    async def from_header(self, header: str | None, *, admin_key: str | None = None) -> Identity:
        """`authenticate` for an HTTP request: its Authorization header, else its `adminKey` parameter."""
        token = parse_authorization(header)
        if token.kind == "none" and admin_key is not None:
            token = Token("admin", strip_type_prefix(admin_key))
        return await self.authenticate(token)

    async def from_header_or_error(self, header: str | None) -> Identity:
        """For HTTP actions: a header that does not check out is an unknown caller who carries the error."""
        try:
            return await self.from_header(header)
        except CvxError as error:
            if error.kind in DETERMINISTIC_KINDS:
                return Anonymous(error)
            # User code is told, and may catch it, also when it is the provider that cannot be reached.
            return Anonymous(CvxError(error.code, error.message, kind="unauthenticated", hint=error.hint))

    def admin(self, key: str) -> Admin:
        """The admin of a key in a request body. Raises CvxError `BadDeployKey` (403)."""
        return check_admin_key(key, self.instance_name, self._instance_secret)

    def require_admin(self, identity: Identity, *, write: bool = False) -> Identity:
        """The identity, if an admin's (that may write); else raises `BadDeployKey` / `ReadOnlyAdminKey`."""
        if isinstance(identity, System):
            return identity
        if not isinstance(identity, Admin):
            raise bad_deploy_key(self.instance_name)
        if write and identity.read_only:
            raise read_only_key()
        return identity
