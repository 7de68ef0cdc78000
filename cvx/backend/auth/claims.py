"""From a token's claims to what `ctx.auth.getUserIdentity()` answers.

Rule: pure. What says nothing about the person (when the token was made, its own id) is left out, so that two
tokens of one person give one identity, and with it one cached result.

Source: reference/runtime-and-database.md §10; OpenID Connect Core 1.0 §5.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

_REGISTERED = frozenset({"iss", "sub", "aud", "exp", "nbf", "iat", "jti"})  # RFC 7519 §4.1.
_OIDC_OWN = frozenset(
    {"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "azp", "at_hash", "c_hash"}
)
_VOLATILE = frozenset({"fva", "jti", "nbf"})
_OURS = frozenset({"tokenIdentifier", "issuer", "subject"})
_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class ClaimTypeError(ValueError):
    """A standard claim holds something that it cannot mean."""

    def __init__(self, name: str, wanted: str) -> None:
        super().__init__(f"The claim '{name}' of the token is not {wanted}.")


def oidc_attributes(claims: Mapping[str, Any]) -> dict[str, Any]:
    """The identity of an OpenID Connect token. Raises ClaimTypeError."""
    attributes = _who(claims)
    for name, value in claims.items():
        if value is None or name in _OIDC_OWN or name in _VOLATILE:
            continue
        standard = _STANDARD.get(name)
        if standard is not None:
            attribute, read = standard
            read_value = read(name, value)
            if read_value is not None:
                attributes[attribute] = read_value
        elif name not in _OURS:
            attributes.setdefault(name, value)
    return attributes


def custom_attributes(claims: Mapping[str, Any]) -> dict[str, Any]:
    """The identity of a custom JWT: every claim of its own, objects flattened (`{"a": {"b": 1}}` → `"a.b": 1`)."""
    attributes = _who(claims)
    for name, value in claims.items():
        if name not in _REGISTERED and name not in _VOLATILE and name not in _OURS:
            _flatten(name, value, attributes)
    return attributes


def _who(claims: Mapping[str, Any]) -> dict[str, Any]:
    issuer, subject = claims["iss"], claims["sub"]
    return {"tokenIdentifier": f"{issuer}|{subject}", "issuer": issuer, "subject": subject}


def _flatten(name: str, value: Any, into: dict[str, Any]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _flatten(f"{name}.{key}", inner, into)
    elif value is not None:
        into[name] = value


# ------------------------------------------------------------------------------------------- standard claims


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ClaimTypeError(name, "a text")
    return value


def _truth(name: str, value: Any) -> bool:
    """Some providers write truth values as texts."""
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise ClaimTypeError(name, "true or false")
    return value


def _address(name: str, value: Any) -> str | None:
    """The address in one text: the member `formatted` of the standard's object."""
    if isinstance(value, dict):
        formatted = value.get("formatted")
        return None if formatted is None else _text(f"{name}.formatted", formatted)
    return _text(name, value)


def _time(name: str, value: Any) -> str:
    """RFC 3339, from Unix seconds or (as some providers have it) from RFC 3339."""
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value.strip().replace("Z", "+00:00").replace("z", "+00:00"))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            moment = _UNIX_EPOCH + timedelta(seconds=value)
        else:
            raise ClaimTypeError(name, "a time")
    except (ValueError, OverflowError):
        raise ClaimTypeError(name, "a time") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    precision = "seconds" if moment.microsecond == 0 else "microseconds" if moment.microsecond % 1000 else ""
    return moment.isoformat(timespec=precision or "milliseconds")


_STANDARD: Mapping[str, tuple[str, Callable[[str, Any], Any]]] = {
    "name": ("name", _text),
    "given_name": ("givenName", _text),
    "family_name": ("familyName", _text),
    "nickname": ("nickname", _text),
    "preferred_username": ("preferredUsername", _text),
    "profile": ("profileUrl", _text),
    "picture": ("pictureUrl", _text),
    "website": ("websiteUrl", _text),
    "email": ("email", _text),
    "email_verified": ("emailVerified", _truth),
    "gender": ("gender", _text),
    "birthdate": ("birthday", _text),
    "zoneinfo": ("timezone", _text),
    "locale": ("language", _text),
    "phone_number": ("phoneNumber", _text),
    "phone_number_verified": ("phoneNumberVerified", _truth),
    "address": ("address", _address),
    "updated_at": ("updatedAt", _time),
}
