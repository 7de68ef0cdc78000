"""The identity providers that auth.config.ts declares.

Rule: pure.

Source: reference/cli-and-deploy.md §2.7 (appAuth), §2.11.
"""

from __future__ import annotations

from typing import Any

import msgspec

from cvx.backend.deploy.errors import push_error
from cvx.errors import CvxError
from cvx.protocol.push import AuthProvider


def auth_providers(text: str | None) -> tuple[AuthProvider, ...]:
    """The identity providers of an auth config, in the form start_push answers."""
    if text is None:
        return ()
    config = msgspec.json.decode(text)
    listed = config.get("providers") if isinstance(config, dict) else None
    if not isinstance(listed, list):
        raise _bad_auth_config("the default export must be an object with an array 'providers'")
    return tuple(_provider(item, at) for at, item in enumerate(listed))


def _provider(item: Any, at: int) -> AuthProvider:
    where = f"providers[{at}]"
    if not isinstance(item, dict):
        raise _bad_auth_config(f"{where} must be an object")
    custom = item.get("type") == "customJwt"
    if "type" in item and not custom and item["type"] != "oidc":
        raise _bad_auth_config(f'{where}.type must be "customJwt" or absent')
    needed = ("issuer", "jwks", "algorithm") if custom else ("domain", "applicationID")
    for name in needed:
        if not isinstance(item.get(name), str):
            raise _bad_auth_config(f"{where}.{name} must be a string")
    known = {*needed, "type", "applicationID"}
    unknown = sorted(set(item) - known)
    if unknown:
        raise _bad_auth_config(f"{where} has a key that means nothing here: {unknown[0]}")
    if not custom:
        return AuthProvider(application_id=item["applicationID"], domain=item["domain"])
    if item["algorithm"] not in ("RS256", "ES256"):
        raise _bad_auth_config(f'{where}.algorithm must be "RS256" or "ES256"')
    application = item.get("applicationID")
    if application is not None and not isinstance(application, str):
        raise _bad_auth_config(f"{where}.applicationID must be a string")
    return AuthProvider(
        type="customJwt", application_id=application, issuer=item["issuer"], jwks=item["jwks"],
        algorithm=item["algorithm"],
    )  # fmt: skip


def _bad_auth_config(why: str) -> CvxError:
    return push_error(
        "InvalidAuthConfig", f"The auth config is not valid: {why}.", hint="Correct auth.config.ts."
    )
