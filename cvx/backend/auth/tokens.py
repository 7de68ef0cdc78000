"""Checking user tokens: JSON Web Tokens of the deployment's identity providers.

A token is first read without believing it, to find the provider whose token it says it is; then its signature, and
only then its claims are checked. Every refusal has one of the codes `InvalidAuthHeader` (not a token that could be
checked), `NoAuthProvider` (nobody's token), `AuthProviderDiscoveryFailed` (its keys cannot be had) and
`Unauthenticated` (checked, and not valid).

Rules:
- The algorithm is the provider's choice, never the token's: a token with another one is refused before any key is
  looked at.
- No message repeats a token or its claims, beside its issuer, audience and key id.

Source: reference/runtime-and-database.md §10; RFC 7515, RFC 7519, RFC 8725.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.registry import Header

from cvx.backend.auth.claims import ClaimTypeError, custom_attributes, oidc_attributes
from cvx.backend.auth.identity import User, user_from_attributes
from cvx.backend.auth.key_sets import KeySets, VerifyingKey
from cvx.backend.auth.providers import Provider, select_provider
from cvx.backend.config import Limits
from cvx.errors import CvxError

_SECONDS_MAX = 1e15  # Beyond it nobody counts time.
ALGORITHMS = ("RS256", "ES256", "EdDSA")


@dataclass(frozen=True)
class UncheckedToken:
    """What a token says of itself."""

    text: str
    algorithm: str
    kid: str | None
    claims: dict[str, Any]
    issuer: str
    audiences: tuple[str, ...]


class TokenChecker:
    """Checks the tokens of one deployment. `providers` are those of the moment; `now_s` is Unix time."""

    def __init__(
        self,
        key_sets: KeySets,
        limits: Limits,
        providers: Callable[[], Sequence[Provider]],
        now_s: Callable[[], float],
    ) -> None:
        self._key_sets = key_sets
        self._limits = limits
        self._providers = providers
        self._now_s = now_s

    async def check(self, text: str) -> User:
        """The user whose token this is. Raises CvxError, see the module's docstring."""
        try:
            token = read_token(text, self._limits.auth_token_bytes_max)
            providers = self._providers()
            provider = select_provider(providers, token.issuer, token.audiences)
            if provider is None:
                raise _no_provider(token, providers)
            if token.algorithm not in provider.algorithms:
                allowed = " or ".join(sorted(provider.algorithms))
                raise _refused(f"The token is signed with '{token.algorithm[:20]}', not with {allowed}.")
            if token.kid is None and provider.jwks_url is not None:
                raise _unreadable("its header has no 'kid' to choose the key by")
            await self._check_signature(token, provider)
            expires_at = check_claims(token.claims, provider, self._now_s(), self._limits.auth_leeway_s)
            return _user(token, provider, expires_at)
        except RecursionError:
            raise _unreadable("its claims are nested too deeply") from None

    async def _check_signature(self, token: UncheckedToken, provider: Provider) -> None:
        keys = await self._key_sets.keys(provider, token.algorithm, token.kid)
        if not keys:
            named = "" if token.kid is None else f" with the id '{token.kid[:100]}'"
            raise _refused(
                f"The provider {provider.issuer} has no key{named} for {token.algorithm} that the token could be "
                "signed with."
            )
        if not any(_verifies(token, key) for key in keys):
            raise _refused("The signature of the token is not valid.")


def read_token(text: str, bytes_max: int) -> UncheckedToken:
    """A token's header and claims, not yet believed. Raises CvxError `InvalidAuthHeader`."""
    if len(text) > bytes_max:
        raise _unreadable(f"it is longer than {bytes_max} bytes")
    parts = text.split(".")
    if len(parts) != 3 or not all(parts):
        raise _unreadable("it should be three base64 parts joined by dots")
    header, claims = _json_object(parts[0], "header"), _json_object(parts[1], "payload")
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str):
        raise _unreadable("its header has no 'alg'")
    if kid is not None and not isinstance(kid, str):
        raise _unreadable("the 'kid' of its header is not a text")
    if "crit" in header:
        raise _unreadable("its header demands extensions ('crit') that are not known here")
    for name in ("iss", "sub"):
        value = claims.get(name)
        if not isinstance(value, str) or not value:
            raise _unreadable(f"it has no claim '{name}'")
    for name in ("exp", "nbf", "iat"):
        value = claims.get(name)
        if value is not None and not _is_time(value):
            raise _unreadable(f"its claim '{name}' is not a number of seconds")
    audience = claims.get("aud")
    listed = audience if isinstance(audience, list) else [] if audience is None else [audience]
    if not all(isinstance(item, str) for item in listed):
        raise _unreadable("its claim 'aud' is neither a text nor a list of texts")
    return UncheckedToken(text, algorithm, kid, claims, claims["iss"], tuple(listed))


