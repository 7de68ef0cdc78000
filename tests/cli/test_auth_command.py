"""`cvx auth`: the variables of Convex Auth, and tokens for local development."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from tests.backend_process import BackendProcess
from tests.cli.command_line import Outcome, cvx, empty_project

pytestmark = pytest.mark.deno


@pytest.fixture(scope="module")
def issuing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendProcess]:
    """A backend with the development issuer."""
    backend = BackendProcess(tmp_path_factory.mktemp("issuing") / "data")
    backend.start("--dev-issuer")
    yield backend
    backend.stop()


def auth(backend: BackendProcess, folder: Path, *arguments: str) -> Outcome:
    return cvx("auth", *arguments, "--url", backend.url, "--admin-key", backend.admin_key, cwd=folder)


def variables(backend: BackendProcess, folder: Path) -> dict[str, str]:
    listed = cvx("env", "list", "--json", "--url", backend.url, "--admin-key", backend.admin_key, cwd=folder)
    found: dict[str, str] = listed.envelope()["data"]["variables"]
    return found


def is_believed(backend: BackendProcess, token: str) -> bool:
    """Whether a token gets as far as the function, which is not there."""
    answer = httpx.post(
        f"{backend.url}/api/query",
        json={"path": "no:such", "args": {}},
        headers={"Authorization": f"Bearer {token}"},
        timeout=60,
    )
    assert answer.status_code in (200, 401), answer.text
    return answer.status_code == 200


def test_setup_sets_what_is_missing_and_changes_nothing_twice(tmp_path: Path) -> None:
    backend = BackendProcess(tmp_path / "data")
    backend.start()
    try:
        first = auth(backend, tmp_path, "setup", "--site-url", "http://localhost:5173", "--json").envelope()
        assert first["data"] == {
            "set": ["JWKS", "JWT_PRIVATE_KEY", "SITE_URL"],
            "kept": [],
            "missingFiles": [],
        }
        made = variables(backend, tmp_path)
        _check_pair(made)
        assert made["SITE_URL"] == "http://localhost:5173"

        again = auth(backend, tmp_path, "setup")
        assert again.code == 0 and again.out == ""
        assert "Kept JWT_PRIVATE_KEY, JWKS, SITE_URL. Nothing to do." in again.err
        assert variables(backend, tmp_path) == made

        moved = auth(backend, tmp_path, "setup", "--site-url", "https://app.example.com")
        assert "Set SITE_URL=https://app.example.com." in moved.err
        rotated = auth(backend, tmp_path, "setup", "--force", "--json").envelope()["data"]
        assert rotated["set"] == ["JWKS", "JWT_PRIVATE_KEY"] and rotated["kept"] == ["SITE_URL"]
        after = variables(backend, tmp_path)
        _check_pair(after)
        assert after["JWKS"] != made["JWKS"] and after["SITE_URL"] == "https://app.example.com"
        assert made["JWT_PRIVATE_KEY"][40:80] not in moved.err + again.err, "keys are not shown"

        gone = cvx(
            "env", "remove", "JWKS", "--url", backend.url, "--admin-key", backend.admin_key, cwd=tmp_path
        )
        assert gone.code == 0
        half = auth(backend, tmp_path, "setup", "--json")
        assert half.code == 5 and half.envelope()["error"]["code"] == "AuthKeysIncomplete"
        assert "--force" in half.envelope()["error"]["hint"]

        nonsense = auth(backend, tmp_path, "setup", "--site-url", "localhost", "--force")
        assert nonsense.code == 2 and "'localhost'" in nonsense.err
    finally:
        backend.stop()


def test_setup_for_a_local_project_knows_its_dev_server_and_what_is_missing(tmp_path: Path) -> None:
    project = empty_project(tmp_path / "app")
    package = json.loads((project / "package.json").read_text())
    package["devDependencies"] = {"vite": "7.0.0"}
    (project / "package.json").write_text(json.dumps(package))
    (project / "convex").mkdir(exist_ok=True)
    (project / "convex" / "auth.ts").write_text("export {};\n")
    assert cvx("deployment", "create", "mine", "--select", cwd=project).code == 0
    done = cvx("auth", "setup", cwd=project)
    assert done.code == 0, done.err
    assert "SITE_URL=http://localhost:5173" in done.err
    assert "convex/auth.config.ts, convex/http.ts" in done.err
    token = cvx("auth", "token", "--subject", "ann", cwd=project)
    assert token.code == 0 and token.out.count(".") == 2, "the local deployment's backend issues tokens"


def test_a_token_of_the_development_issuer(issuing: BackendProcess, tmp_path: Path) -> None:
    plain = auth(issuing, tmp_path, "token", "--subject", "ann")
    assert plain.code == 0 and plain.err == "" and is_believed(issuing, plain.out.strip())

    told = auth(
        issuing, tmp_path, "token", "--subject", "ann", "--claim", "email=a@b.c", "--claim", "admin=true",
        "--claim", 'org={"id": 7}', "--claim", "id=007", "--expires", "15m", "--json",
    ).envelope()["data"]  # fmt: skip
    issuer = f"{issuing.url}/api/dev_issuer"
    assert told["issuer"] == issuer and told["subject"] == "ann"
    assert 840 < told["expiresAt"] - time.time() < 901
    discovery = httpx.get(f"{issuer}/.well-known/openid-configuration").json()
    keys = KeySet.import_key_set(httpx.get(discovery["jwks_uri"]).json())
    claims = jwt.decode(told["token"], keys, algorithms=["ES256"]).claims
    assert discovery["issuer"] == issuer
    assert {**claims, "iat": 0, "exp": 0} == {
        "iss": issuer, "sub": "ann", "aud": "convex", "email": "a@b.c", "admin": True, "org": {"id": 7},
        "id": "007", "iat": 0, "exp": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, "--subject"),
        (("--subject", ""), 5, "InvalidDevToken"),
        (("--subject", "a", "--claim", "x"), 2, "NAME=VALUE"),
        (("--subject", "a", "--claim", "iss=x"), 5, "'iss' is set by the issuer"),
        (("--subject", "a", "--expires", "soon"), 2, "90s, 15m, 1h or 7d"),
        (("--subject", "a", "--expires", "0"), 2, "90s, 15m, 1h or 7d"),
        (("--subject", "a", "--expires", "40d"), 5, "from 1 to 2592000 seconds"),
    ],
)
def test_tokens_that_cannot_be(
    issuing: BackendProcess, tmp_path: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    refused = auth(issuing, tmp_path, "token", *arguments)
    assert refused.code == code and says in refused.err and refused.out == ""


def test_a_served_backend_has_no_development_issuer(issuing: BackendProcess, tmp_path: Path) -> None:
    backend = BackendProcess(tmp_path / "data")
    backend.start()
    try:
        refused = auth(backend, tmp_path, "token", "--subject", "ann")
        assert refused.code == 3 and "DevIssuerDisabled" in refused.err and "--dev-issuer" in refused.err
        assert httpx.get(f"{backend.url}/api/dev_issuer/.well-known/jwks.json").status_code == 404
        assert not is_believed(backend, auth(issuing, tmp_path, "token", "--subject", "ann").out.strip())
        with_issuer = BackendProcess(tmp_path / "data")
        backend.stop()
        with_issuer.port, with_issuer.site_port, with_issuer.url = (
            backend.port,
            backend.site_port,
            backend.url,
        )
        with_issuer.start("--dev-issuer")
        token = auth(with_issuer, tmp_path, "token", "--subject", "ann").out.strip()
        assert is_believed(with_issuer, token)
        with_issuer.stop()
        backend.start()
        assert not is_believed(backend, token), "switched off, it is nobody"
    finally:
        backend.stop()


def test_only_admins_are_issued_tokens(issuing: BackendProcess) -> None:
    def ask(headers: dict[str, str], body: dict[str, Any]) -> tuple[int, str]:
        answer = httpx.post(f"{issuing.url}/api/dev_issuer/token", json=body, headers=headers)
        return answer.status_code, answer.json()["code"]

    assert ask({}, {"subject": "a"}) == (403, "BadDeployKey")
    admin = {"Authorization": f"Convex {issuing.admin_key}"}
    assert ask(admin, {"subject": 7})[0] == 400


def _check_pair(made: dict[str, str]) -> None:
    """The private key signs what the key set verifies, in the form @convex-dev/auth reads."""
    assert "\n" not in made["JWT_PRIVATE_KEY"]
    assert made["JWT_PRIVATE_KEY"].startswith("-----BEGIN PRIVATE KEY----- ")
    head, body, foot = (
        "-----BEGIN PRIVATE KEY-----",
        made["JWT_PRIVATE_KEY"][len("-----BEGIN PRIVATE KEY----- ") : -len(" -----END PRIVATE KEY-----")],
        "-----END PRIVATE KEY-----",
    )
    key = RSAKey.import_key("\n".join([head, *body.split(" "), foot, ""]))
    [public] = json.loads(made["JWKS"])["keys"]
    assert set(public) == {"use", "kty", "n", "e"} and public["use"] == "sig"
    token = jwt.encode({"alg": "RS256"}, {"sub": "x"}, key)
    assert jwt.decode(token, RSAKey.import_key(public)).claims == {"sub": "x"}
