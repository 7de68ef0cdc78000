"""Tokens that this deployment signs itself: `ctx.auth.signJwt`, and the development issuer's.

Both keys come from the instance secret, so there is nothing more to keep: the same data folder has the same keys, and
a new secret makes new ones. The two are apart, so that no function can make a token that the deployment believes to
be a developer's.

Source: reference/runtime-and-database.md §1.3 (signJwt).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from cvx.backend.auth.providers import Provider, normal_issuer
from cvx.backend.config import Limits
from cvx.errors import CvxError

if TYPE_CHECKING:
    from joserfc.jwk import ECKey

JWKS_PATH = "/.well-known/jwks.json"
DISCOVERY_PATH = "/.well-known/openid-configuration"
DEV_ISSUER_PATH = "/api/dev_issuer"
DEV_TOKEN_S = 86_400.0

_ALGORITHM = "ES256"
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # Of the curve P-256.
_RESERVED = frozenset({"iss", "iat", "exp", "nbf"})
_RESERVED_PREFIXES = ("convex", "cvx")


class TokenSigner:
    """One ES256 key. `purpose` sets keys of the same secret apart."""

    def __init__(self, instance_secret: str, purpose: str = "functions") -> None:
        self._seed = f"cvx token signing v1 {purpose}".encode()
        self._secret = instance_secret.encode()

    @cached_property
    def _key(self) -> ECKey:
        # Imported here: a backend that signs nothing does not wait for it.
        from cryptography.hazmat.primitives.asymmetric import ec
        from joserfc.jwk import ECKey

        wide = hmac.new(self._secret, self._seed, hashlib.sha512).digest()
        private = ec.derive_private_key(int.from_bytes(wide, "big") % (_ORDER - 1) + 1, ec.SECP256R1())
        bare = ECKey.import_key(private)
        public = {"kty": "EC", **{name: bare.as_dict(private=False)[name] for name in ("crv", "x", "y")}}
        kid = hashlib.sha256(msgspec.json.encode(public, order="sorted")).hexdigest()[:32]
        signing: ECKey = ECKey.import_key(private, {"kid": kid, "use": "sig", "alg": _ALGORITHM})
        return signing

    @cached_property
    def key_set(self) -> bytes:
        """The public key, as a JSON Web Key Set."""
        return msgspec.json.encode({"keys": [self._key.as_dict(private=False)]})

    def sign(self, issuer: str, claims: Mapping[str, Any], now_s: float, expires_in_s: float) -> str:
        """A token of `issuer` with these claims, valid from now on."""
        from joserfc import jws

        issued = int(now_s)
        payload = {**claims, "iss": issuer, "iat": issued, "exp": issued + int(expires_in_s)}
        header = {"alg": _ALGORITHM, "typ": "JWT", "kid": self._key.kid}
        return jws.serialize_compact(header, msgspec.json.encode(payload), self._key, algorithms=[_ALGORITHM])


def discovery_document(issuer: str, key_set_url: str) -> bytes:
    """What `/.well-known/openid-configuration` of an issuer says (OpenID Connect Discovery 1.0 §3)."""
    return msgspec.json.encode(
        {
            "issuer": issuer,
            "jwks_uri": key_set_url,
            "authorization_endpoint": f"{issuer}/authorize",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [_ALGORITHM],
        }
    )


def check_signed_claims(claims: Any, expires_in_s: Any, limits: Limits) -> dict[str, Any]:
    """What a function may have signed. Raises CvxError `InvalidJwtClaims`, `InvalidJwtExpiration`."""
    if claims is None:
        claims = {}
    if not isinstance(claims, dict):
        raise _bad_claims("they must be an object")
    for name in claims:
        if name in _RESERVED or name.lower().startswith(_RESERVED_PREFIXES):
            raise _bad_claims(f"'{name[:100]}' is reserved")
    size = len(msgspec.json.encode(claims))
    if size > limits.signed_claims_bytes_max:
        raise _bad_claims(f"they have {size} bytes; at most {limits.signed_claims_bytes_max} are allowed")
    is_number = isinstance(expires_in_s, (int, float)) and not isinstance(expires_in_s, bool)
    if not is_number or not 1 <= expires_in_s <= limits.signed_token_s_max:
        raise CvxError(
            "InvalidJwtExpiration",
            "Invalid argument `expiresInSeconds` for `auth.signJwt`: it must be a number from 1 to "
            f"{limits.signed_token_s_max:g}.",
            hint="Sign a new token when the old one has expired.",
        )
    return claims


def _bad_claims(why: str) -> CvxError:
    return CvxError("InvalidJwtClaims", f"Invalid argument `claims` for `auth.signJwt`: {why}.")


class DevIssuer:
    """The built-in issuer of tokens for local development. Only a backend that was started with it has one."""

    def __init__(self, instance_secret: str) -> None:
        self._signer = TokenSigner(instance_secret, "development issuer")

    @property
    def key_set(self) -> bytes:
        return self._signer.key_set

    @staticmethod
    def issuer(cloud_url: str) -> str:
        return cloud_url + DEV_ISSUER_PATH

    def provider(self, cloud_url: str) -> Provider:
        """Itself, as one more provider of the deployment; its identities look like OpenID Connect's."""
        return Provider(
            issuer=normal_issuer(self.issuer(cloud_url)),
            application_id=None,
            algorithms=frozenset({_ALGORITHM}),
            maps_standard_claims=True,
            keys=self.key_set,
        )

    def issue(
        self, cloud_url: str, subject: str, claims: Mapping[str, Any], now_s: float, expires_in_s: float
    ) -> str:
        """A token for `subject`. Raises CvxError `InvalidDevToken` for claims that only the issuer sets."""
        taken = sorted({"iss", "sub", "iat", "exp"} & set(claims))
        if taken:
            raise CvxError("InvalidDevToken", f"The claim '{taken[0]}' is set by the issuer.")
        audience = {} if "aud" in claims else {"aud": "convex"}
        return self._signer.sign(
            self.issuer(cloud_url), {**claims, **audience, "sub": subject}, now_s, expires_in_s
        )
