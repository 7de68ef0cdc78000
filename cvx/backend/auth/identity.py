"""Who is calling.

An identity is a value: frozen, comparable, and with a `cache_key` under which a query that looked at its
caller may be cached (two identities with one key must be indistinguishable to user code).

Source: reference/runtime-and-database.md §5.1 (cache key), §10 (attributes); values-and-sync.md §5.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec

from cvx.errors import CvxError

# Claims that change with every token of the same user; they are no part of who the user is.
VOLATILE_CLAIMS = frozenset({"fva", "jti", "nbf"})

_encoder = msgspec.json.Encoder(order="sorted")


@dataclass(frozen=True, slots=True)
class Anonymous:
    """Nobody in particular. `error` is set when an HTTP action got a header that did not check out:
    asking who the caller is then raises it (runtime-and-database.md §10)."""

    error: CvxError | None = field(default=None, compare=False)

    @property
    def is_admin(self) -> bool:
        return False

    def cache_key(self) -> bytes:
        return (
            b"?"
            if self.error is None
            else b"?" + self.error.code.encode() + b":" + self.error.message.encode()
        )


@dataclass(frozen=True, slots=True)
class User:
    """A person with a checked token, or the person an admin acts as. Made by `user_from_attributes`."""

    json: bytes
    """The JSON object `ctx.auth.getUserIdentity()` resolves to."""
    key: bytes
    """`json` with sorted keys and without volatile claims: the identity proper."""
    expires_at: float | None = None
    """Unix seconds after which the token must be checked again; None when an admin vouches."""
    token: str | None = field(default=None, compare=False, repr=False)
    """The token itself, as the caller sent it."""

    @property
    def is_admin(self) -> bool:
        return False

    def cache_key(self) -> bytes:
        return b"u" + self.key


@dataclass(frozen=True, slots=True)
class Admin:
    """A holder of the deployment's admin key, possibly acting as a user."""

    acting_as: User | None = None
    read_only: bool = False

    @property
    def is_admin(self) -> bool:
        return True

    def cache_key(self) -> bytes:
        # To user code an admin acting as a user is that user.
        return b"a" if self.acting_as is None else self.acting_as.cache_key()


@dataclass(frozen=True, slots=True)
class System:
    """The backend itself: schedulers, pushes, clean-up."""

    @property
    def is_admin(self) -> bool:
        return True

    def cache_key(self) -> bytes:
        return b"s"


Identity: TypeAlias = "Anonymous | User | Admin | System"

ANONYMOUS = Anonymous()
SYSTEM = System()


def user_from_attributes(
    attributes: dict[str, Any], *, expires_at: float | None = None, token: str | None = None
) -> User:
    """A user from identity attributes: `tokenIdentifier`, or `issuer` and `subject` from which it is made.

    Raises CvxError `HeaderParseFailure` (400) when neither is there: such a user would be nobody.
    """
    filled = dict(attributes)
    issuer, subject = filled.get("issuer"), filled.get("subject")
    token_identifier = filled.get("tokenIdentifier")
    if not isinstance(token_identifier, str):
        if not (isinstance(issuer, str) and isinstance(subject, str)):
            raise CvxError(
                "HeaderParseFailure",
                "The identity to act as needs tokenIdentifier, or issuer and subject, as strings.",
                hint='Pass for example {"issuer": "https://example.com", "subject": "user1"}.',
            )
        filled["tokenIdentifier"] = f"{issuer}|{subject}"
    elif not (isinstance(issuer, str) and isinstance(subject, str)) and "|" in token_identifier:
        made_issuer, made_subject = token_identifier.split("|", 1)
        filled.setdefault("issuer", made_issuer)
        filled.setdefault("subject", made_subject)
    present = {name: value for name, value in filled.items() if value is not None}
    key = _encoder.encode({name: value for name, value in present.items() if name not in VOLATILE_CLAIMS})
    return User(json=_encoder.encode(present), key=key, expires_at=expires_at, token=token)


def user_of(identity: Identity) -> User | None:
    """The user that user code sees: the caller, or whom the admin acts as; None for nobody.

    Raises the error an `Anonymous` carries.
    """
    if type(identity) is User:
        return identity
    if type(identity) is Admin:
        return identity.acting_as
    if type(identity) is Anonymous and identity.error is not None:
        raise identity.error
    return None


def token_of(identity: Identity) -> str | None:
    """The token that the caller signed in with; None for nobody, and for admins."""
    return identity.token if type(identity) is User else None


def identity_type(identity: Identity) -> str:
    """How the function log names the kind of caller (runtime-and-database.md §12)."""
    if isinstance(identity, Admin):
        return "instance_admin" if identity.acting_as is None else "member_acting_user"
    if isinstance(identity, User):
        return "user"
    return "system" if isinstance(identity, System) else "unknown"
