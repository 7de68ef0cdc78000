"""`ctx.auth.signJwt`: a token of the deployment's own, which anybody can check against its public key set.

Source: reference/runtime-and-database.md §1.3 (signJwt).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from cvx.backend.auth import check_signed_claims
from cvx.backend.functions.checks import decode_syscall
from cvx.errors import CvxError

if TYPE_CHECKING:
    from cvx.backend.functions.syscalls import FunctionHost


class _SignArgs(msgspec.Struct):
    claims: Any = None
    expiresInSeconds: Any = None


_sign_args = msgspec.json.Decoder(_SignArgs)


def sign_jwt(host: FunctionHost, raw: bytes) -> bytes:
    """The token, as JSON text. Its time is the mutation's, so an attempt that is run again may sign it again."""
    args = decode_syscall(_sign_args, raw, "auth.signJwt")
    if not host.writable:
        raise CvxError("InvalidFunctionCall", "`auth.signJwt` is available in mutations only.")
    call = host.call
    claims = check_signed_claims(args.claims, args.expiresInSeconds, call.services.limits)
    cloud_url = call.environment.variables["CONVEX_CLOUD_URL"]
    issuer = f"{cloud_url}/components/{host.component}" if host.component else cloud_url
    token = call.services.signer.sign(issuer, claims, call.tx.begin_time / 1e9, args.expiresInSeconds)
    return msgspec.json.encode(token)
