"""Who is calling: identities, admin keys, user tokens, and the way from a header to an identity."""

from cvx.backend.auth.admin_keys import (
    bad_deploy_key,
    check_admin_key,
    issue_admin_key,
    new_instance_secret,
    read_only_key,
)
from cvx.backend.auth.authenticator import NO_TOKEN, Authenticator, Token, parse_authorization
from cvx.backend.auth.identity import (
    ANONYMOUS,
    SYSTEM,
    Admin,
    Anonymous,
    Identity,
    System,
    User,
    identity_type,
    token_of,
    user_from_attributes,
    user_of,
)
from cvx.backend.auth.instance import Instance, load_instance
from cvx.backend.auth.providers import Provider, provider_of
from cvx.backend.auth.signing import (
    DEV_ISSUER_PATH,
    DEV_TOKEN_S,
    DISCOVERY_PATH,
    JWKS_PATH,
    DevIssuer,
    TokenSigner,
    check_signed_claims,
    discovery_document,
)
from cvx.backend.auth.upload_tokens import UploadTokens
from cvx.backend.auth.user_tokens import UserTokenChecks

__all__ = [
    "ANONYMOUS",
    "DEV_ISSUER_PATH",
    "DEV_TOKEN_S",
    "DISCOVERY_PATH",
    "JWKS_PATH",
    "NO_TOKEN",
    "SYSTEM",
    "Admin",
    "Anonymous",
    "Authenticator",
    "DevIssuer",
    "Identity",
    "Instance",
    "Provider",
    "System",
    "Token",
    "TokenSigner",
    "UploadTokens",
    "User",
    "UserTokenChecks",
    "bad_deploy_key",
    "check_admin_key",
    "check_signed_claims",
    "discovery_document",
    "identity_type",
    "issue_admin_key",
    "load_instance",
    "new_instance_secret",
    "parse_authorization",
    "provider_of",
    "read_only_key",
    "token_of",
    "user_from_attributes",
    "user_of",
]
