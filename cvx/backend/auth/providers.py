"""Who may issue tokens for this deployment: the providers of auth.config.ts, and the built-in development issuer.

Rule: pure. Issuers are compared in a normal form, so that `https://` left out or a slash at the end make no
difference; what user code sees as issuer is what the token says.

Source: reference/runtime-and-database.md §10; cli-and-deploy.md §2.7 (appAuth).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

OIDC_ALGORITHMS = frozenset({"RS256", "EdDSA"})


@dataclass(frozen=True)
class Provider:
    """One issuer that is believed. `issuer` is in normal form.

    Its keys are found by discovery (`jwks_url` and `keys` None), at `jwks_url`, or are `keys` themselves, the text of
    a key set. `maps_standard_claims`: identities get OpenID Connect's names (`given_name` → `givenName`); else
    claims keep theirs, and nested ones become dotted.
    """

    issuer: str
    application_id: str | None
    algorithms: frozenset[str]
    maps_standard_claims: bool
    jwks_url: str | None = None
    keys: bytes | None = None

    def accepts_audience(self, audiences: Collection[str]) -> bool:
        return self.application_id is None or self.application_id in audiences


def provider_of(declared: Mapping[str, Any]) -> Provider:
    """A provider as a push stores it."""
    if declared.get("type") == "customJwt":
        return Provider(
            issuer=normal_issuer(declared["issuer"]),
            application_id=declared.get("applicationID"),
            algorithms=frozenset({declared["algorithm"]}),
            maps_standard_claims=False,
            jwks_url=with_scheme(declared["jwks"]),
        )
    return Provider(
        issuer=normal_issuer(declared["domain"]),
        application_id=declared.get("applicationID"),
        algorithms=OIDC_ALGORITHMS,
        maps_standard_claims=True,
    )


def select_provider(
    providers: Iterable[Provider], issuer: str, audiences: Collection[str]
) -> Provider | None:
    """The first provider whose token this can be, by what it says of itself."""
    wanted = normal_issuer(issuer)
    for provider in providers:
        if provider.issuer == wanted and provider.accepts_audience(audiences):
            return provider
    return None


def normal_issuer(text: str) -> str:
    """The form in which issuers are compared: with scheme and host in lower case, without a slash at the end."""
    url = with_scheme(text)
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    return parts._replace(scheme=parts.scheme.lower(), netloc=parts.netloc.lower()).geturl().rstrip("/")


def with_scheme(text: str) -> str:
    """`auth.example.com` means `https://auth.example.com`. A `data:` URL stays what it is."""
    stripped = text.strip()
    has_scheme = "://" in stripped or stripped[:5].lower() == "data:"
    return stripped if has_scheme else f"https://{stripped}"