def _is_time(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and abs(value) < _SECONDS_MAX


def check_claims(claims: dict[str, Any], provider: Provider, now_s: float, leeway_s: float) -> float:
    """From a token whose signature is valid: until when it holds. Raises CvxError `Unauthenticated`."""
    expires_at = claims.get("exp")
    if expires_at is None:
        raise _refused("The token has no claim 'exp': tokens must expire.")
    # OpenID Connect's clocks are exact; others are given a little time.
    holds_until = float(expires_at) + (0.0 if provider.maps_standard_claims else leeway_s)
    if now_s >= holds_until:
        raise _refused("The token has expired.")
    not_before = claims.get("nbf")
    if not_before is not None and now_s < not_before - leeway_s:
        raise _refused("The token is not valid yet ('nbf').")
    return holds_until


def _user(token: UncheckedToken, provider: Provider, expires_at: float) -> User:
    try:
        make = oidc_attributes if provider.maps_standard_claims else custom_attributes
        return user_from_attributes(make(token.claims), expires_at=expires_at, token=token.text)
    except ClaimTypeError as error:
        raise _unreadable(str(error)) from None


class _Registry(jws.JWSRegistry):
    """Which algorithms are verified, and how large a token's parts may be."""

    max_header_length = 1 << 24  # The whole token has its limit already.
    max_payload_length = 1 << 24

    def get_alg(self, name: str) -> Any:
        if name not in ALGORITHMS:
            raise JoseError(f"{name} is not verified here")
        return self.algorithms[name]

    def check_header(self, header: Header) -> None:
        """`read_token` did; header members that are unknown are allowed (RFC 7515 §4)."""


_registry = _Registry()


def _verifies(token: UncheckedToken, key: VerifyingKey) -> bool:
    try:
        jws.deserialize_compact(token.text, key, algorithms=[token.algorithm], registry=_registry)
    except (JoseError, ValueError):
        return False
    return True


def _json_object(part: str, what: str) -> dict[str, Any]:
    try:
        if part.rstrip("=") != part:
            raise ValueError
        raw = base64.b64decode(
            part.translate(_FROM_URL) + "=" * (-len(part) % 4),
            validate=True,
        )
        decoded = msgspec.json.decode(raw)
    except (binascii.Error, ValueError, UnicodeError):
        decoded = None
    if not isinstance(decoded, dict):
        raise _unreadable(f"its {what} is not base64 of a JSON object")
    return decoded


_FROM_URL = str.maketrans("-_+/", "+/!!")  # What plain base64 has instead is none of base64url's.


def _unreadable(why: str) -> CvxError:
    return CvxError(
        "InvalidAuthHeader",
        f"The bearer token is not a JWT that could be checked: {why}.",
        kind="unauthenticated",
        hint="Pass the token that the identity provider issued, as it is.",
    )


def _refused(why: str) -> CvxError:
    return CvxError(
        "Unauthenticated",
        f"Could not verify the token: {why}",
        kind="unauthenticated",
        hint="Get a new token from the identity provider.",
        retry_when="time",
    )


def _no_provider(token: UncheckedToken, providers: Sequence[Provider]) -> CvxError:
    audience = ", ".join(token.audiences) or "none"
    if providers:
        known = "; ".join(
            provider.issuer if provider.application_id is None
            else f"{provider.issuer} (applicationID {provider.application_id})"
            for provider in providers
        )  # fmt: skip
        why = f"there are {known}"
    else:
        why = "none is configured"
    return CvxError(
        "NoAuthProvider",
        f"No auth provider of this deployment matches the token (iss '{token.issuer[:200]}', aud "
        f"'{audience[:200]}'): {why[:500]}.",
        kind="unauthenticated",
        hint="Declare the token's issuer in convex/auth.config.ts and push.",
        retry_when="files",
    )
