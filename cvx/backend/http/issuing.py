"""Tokens that the deployment issues: its public keys, and the development issuer where it is switched on.

Source: reference/runtime-and-database.md §1.3 (signJwt); cli-and-deploy.md §6.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
from starlette.responses import Response

from cvx.backend.auth import DEV_TOKEN_S, JWKS_PATH, DevIssuer, discovery_document
from cvx.backend.http.middleware import Call, JsonResponse
from cvx.errors import CvxError

_KEPT = {"cache-control": "public, max-age=300, stale-if-error=86400"}


class DevTokenRequest(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """Whom a token is for, what else it says, and how many seconds it holds."""

    subject: str
    claims: dict[str, Any] = {}
    expires_in_seconds: float = DEV_TOKEN_S


async def key_set(call: Call) -> Response:
    """GET /.well-known/jwks.json: the public keys of `ctx.auth.signJwt`."""
    return JsonResponse(call.services.issuing.signer.key_set, headers=_KEPT)


async def discovery(call: Call) -> Response:
    """GET /.well-known/openid-configuration: the same, as OpenID Connect clients look for it."""
    cloud_url = call.services.issuing.urls().cloud
    return JsonResponse(discovery_document(cloud_url, cloud_url + JWKS_PATH), headers=_KEPT)


async def dev_discovery(call: Call) -> Response:
    """GET /api/dev_issuer/.well-known/openid-configuration."""
    issuer = _dev_issuer(call).issuer(call.services.issuing.urls().cloud)
    return JsonResponse(discovery_document(issuer, issuer + JWKS_PATH), headers=_KEPT)


async def dev_key_set(call: Call) -> Response:
    """GET /api/dev_issuer/.well-known/jwks.json."""
    return JsonResponse(_dev_issuer(call).key_set, headers=_KEPT)


async def dev_token(call: Call) -> Response:
    """POST /api/dev_issuer/token: a token for anybody one likes to be. Admins only."""
    await call.admin(write=True)
    issuer, services = _dev_issuer(call), call.services
    body = await call.json(DevTokenRequest)
    most_s = services.config.limits.dev_token_s_max
    if not body.subject:
        raise CvxError("InvalidDevToken", "The subject of a token must not be empty.")
    if not math.isfinite(body.expires_in_seconds) or not 1 <= body.expires_in_seconds <= most_s:
        raise CvxError("InvalidDevToken", f"A token holds from 1 to {most_s:.0f} seconds.")
    now_s = services.db.clock.now_ns() / 1e9
    cloud_url = services.issuing.urls().cloud
    token = issuer.issue(cloud_url, body.subject, body.claims, now_s, body.expires_in_seconds)
    answer = {
        "token": token,
        "issuer": issuer.issuer(cloud_url),
        "subject": body.subject,
        "expiresAt": int(now_s) + int(body.expires_in_seconds),
    }
    return JsonResponse(msgspec.json.encode(answer), headers={"cache-control": "no-store"})


def _dev_issuer(call: Call) -> DevIssuer:
    issuer = call.services.issuing.dev_issuer
    if issuer is None:
        raise CvxError(
            "DevIssuerDisabled",
            "This backend was started without the issuer of development tokens.",
            kind="not_found",
            hint="Start it with `cvx backend serve --dev-issuer`, never where strangers can hold its admin key.",
            retry_when="env",
        )
    return issuer
