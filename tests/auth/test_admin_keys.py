"""Admin keys and the way from a header to an identity: every failure, each with its documented code."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest

from cvx.backend.auth import (
    ANONYMOUS,
    NO_TOKEN,
    SYSTEM,
    Admin,
    Anonymous,
    Authenticator,
    Identity,
    Token,
    User,
    check_admin_key,
    issue_admin_key,
    new_instance_secret,
    parse_authorization,
    user_from_attributes,
    user_of,
)
from cvx.errors import CvxError

NAME = "happy-otter-1"
SECRET = "11" * 32
KEY = issue_admin_key(NAME, SECRET)


def refused(key: str, name: str = NAME, secret: str = SECRET) -> CvxError:
    with pytest.raises(CvxError) as caught:
        check_admin_key(key, name, secret)
    return caught.value


def authenticate(header: str | None, *, admin_key: str | None = None) -> Identity:
    return asyncio.run(Authenticator(NAME, SECRET).from_header(header, admin_key=admin_key))


def refused_header(header: str) -> CvxError:
    with pytest.raises(CvxError) as caught:
        authenticate(header)
    return caught.value


def test_a_fresh_key_is_accepted() -> None:
    assert check_admin_key(KEY, NAME, SECRET) == Admin()
    assert KEY.startswith(f"{NAME}|")


def test_two_keys_of_one_instance_differ_and_both_work() -> None:
    other = issue_admin_key(NAME, SECRET)
    assert other != KEY
    assert check_admin_key(other, NAME, SECRET) == Admin()


def test_secrets_are_fresh() -> None:
    assert new_instance_secret() != new_instance_secret()
    assert len(bytes.fromhex(new_instance_secret())) == 32


@pytest.mark.parametrize("prefix", ["prod:", "dev:", "custom:"])
def test_a_deployment_type_prefix_is_stripped(prefix: str) -> None:
    assert check_admin_key(prefix + KEY, NAME, SECRET) == Admin()


@pytest.mark.parametrize("prefix", ["preview:team:project|", "project:team:project|"])
def test_a_project_prefix_is_dropped_up_to_the_bar(prefix: str) -> None:
    assert check_admin_key(prefix + KEY.split("|")[1], NAME, SECRET) == Admin()


@pytest.mark.parametrize(
    "key",
    [
        KEY[:-1],  # half a byte short
        KEY[:-2],  # one byte short
        KEY[: len(NAME) + 1],  # nothing after the bar
        "",
        "|",
        NAME,
        KEY + "00",
        KEY.replace("|", "|zz"),  # not hex
        KEY.replace("|", " "),
        f"{NAME}|{'00' * 58}",
    ],
)
def test_malformed_and_truncated_keys_are_refused(key: str) -> None:
    error = refused(key)
    assert (error.code, error.kind) == ("BadDeployKey", "forbidden")
    assert NAME in error.message


def test_a_key_of_another_instance_is_refused() -> None:
    assert refused(issue_admin_key("other-otter-2", SECRET)).code == "BadDeployKey"


def test_renaming_the_instance_in_a_key_does_not_help() -> None:
    assert (
        refused(issue_admin_key("other-otter-2", SECRET).replace("other-otter-2", NAME)).code
        == "BadDeployKey"
    )


def test_a_key_made_with_another_secret_is_refused() -> None:
    assert refused(issue_admin_key(NAME, "22" * 32)).code == "BadDeployKey"


def test_every_single_changed_byte_is_noticed() -> None:
    name, text = KEY.split("|")
    raw = bytes.fromhex(text)
    for position in range(len(raw)):
        changed = raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :]
        assert refused(f"{name}|{changed.hex()}").code == "BadDeployKey"


def test_a_read_only_key_says_so_and_may_not_write() -> None:
    authenticator = Authenticator(NAME, SECRET)
    admin = authenticator.admin(issue_admin_key(NAME, SECRET, read_only=True))
    assert admin.read_only
    assert authenticator.require_admin(admin) == admin
    with pytest.raises(CvxError) as caught:
        authenticator.require_admin(admin, write=True)
    assert (caught.value.code, caught.value.kind) == ("ReadOnlyAdminKey", "forbidden")


def test_errors_never_repeat_the_key() -> None:
    error = refused(KEY[:-2])
    assert KEY.split("|")[1][:20] not in str(error)


def test_only_admins_and_the_system_pass_as_admin() -> None:
    authenticator = Authenticator(NAME, SECRET)
    assert authenticator.require_admin(SYSTEM) is SYSTEM
    for identity in (ANONYMOUS, user_from_attributes({"issuer": "i", "subject": "s"})):
        with pytest.raises(CvxError) as caught:
            authenticator.require_admin(identity)
        assert (caught.value.code, caught.value.kind) == ("BadDeployKey", "forbidden")


def test_header_forms() -> None:
    assert parse_authorization(None) is NO_TOKEN
    assert parse_authorization(f"Convex {KEY}") == Token("admin", KEY)
    assert parse_authorization(f"cOnVeX prod:{KEY}") == Token("admin", KEY)
    assert parse_authorization("Bearer a.b.c") == Token("user", "a.b.c")


def test_header_and_query_parameter_authenticate() -> None:
    assert authenticate(None) is ANONYMOUS
    assert authenticate(f"Convex {KEY}") == Admin()
    assert authenticate(None, admin_key=f"dev:{KEY}") == Admin()


def test_impersonation() -> None:
    attributes = {"issuer": "https://convex.test", "subject": "7", "name": "Ada", "fva": [1, 2]}
    text = base64.b64encode(json.dumps(attributes).encode()).decode()
    identity = authenticate(f"Convex {KEY}:{text}")
    assert isinstance(identity, Admin) and identity.acting_as is not None
    seen = json.loads(identity.acting_as.json)
    assert seen == {**attributes, "tokenIdentifier": "https://convex.test|7"}
    assert identity.is_admin
    # To a query an admin acting as Ada is Ada, so they share cached results.
    assert identity.cache_key() == user_from_attributes(attributes).cache_key()
    assert user_of(identity) is identity.acting_as


@pytest.mark.parametrize(
    ("header", "code", "kind"),
    [
        ("Convex", "InvalidHeaderFailure", "bad_request"),
        ("", "InvalidHeaderFailure", "bad_request"),
        ("Basic dXNlcjpwYXNz", "InvalidAdminKey", "bad_request"),
        (f"Convex {KEY}:%%%", "HeaderParseFailure", "bad_request"),
        (f"Convex {KEY}:{base64.b64encode(b'[1]').decode()}", "HeaderParseFailure", "bad_request"),
        (f"Convex {KEY}:{base64.b64encode(b'{{').decode()}", "HeaderParseFailure", "bad_request"),
        (f"Convex {KEY}:{base64.b64encode(b'{}').decode()}", "HeaderParseFailure", "bad_request"),
        (f"Convex {KEY[:-4]}", "BadAdminKey", "unauthenticated"),
        ("Convex other|00", "BadAdminKey", "unauthenticated"),
        (
            "Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIiwiaXNzIjoieCJ9.c2ln",
            "NoAuthProvider",
            "unauthenticated",
        ),
        ("Bearer nonsense", "InvalidAuthHeader", "unauthenticated"),
    ],
)
def test_refused_headers(header: str, code: str, kind: str) -> None:
    error = refused_header(header)
    assert (error.code, error.kind) == (code, kind)


def test_http_actions_get_an_unknown_caller_that_carries_the_error() -> None:
    identity = asyncio.run(Authenticator(NAME, SECRET).from_header_or_error("Bearer a.b.c"))
    assert isinstance(identity, Anonymous) and identity.error is not None
    with pytest.raises(CvxError) as caught:
        user_of(identity)
    assert caught.value.code == "InvalidAuthHeader"
    assert identity.cache_key() != ANONYMOUS.cache_key()


def test_cache_keys_tell_callers_apart_but_not_their_tokens() -> None:
    ada = user_from_attributes({"issuer": "i", "subject": "ada", "jti": "1"})
    ada_again = user_from_attributes({"subject": "ada", "issuer": "i", "jti": "2", "nbf": 3})
    bob = user_from_attributes({"issuer": "i", "subject": "bob"})
    keys = {x.cache_key() for x in (ada, bob, ANONYMOUS, Admin(), SYSTEM)}
    assert len(keys) == 5
    assert ada.cache_key() == ada_again.cache_key()
    assert isinstance(ada, User)


def test_a_token_identifier_alone_is_enough() -> None:
    seen = json.loads(user_from_attributes({"tokenIdentifier": "https://a|b"}).json)
    assert seen == {"tokenIdentifier": "https://a|b", "issuer": "https://a", "subject": "b"}
