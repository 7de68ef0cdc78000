"""Tokens of all kinds, real and forged, against a provider that really answers on loopback."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cvx.backend.auth import (
    DevIssuer,
    Provider,
    TokenSigner,
    User,
    UserTokenChecks,
    provider_of,
    user_from_attributes,
)
from cvx.backend.auth.claims import ClaimTypeError, custom_attributes, oidc_attributes
from cvx.backend.auth.tokens import check_claims, read_token
from cvx.backend.config import Limits
from cvx.errors import CvxError
from tests.auth.issuer import Answer, Issuer, new_key, signed, signed_with_secret
from tests.waiting import happens

T = TypeVar("T")
LIMITS = replace(Limits(), auth_fetch_s=2.0, auth_retry_s=0.0, auth_refetch_s=0.0)


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer() as running:
        yield running


@pytest.fixture
def fresh() -> Iterator[Issuer]:
    """One for a test that puts it out of order."""
    with Issuer("ES256") as running:
        yield running


def oidc(issuer: Issuer, **more: Any) -> Provider:
    return provider_of({"domain": issuer.url, "applicationID": "app", **more})


def custom(issuer: Issuer, **more: Any) -> Provider:
    declared = {
        "type": "customJwt",
        "issuer": issuer.url,
        "jwks": f"{issuer.url}/keys",
        "algorithm": issuer.algorithm,
    }
    return provider_of({**declared, **more})


def checking(
    body: Callable[[UserTokenChecks], Awaitable[T]], *providers: Provider, limits: Limits = LIMITS
) -> T:
    async def run() -> T:
        checks = UserTokenChecks(limits, lambda: providers, time.time)
        try:
            return await body(checks)
        finally:
            await checks.close()

    return asyncio.run(run())


def check(token: str, *providers: Provider, limits: Limits = LIMITS) -> User:
    return checking(lambda checks: checks.check(token), *providers, limits=limits)


def refusal(token: str, *providers: Provider, limits: Limits = LIMITS) -> CvxError:
    with pytest.raises(CvxError) as caught:
        check(token, *providers, limits=limits)
    return caught.value


def identity(token: str, *providers: Provider) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(check(token, *providers).json)
    return found


# ---------------------------------------------------------------------------------------------- what is believed


def test_every_standard_claim_has_its_name(issuer: Issuer) -> None:
    standard = {
        "name": "Ann Lee",
        "given_name": "Ann",
        "family_name": "Lee",
        "nickname": "annie",
        "preferred_username": "ann",
        "profile": "https://x.test/ann",
        "picture": "https://x.test/ann.png",
        "website": "https://ann.test",
        "email": "ann@x.test",
        "email_verified": True,
        "gender": "female",
        "birthdate": "1990-01-31",
        "zoneinfo": "Europe/Oslo",
        "locale": "nb-NO",
        "phone_number": "+47 1",
        "phone_number_verified": "false",
        "address": {"formatted": "1 Street\nOslo", "country": "NO"},
        "updated_at": 1_700_000_000,
    }
    dropped = {
        "jti": "j",
        "nbf": 1,
        "fva": [1, -1],
        "nonce": "n",
        "at_hash": "h",
        "auth_time": 1,
        "azp": "app",
    }
    own = {
        "org": {"id": 7, "roles": ["a"]},
        "https://x.test/plan": "pro",
        "nothing": None,
        "issuer": "spoofed",
    }
    claims: dict[str, Any] = {**standard, **dropped, **own}
    assert identity(issuer.token(**claims), oidc(issuer)) == {
        "tokenIdentifier": f"{issuer.url}|ann",
        "issuer": issuer.url,
        "subject": "ann",
        "name": "Ann Lee",
        "givenName": "Ann",
        "familyName": "Lee",
        "nickname": "annie",
        "preferredUsername": "ann",
        "profileUrl": "https://x.test/ann",
        "pictureUrl": "https://x.test/ann.png",
        "websiteUrl": "https://ann.test",
        "email": "ann@x.test",
        "emailVerified": True,
        "gender": "female",
        "birthday": "1990-01-31",
        "timezone": "Europe/Oslo",
        "language": "nb-NO",
        "phoneNumber": "+47 1",
        "phoneNumberVerified": False,
        "address": "1 Street\nOslo",
        "updatedAt": "2023-11-14T22:13:20+00:00",
        "org": {"id": 7, "roles": ["a"]},
        "https://x.test/plan": "pro",
    }


@pytest.mark.parametrize(
    ("updated_at", "shown"),
    [
        ("2024-05-06T07:08:09.120Z", "2024-05-06T07:08:09.120+00:00"),
        (1_700_000_000.5, "2023-11-14T22:13:20.500+00:00"),
        ("2024-05-06T07:08:09+02:00", "2024-05-06T07:08:09+02:00"),
    ],
)
def test_times_of_all_spellings_become_rfc_3339(issuer: Issuer, updated_at: Any, shown: str) -> None:
    assert identity(issuer.token(updated_at=updated_at), oidc(issuer))["updatedAt"] == shown


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("name", 7),
        ("email_verified", "perhaps"),
        ("updated_at", "yesterday"),
        ("updated_at", 1e300),
        ("address", []),
    ],
)
def test_a_standard_claim_of_another_kind_is_refused(issuer: Issuer, claim: str, value: Any) -> None:
    refused = refusal(issuer.token(**{claim: value}), oidc(issuer))
    assert refused.code == "InvalidAuthHeader" and claim in refused.message


def test_custom_tokens_keep_their_names_and_are_flattened(fresh: Issuer) -> None:
    token = fresh.token(
        aud=..., given_name="Ann", email_verified=True, updated_at=5, properties={"id": "u1", "a": {"b": [{"c": 1}]}},
        jti="x", fva=1,
    )  # fmt: skip
    assert identity(token, custom(fresh)) == {
        "tokenIdentifier": f"{fresh.url}|ann",
        "issuer": fresh.url,
        "subject": "ann",
        "given_name": "Ann",
        "email_verified": True,
        "updated_at": 5,
        "properties.id": "u1",
        "properties.a.b": [{"c": 1}],
    }


@pytest.mark.parametrize("algorithm", ["RS256", "EdDSA"])
def test_algorithms_of_openid_connect(algorithm: str) -> None:
    with Issuer(algorithm) as running:
        assert identity(running.token(), oidc(running))["subject"] == "ann"
        assert identity(running.token(kid=None), oidc(running))["subject"] == "ann", "a key need not be named"


def test_clerks_auth0s_and_convex_auths_shapes(issuer: Issuer) -> None:
    clerk = issuer.token(
        header={"cat": "cl_B7d4PD111AAA"}, aud="convex", azp="http://localhost:5173", jti="t", nbf=int(time.time()) - 10,
        name="Ann", email="a@b.c", given_name="Ann", picture="p", updated_at=1_700_000_000, fva=[3, -1], sid="sess",
    )  # fmt: skip
    found = identity(clerk, provider_of({"domain": issuer.url, "applicationID": "convex"}))
    assert found["sid"] == "sess" and found["pictureUrl"] == "p" and "fva" not in found and "azp" not in found
    auth0 = issuer.token(
        sub="auth0|6512", iss=f"{issuer.url}/", aud=["app", "https://api.test"],
        email_verified=True, updated_at="2024-01-01T00:00:00.000Z",
    )  # fmt: skip
    found = identity(auth0, oidc(issuer))
    assert found["tokenIdentifier"] == f"{issuer.url}/|auth0|6512", "issuer and subject as the token has them"
    convex_auth = issuer.token(kid=None, sub="user|session", aud="convex")
    assert identity(convex_auth, oidc(issuer, applicationID="convex"))["subject"] == "user|session"


def test_issuers_are_the_same_without_scheme_and_slash(issuer: Issuer) -> None:
    host = issuer.url.removeprefix("http://")
    for declared in (issuer.url, f"{issuer.url}/", f"HTTP://{host}", f" {issuer.url} "):
        assert identity(issuer.token(), oidc(issuer, domain=declared))["subject"] == "ann"
    https = refusal(issuer.token(), oidc(issuer, domain=host))
    assert https.code == "NoAuthProvider" and f"https://{host}" in https.message


def test_the_first_provider_that_fits_is_taken(issuer: Issuer) -> None:
    providers = (oidc(issuer, applicationID="other"), oidc(issuer, domain="https://else.test"), oidc(issuer))
    assert identity(issuer.token(aud=["x", "app"]), *providers)["subject"] == "ann"


def test_one_person_is_one_identity_whatever_the_token(issuer: Issuer) -> None:
    first = check(issuer.token(jti="1", iat=1), oidc(issuer))
    second = check(issuer.token(jti="2", iat=2, exp=int(time.time()) + 50), oidc(issuer))
    assert first.cache_key() == second.cache_key() and first.expires_at != second.expires_at
    assert check(issuer.token(name="Ann"), oidc(issuer)).cache_key() != first.cache_key()


# --------------------------------------------------------------------------------------------------- what is not


def test_nobodys_token(issuer: Issuer) -> None:
    for token, providers in [
        (issuer.token(), ()),
        (issuer.token(iss="https://else.test"), (oidc(issuer),)),
        (issuer.token(aud="other"), (oidc(issuer),)),
        (issuer.token(aud=...), (oidc(issuer),)),
        (issuer.token(aud="other"), (custom(issuer, applicationID="app"),)),
    ]:
        refused = refusal(token, *providers)
        assert (refused.code, refused.kind) == ("NoAuthProvider", "unauthenticated")


def test_expired_not_yet_valid_and_never_expiring(issuer: Issuer) -> None:
    now = int(time.time())
    cases: list[tuple[dict[str, Any], Any]] = [
        ({"exp": now - 1}, oidc(issuer)),
        ({"exp": now - 10}, custom(issuer)),
        ({"exp": ...}, oidc(issuer)),
        ({"exp": ...}, custom(issuer)),
        ({"nbf": now + 60}, custom(issuer)),
        ({"nbf": now + 60}, oidc(issuer)),
    ]
    for claims, provider in cases:
        assert refusal(issuer.token(**claims), provider).code == "Unauthenticated", claims
    assert LIMITS.auth_leeway_s == 5
    late = check(issuer.token(exp=now - 2), custom(issuer), limits=replace(LIMITS, auth_leeway_s=300))
    assert late.expires_at == now + 298, "custom tokens have their leeway, to the end"
    check(issuer.token(nbf=now + 3), custom(issuer))


def test_algorithms_are_the_providers_choice(issuer: Issuer) -> None:
    claims = issuer.claims()
    pem = issuer.keys["first"].as_pem(private=False)
    n = issuer.keys["first"].as_dict(private=False)["n"]
    confused = [
        signed_with_secret({"alg": "HS256", "kid": "first"}, claims, pem),
        signed_with_secret({"alg": "HS256", "kid": "first"}, claims, n.encode()),
        signed({"alg": "PS256", "kid": "first"}, claims, issuer.keys["first"]),
        signed({"alg": "RS512", "kid": "first"}, claims, issuer.keys["first"]),
        _unsigned({"alg": "none"}, claims) + "AA",
        _unsigned({"alg": "None", "kid": "first"}, claims) + "AA",
        signed({"alg": "ES256", "kid": "first"}, claims, new_key("ES256")),
    ]
    for token in confused:
        for provider in (oidc(issuer), custom(issuer)):
            refused = refusal(token, provider)
            assert refused.code == "Unauthenticated" and "signed with" in refused.message
    assert refusal(_unsigned({"alg": "none"}, claims), oidc(issuer)).code == "InvalidAuthHeader"


def test_signatures_and_keys(issuer: Issuer) -> None:
    token = issuer.token()
    head, claims, signature = token.split(".")
    other = signed({"alg": "RS256", "kid": "first"}, issuer.claims(), new_key("RS256"))
    altered = base64.urlsafe_b64encode(json.dumps(issuer.claims(sub="admin")).encode()).decode().rstrip("=")
    for forged in (other, f"{head}.{altered}.{signature}", f"{head}.{claims}.{signature[:-4]}AAAA"):
        refused = refusal(forged, oidc(issuer))
        assert refused.code == "Unauthenticated" and "signature" in refused.message
    unknown = refusal(
        signed({"alg": "RS256", "kid": "zzz"}, issuer.claims(), issuer.keys["first"]), oidc(issuer)
    )
    assert unknown.code == "Unauthenticated" and "'zzz'" in unknown.message
    assert refusal(issuer.token(kid=None), custom(issuer)).code == "InvalidAuthHeader", (
        "custom tokens name their key"
    )
    embedded = new_key("RS256")
    own = {"alg": "RS256", "kid": "first", "jwk": embedded.as_dict(private=False)}
    assert refusal(signed(own, issuer.claims(), embedded), oidc(issuer)).code == "Unauthenticated"


def test_keys_that_are_not_for_this_are_passed_over(fresh: Issuer) -> None:
    good = fresh.keys["first"].as_dict(private=False)
    small = {"kty": "RSA", "n": base64.urlsafe_b64encode(b"\xff" * 64).decode().rstrip("="), "e": "AQAB"}
    for spoiled in (
        {**good, "use": "enc"},
        {**good, "alg": "ES384"},
        {**good, "key_ops": ["sign"]},
        {**good, "crv": "P-384"},
        {**good, "x": "!"},
        {**good, "kty": "oct", "k": "AAAA"},
        small,
    ):
        fresh.routes["/keys"] = Answer({"keys": [{**spoiled, "kid": "first"}]})
        assert refusal(fresh.token(), custom(fresh)).code == "Unauthenticated", spoiled
        fresh.routes["/keys"] = Answer({"keys": [{**spoiled, "kid": "first"}, {**good, "kid": "first"}]})
        check(fresh.token(), custom(fresh))


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b",
        "a.b.c.d",
        "a..c",
        "!.!.!",
        "e30.e30.AA",
        "W10.W10.AA",
        "eyJhbGciOiJSUzI1NiJ9.e30=.AA",
        "eyJhbGciOiJSUzI1NiJ9." + base64.urlsafe_b64encode(b"[" * 5000).decode().rstrip("=") + ".AA",
        "eyJhbGciOiJSUzI1NiJ9." + base64.urlsafe_b64encode(b'{"iss":"\xff"}').decode().rstrip("=") + ".AA",
        "é.é.é",
        "a" * 70_000 + ".b.c",
    ],
)
def test_what_is_no_token(issuer: Issuer, token: str) -> None:
    refused = refusal(token, oidc(issuer))
    assert (refused.code, refused.kind) == ("InvalidAuthHeader", "unauthenticated")
    assert len(refused.message) < 300


@pytest.mark.parametrize(
    "claims",
    [{"iss": ...}, {"sub": ...}, {"sub": ""}, {"sub": 7}, {"aud": 7}, {"aud": ["app", 7]}, {"exp": "soon"},
     {"exp": True}, {"nbf": "x"}],
)  # fmt: skip
def test_claims_that_are_missing_or_of_another_kind(issuer: Issuer, claims: dict[str, Any]) -> None:
    assert refusal(issuer.token(**claims), oidc(issuer)).code == "InvalidAuthHeader"


def test_deep_and_large_claims(issuer: Issuer) -> None:
    nested: Any = 1
    for _ in range(400):
        nested = {"a": nested}
    found = identity(issuer.token(deep=nested), custom(issuer))
    assert found["deep" + ".a" * 400] == 1
    payload = b'{"iss":"' + issuer.url.encode() + b'","sub":"a","aud":"app","exp":9e9,"d":' + b'{"a":' * 3000
    deep = signed({"alg": "RS256", "kid": "first"}, payload + b"1" + b"}" * 3001, issuer.keys["first"])
    assert refusal(deep, custom(issuer)).code == "InvalidAuthHeader"
    assert len(identity(issuer.token(big="x" * 40_000), oidc(issuer))["big"]) == 40_000
    assert refusal(issuer.token(big="x" * 60_000), oidc(issuer)).code == "InvalidAuthHeader"


def test_headers_that_demand_extensions(issuer: Issuer) -> None:
    header = {"alg": "RS256", "kid": "first", "crit": ["b64"], "b64": False}
    head = base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
    _, claims, signature = issuer.token().split(".")
    assert refusal(f"{head}.{claims}.{signature}", oidc(issuer)).code == "InvalidAuthHeader"


# ------------------------------------------------------------------------------------------------ fetching keys


def test_keys_are_kept_as_long_as_they_may_be(fresh: Issuer) -> None:
    async def body(checks: UserTokenChecks) -> None:
        await asyncio.gather(*[checks.check(fresh.token()) for _ in range(20)])
        assert fresh.asked["/keys"] == 1, "twenty at once make one request"
        await asyncio.sleep(0.1)
        await checks.check(fresh.token())
        assert fresh.asked["/keys"] == 1

    fresh.headers = {"Cache-Control": "public, max-age=600"}
    checking(body, custom(fresh))


@pytest.mark.parametrize(
    "headers",
    [
        {"Cache-Control": "no-store, max-age=600"},
        {"Cache-Control": "max-age=0"},
        {"Cache-Control": "max-age=60", "Age": "60"},
        {"Expires": "Thu, 01 Jan 1970 00:00:00 GMT"},
    ],
)
def test_keys_that_may_not_be_kept_are_asked_for_again(fresh: Issuer, headers: dict[str, str]) -> None:
    async def body(checks: UserTokenChecks) -> None:
        for _ in range(3):
            await checks.check(fresh.token())
        assert fresh.asked["/keys"] == 3

    fresh.headers = headers
    checking(body, custom(fresh))


def test_not_modified_keeps_the_keys(fresh: Issuer) -> None:
    def keys(headers: dict[str, str]) -> Answer:
        known = headers.get("if-none-match") == '"v1"'
        return Answer(b"" if known else fresh.key_set(), status=304 if known else 200,
                      headers={"ETag": '"v1"', "Cache-Control": "no-cache"})  # fmt: skip

    async def body(checks: UserTokenChecks) -> None:
        for _ in range(3):
            await checks.check(fresh.token())
        assert fresh.asked["/keys"] == 3

    fresh.routes["/keys"] = keys
    checking(body, custom(fresh))


def test_a_key_that_is_new_is_fetched_but_not_all_the_time(fresh: Issuer) -> None:
    async def body(checks: UserTokenChecks) -> None:
        await checks.check(fresh.token())
        fresh.keys["second"] = new_key("ES256")
        with pytest.raises(CvxError, match="no key"):
            await checks.check(fresh.token("second"))
        assert fresh.asked["/keys"] == 1, "it was fetched a moment ago"
        await asyncio.sleep(2.1)
        await checks.check(fresh.token("second"))
        assert fresh.asked["/keys"] == 2
        forged = [
            signed({"alg": "ES256", "kid": f"f{n}"}, fresh.claims(), fresh.keys["first"]) for n in range(20)
        ]
        await asyncio.gather(*[checks.check(token) for token in forged], return_exceptions=True)
        assert fresh.asked["/keys"] == 2, "made-up key ids do not become requests"

    checking(body, custom(fresh), limits=replace(LIMITS, auth_refetch_s=2.0))


def test_a_provider_that_is_away(fresh: Issuer) -> None:
    async def body(checks: UserTokenChecks) -> None:
        await checks.check(fresh.token())
        fresh.stop()
        token = fresh.token()
        await checks.check(token)  # With keys that are stale, while it cannot be reached.
        await asyncio.sleep(2.1)
        with pytest.raises(CvxError) as caught:
            await checks.check(token)
        assert (caught.value.code, caught.value.kind) == ("AuthProviderDiscoveryFailed", "unavailable")

    fresh.headers = {"Cache-Control": "max-age=0"}
    checking(body, custom(fresh), limits=replace(LIMITS, auth_stale_s=2.0))


def test_a_provider_that_hangs_holds_up_nobody_else(fresh: Issuer, issuer: Issuer) -> None:
    async def body(checks: UserTokenChecks) -> None:
        waiting = [asyncio.create_task(checks.check(fresh.token())) for _ in range(5)]
        await happens(lambda: fresh.asked["/keys"], "the provider is asked")
        await checks.check(issuer.token())
        assert not any(task.done() for task in waiting), "the other one did not wait for them"
        for task in waiting:
            with pytest.raises(CvxError) as caught:
                await task
            assert (
                caught.value.code == "AuthProviderDiscoveryFailed" and "within 1.5 s" in caught.value.message
            )
        assert fresh.asked["/keys"] == 1
        with pytest.raises(CvxError):
            await checks.check(fresh.token())
        assert fresh.asked["/keys"] == 1, "who asks at once again is not made to wait"

    fresh.routes["/keys"] = Answer(b"", wait_s=5)
    limits = replace(LIMITS, auth_fetch_s=1.5, auth_retry_s=60.0)
    checking(body, custom(fresh), oidc(issuer), limits=limits)


@pytest.mark.parametrize(
    ("path", "answer", "why", "passing"),
    [
        ("/keys", Answer(b"<html>", headers={"Content-Type": "text/html"}), "not a JSON Web Key Set", False),
        ("/keys", Answer({"keys": "none"}), "not a JSON Web Key Set", False),
        ("/keys", Answer({"keys": [{}] * 300}), "more than 256 keys", False),
        ("/keys", Answer(b"[" * 2000), "larger than 1500 bytes", False),
        ("/keys", Answer(b"out of order", status=500), "500 Internal Server Error: out of order", True),
        ("/keys", Answer(b"", status=404), "404 Not Found", False),
        ("/keys", Answer(b"", status=429), "429", True),
        ("/keys", Answer(b"", status=302, headers={"Location": "/keys"}), "redirects too often", False),
        (
            "/keys",
            Answer(b"", status=302, headers={"Location": "file:///etc/passwd"}),
            "redirects to a 'file'",
            False,
        ),
        ("/.well-known/openid-configuration", Answer(b"{}"), "not a discovery document", False),
        (
            "/.well-known/openid-configuration",
            Answer({"issuer": "https://else.test", "jwks_uri": "x"}),
            "says that its issuer is 'https://else.test'",
            False,
        ),
    ],
)
def test_a_provider_that_is_out_of_order(path: str, answer: Answer, why: str, passing: bool) -> None:
    with Issuer("EdDSA") as running:
        running.routes[path] = answer
        refused = refusal(
            running.token(), oidc(running), limits=replace(LIMITS, auth_document_bytes_max=1500)
        )
    assert refused.code == "AuthProviderDiscoveryFailed" and why in refused.message
    assert refused.kind == ("unavailable" if passing else "unauthenticated")


def test_redirects_are_followed(fresh: Issuer) -> None:
    fresh.routes["/moved"] = Answer(b"", status=301, headers={"Location": "/keys"})
    assert identity(fresh.token(), custom(fresh, jwks=f"{fresh.url}/moved"))["subject"] == "ann"


@pytest.mark.parametrize(
    "jwks", ["http://[::bad", "ftp://x.test/keys", "http://127.0.0.1:1/keys", "https:///keys"]
)
def test_addresses_where_there_is_nothing(fresh: Issuer, jwks: str) -> None:
    assert refusal(fresh.token(), custom(fresh, jwks=jwks)).code == "AuthProviderDiscoveryFailed"


def test_proxies_are_not_asked_for_loopback(fresh: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    check(fresh.token(), custom(fresh))


@pytest.mark.parametrize(
    "prefix",
    [
        "data:application/json;base64,",
        "data:application/jwk-set+json;base64,",
        "data:text/plain;charset=utf-8;base64,",
    ],
)
def test_keys_in_a_data_url(fresh: Issuer, prefix: str) -> None:
    text = json.dumps(fresh.key_set()).encode()
    jwks = prefix + base64.b64encode(text).decode()
    assert identity(fresh.token(), custom(fresh, jwks=jwks))["subject"] == "ann"
    assert fresh.asked["/keys"] == 0


def test_data_urls_of_other_kinds(fresh: Issuer) -> None:
    from urllib.parse import quote

    plain = "data:application/json," + quote(json.dumps(fresh.key_set()))
    assert identity(fresh.token(), custom(fresh, jwks=plain))["subject"] == "ann"
    for broken in ("data:application/json;base64", "data:application/json;base64,!!", "data:,{}"):
        refused = refusal(fresh.token(), custom(fresh, jwks=broken))
        assert (refused.code, refused.kind) == ("AuthProviderDiscoveryFailed", "unauthenticated")


# ------------------------------------------------------------------------------------------- tokens of our own


def test_the_development_issuer_is_believed_only_where_it_is_on() -> None:
    issuer = DevIssuer("0" * 64)
    url = "http://127.0.0.1:3210"
    token = issuer.issue(url, "ann", {"email": "a@b.c", "role": "admin"}, time.time(), 60)
    assert identity(token, issuer.provider(url)) == {
        "tokenIdentifier": f"{url}/api/dev_issuer|ann",
        "issuer": f"{url}/api/dev_issuer",
        "subject": "ann",
        "email": "a@b.c",
        "role": "admin",
    }
    assert refusal(token).code == "NoAuthProvider"
    assert refusal(token, DevIssuer("1" * 64).provider(url)).code == "Unauthenticated", "another deployment's"
    functions = TokenSigner("0" * 64).sign(issuer.issuer(url), {"sub": "ann"}, time.time(), 60)
    assert refusal(functions, issuer.provider(url)).code == "Unauthenticated", "no function can make one"
    with pytest.raises(CvxError, match="set by the issuer"):
        issuer.issue(url, "ann", {"iss": "https://else.test"}, time.time(), 60)


def test_the_same_secret_has_the_same_key() -> None:
    assert TokenSigner("0" * 64).key_set == TokenSigner("0" * 64).key_set
    assert TokenSigner("0" * 64).key_set != TokenSigner("1" * 64).key_set
    assert TokenSigner("0" * 64).key_set != DevIssuer("0" * 64).key_set
    [key] = json.loads(TokenSigner("0" * 64).key_set)["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}, "and nothing that is private"


def _unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    parts = [json.dumps(part).encode() for part in (header, claims)]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + "."


@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
@example("..")
def test_any_text_is_refused_with_the_same_code(text: str) -> None:
    with pytest.raises(CvxError) as caught:
        read_token(text, 1000)
    assert caught.value.code == "InvalidAuthHeader"


@given(
    st.dictionaries(
        st.sampled_from(["alg", "kid", "crit", "typ"]), st.none() | st.integers() | st.text(), max_size=4
    ),
    st.dictionaries(
        st.sampled_from(["iss", "sub", "aud", "exp", "nbf", "email", "updated_at", "address", "mine"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        ),
    ),
    st.booleans(),
)
@example({}, {"exp": 10**400}, True)
@example({}, {"nbf": -(10**400)}, True)
@example({}, {"mine": 10**400}, True)
@example({}, {"mine": [2**64]}, True)
@example({}, {"iat": 1e308}, True)
def test_any_claims_are_a_token_or_refused(
    header: dict[str, Any], claims: dict[str, Any], has_subject: bool
) -> None:
    """Reading and mapping claims of any shape ends in an identity or in a documented refusal."""
    try:
        known = {"iss": "https://x.test", "sub": "ann"} if has_subject else {}
        token = read_token(_unsigned({"alg": "RS256", **header}, {**claims, **known}) + "AA", 100_000)
        check_claims({"exp": 9e9, **token.claims}, Provider("", None, frozenset(), False), 1e9, 5.0)
        for make in (oidc_attributes, custom_attributes):
            assert user_from_attributes(make(token.claims)).json.startswith(b"{")
    except CvxError as error:
        assert error.code in ("InvalidAuthHeader", "Unauthenticated")
    except ClaimTypeError as error:
        assert "claim" in str(error)
