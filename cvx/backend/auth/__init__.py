"""Who is calling: identities, admin keys, and the way from a header to an identity."""

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
    user_from_attributes,
    user_of,
)
from cvx.backend.auth.instance import Instance, load_instance
from cvx.backend.auth.upload_tokens import UploadTokens

__all__ = [
    "ANONYMOUS",
    "NO_TOKEN",
    "SYSTEM",
    "Admin",
    "Anonymous",
    "Authenticator",
    "Identity",
    "Instance",
    "System",
    "Token",
    "UploadTokens",
    "User",
    "bad_deploy_key",
    "check_admin_key",
    "identity_type",
    "issue_admin_key",
    "load_instance",
    "new_instance_secret",
    "parse_authorization",
    "read_only_key",
    "user_from_attributes",
    "user_of",
]
