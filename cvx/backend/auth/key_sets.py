"""The keys that a provider signs with: by discovery, at an address, in a `data:` URL, or given.

Rule: a key serves only the algorithm asked for. What else a key set holds (other kinds of keys, keys for encryption,
keys that are too short) is passed over, and so can confuse nothing.

Source: reference/runtime-and-database.md §10; RFC 7517; OpenID Connect Discovery 1.0 §4.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import Any, TypeAlias
from urllib.parse import unquote_to_bytes

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from cvx.backend.auth.providers import Provider, normal_issuer
from cvx.backend.auth.web_documents import Document, FetchFailed, WebDocuments
from cvx.backend.config import Limits
from cvx.errors import CvxError

VerifyingKey: TypeAlias = "RSAKey | ECKey | OKPKey"

_DISCOVERY_PATH = "/.well-known/openid-configuration"
_RSA_BITS_MIN = 2048


class _Discovery(msgspec.Struct):
    issuer: str
    jwks_uri: str


class _KeySetJson(msgspec.Struct):
    keys: list[dict[str, Any]]


class KeySets:
    """The keys of all providers of one backend."""

    def __init__(self, documents: WebDocuments, limits: Limits) -> None:
        self._documents = documents
        self._limits = limits

    async def keys(self, provider: Provider, algorithm: str, kid: str | None) -> list[VerifyingKey]:
        """The keys a token of this algorithm and key id can have been signed with; none when there is no such key.

        A key id that the held key set does not know has it fetched again, at most every `auth_refetch_s`: the
        provider may have changed its keys. Raises CvxError `AuthProviderDiscoveryFailed`.
        """
        if provider.keys is not None:
            return self._parse(provider.keys, provider).choose(algorithm, kid)
        try:
            if provider.jwks_url is not None and provider.jwks_url[:5].lower() == "data:":
                return self._parse(_data(provider.jwks_url), provider).choose(algorithm, kid)
            url = provider.jwks_url or await self._discover(provider)
            document = await self._documents.get(url)
            found = self._parsed(document, provider).choose(algorithm, kid)
            if found:
                return found
            now_s = asyncio.get_running_loop().time()
            if document.fetched_s > now_s - self._limits.auth_refetch_s:
                return []
            document = await self._documents.get(url, fetched_after_s=document.fetched_s)
            return self._parsed(document, provider).choose(algorithm, kid)
        except FetchFailed as failure:
            raise _failed(provider, failure.why, passing=failure.passing) from None

    async def _discover(self, provider: Provider) -> str:
        """Where the provider says that its keys are."""
        document = await self._documents.get(provider.issuer + _DISCOVERY_PATH)
        try:
            found = msgspec.json.decode(document.body, type=_Discovery)
        except msgspec.MsgspecError as error:
            why = f"{provider.issuer}{_DISCOVERY_PATH} is not a discovery document: {error}"
            raise _failed(provider, why) from None
        if normal_issuer(found.issuer) != provider.issuer:
            raise _failed(provider, f"it says that its issuer is '{found.issuer[:200]}'")
        return found.jwks_uri

    def _parsed(self, document: Document, provider: Provider) -> _KeySet:
        """The key set of a document, kept with it."""
        if _PARSED not in document.parsed:
            document.parsed[_PARSED] = self._parse(document.body, provider)
        found: _KeySet = document.parsed[_PARSED]
        return found

    def _parse(self, text: bytes, provider: Provider) -> _KeySet:
        try:
            keys = msgspec.json.decode(text, type=_KeySetJson).keys
        except (msgspec.MsgspecError, RecursionError) as error:
            raise _failed(provider, f"its key set is not a JSON Web Key Set: {error}") from None
        if len(keys) > self._limits.auth_keys_max:
            raise _failed(provider, f"its key set has more than {self._limits.auth_keys_max} keys")
        return _KeySet(keys)


_PARSED = "keys"


class _KeySet:
    """A key set as it was published; keys are imported when a token first needs them."""

    def __init__(self, keys: list[dict[str, Any]]) -> None:
        self._keys = keys
        self._imported: dict[tuple[int, str], VerifyingKey | None] = {}

    def choose(self, algorithm: str, kid: str | None) -> list[VerifyingKey]:
        """The keys with this id (None: with any or none) that verify this algorithm."""
        found = []
        for position, json in enumerate(self._keys):
            if kid is not None and json.get("kid") != kid:
                continue
            place = (position, algorithm)
            if place not in self._imported:
                self._imported[place] = _import(json, algorithm)
            key = self._imported[place]
            if key is not None:
                found.append(key)
        return found


def _import(json: dict[str, Any], algorithm: str) -> VerifyingKey | None:
    """The key, if it verifies this algorithm."""
    if json.get("use", "sig") != "sig" or json.get("alg", algorithm) not in _names(algorithm):
        return None
    operations = json.get("key_ops")
    if operations is not None and (not isinstance(operations, list) or "verify" not in operations):
        return None
    # Nothing but what makes the public key: certificates beside it are not looked at.
    parts = {name: value for name, value in json.items() if name in ("kty", "n", "e", "crv", "x", "y", "kid")}
    imported: VerifyingKey | None = None
    try:
        if algorithm == "RS256" and parts.get("kty") == "RSA":
            rsa = RSAKey.import_key(parts)
            return rsa if rsa.public_key.key_size >= _RSA_BITS_MIN else None
        if algorithm == "ES256" and parts.get("kty") == "EC" and parts.get("crv") == "P-256":
            imported = ECKey.import_key(parts)
        if algorithm == "EdDSA" and parts.get("kty") == "OKP" and parts.get("crv") == "Ed25519":
            imported = OKPKey.import_key(parts)
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        return None  # A key that is none, among others that may be.
    return imported


def _names(algorithm: str) -> tuple[str, ...]:
    return (algorithm, "Ed25519") if algorithm == "EdDSA" else (algorithm,)


def _data(url: str) -> bytes:
    """The content of a `data:` URL (RFC 2397), whatever type it names. Raises FetchFailed."""
    header, comma, content = url[5:].partition(",")
    if not comma:
        raise FetchFailed("its data: URL has no comma", passing=False)
    raw = unquote_to_bytes(content)
    if not header.lower().endswith(";base64"):
        return raw
    try:
        text = raw.strip().rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise FetchFailed("its data: URL is not base64", passing=False) from None


def _failed(provider: Provider, why: str, *, passing: bool = False) -> CvxError:
    where = provider.jwks_url if provider.jwks_url is not None else provider.issuer
    return CvxError(
        "AuthProviderDiscoveryFailed",
        f"Auth provider discovery of {where[:200]} failed: {why}",
        kind="unavailable" if passing else "unauthenticated",
        hint="Check that the address in convex/auth.config.ts is right and can be reached from the backend.",
        retry_when="time" if passing else "files",
    )
