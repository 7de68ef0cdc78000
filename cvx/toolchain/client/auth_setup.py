"""What the package @convex-dev/auth wants of a deployment: a key pair to sign its tokens with, and the site's address.

The same three variables, in the same form, that `npx @convex-dev/auth` sets. Nothing that is set already is changed
unless that was asked for: new keys sign everybody out.

Source: @convex-dev/auth (npm), src/cli.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from cvx.errors import CvxError

PRIVATE_KEY = "JWT_PRIVATE_KEY"
KEY_SET = "JWKS"
SITE_URL = "SITE_URL"


@dataclass(frozen=True)
class AuthSetup:
    """Variables to set, and those that are as they should be."""

    changes: dict[str, str]
    kept: tuple[str, ...]


def plan_auth_setup(
    current: Mapping[str, str], *, site_url: str | None, default_site_url: str | None, rotate: bool
) -> AuthSetup:
    """What is to be set. `site_url` is what was asked for, `default_site_url` what is set when nothing is.

    Raises CvxError `AuthKeysIncomplete` when one of the two keys is set without the other, `UsageError` for an
    address that is none.
    """
    changes: dict[str, str] = {}
    present = [name for name in (PRIVATE_KEY, KEY_SET) if current.get(name)]
    if len(present) == 1 and not rotate:
        missing = KEY_SET if present[0] == PRIVATE_KEY else PRIVATE_KEY
        raise CvxError(
            "AuthKeysIncomplete",
            f"{present[0]} is set and {missing} is not: they are made together.",
            kind="conflict",
            hint="Run `cvx auth setup --force` to make a new pair, which signs everybody out.",
        )
    if not present or rotate:
        changes |= make_auth_keys()
    wanted = site_url if site_url is not None else default_site_url
    if (site_url is not None or not current.get(SITE_URL)) and wanted is not None:
        _check_url(wanted)
        if current.get(SITE_URL) != wanted:
            changes[SITE_URL] = wanted
    kept = tuple(
        name for name in (PRIVATE_KEY, KEY_SET, SITE_URL) if current.get(name) and name not in changes
    )
    return AuthSetup(changes, kept)


def make_auth_keys() -> dict[str, str]:
    """A new RSA key pair: PKCS #8 with its lines joined by blanks, and the public half as a key set."""
    from joserfc.jwk import RSAKey

    key = RSAKey.generate_key(2048, private=True)
    public = key.as_dict(private=False)
    key_set = {"keys": [{"use": "sig", **{name: public[name] for name in ("kty", "n", "e")}}]}
    pem = key.as_pem(private=True).decode().rstrip()
    return {PRIVATE_KEY: pem.replace("\n", " "), KEY_SET: msgspec.json.encode(key_set).decode()}


def _check_url(text: str) -> None:
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise CvxError(
            "UsageError",
            f"{text!r} is not the address of a web site.",
            hint="Pass for example --site-url http://localhost:5173.",
        )
