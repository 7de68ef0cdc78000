"""Signing in, for real: an OpenID Connect provider on loopback, tokens of one's own, official clients."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from convex import ConvexClient
from convex.http_client import ConvexHttpClient
from joserfc.jwk import ECKey

from tests.apps.driving import HERE, drive, pushed
from tests.apps.guides import blocks_missing
from tests.backend_process import BackendProcess, free_port
from tests.cli.command_line import cvx
from tests.node_env import node_run, npm_project

pytestmark = [pytest.mark.deno, pytest.mark.node]

PACKAGES = {
    "convex": "1.48.0",
    "@convex-dev/auth": "0.0.95",
    "@auth/core": "0.41.3",
    "oidc-provider": "9.13.3",
    "oidc-client-ts": "3.5.0",
    "jose": "6.2.17",
    "react": "19.2.0",
    "react-dom": "19.2.0",
    "jsdom": "26.1.0",
    "typescript": "5.9.3",
    "@types/node": "20.19.25",
    "@types/react": "19.2.2",
    "esbuild": "0.25.12",
}


@dataclass(frozen=True)
class AuthApp:
    """The app of the guide, pushed; and what its driver needs to know."""

    backend: BackendProcess
    folder: Path
    environment: dict[str, str]


def set_variables(backend: BackendProcess, variables: dict[str, str | None]) -> httpx.Response:
    changes = [{"name": name, "value": value} for name, value in variables.items()]
    return httpx.post(
        f"{backend.url}/api/update_environment_variables",
        json={"changes": changes},
        headers={"Authorization": f"Convex {backend.admin_key}"},
        timeout=60,
    )


@contextmanager
def auth_app(folder: Path, *extra: str) -> Iterator[AuthApp]:
    port = free_port()
    key = ECKey.generate_key("P-256", {"kid": "own"}, private=True)
    variables: dict[str, str | None] = {
        "OIDC_ISSUER": f"http://127.0.0.1:{port}",
        "OWN_ISSUER": "https://own.example.com",
        "OWN_KEYS": json.dumps({"keys": [key.as_dict(private=False)]}),
    }
    private: dict[str, str] = {
        "OIDC_PORT": str(port),
        "OWN_ISSUER": "https://own.example.com",
        "OWN_PRIVATE_KEY": json.dumps(key.as_dict(private=True)),
    }
    backend = BackendProcess(folder / "data")
    backend.start(*extra)
    try:
        assert set_variables(backend, variables).status_code == 200
        private["SITE"] = f"http://127.0.0.1:{backend.site_port}"
        yield AuthApp(backend, pushed(backend, HERE / "auth", folder / "app", PACKAGES), private)
    finally:
        backend.stop()


def dev_token(backend: BackendProcess, subject: str, **claims: Any) -> str:
    answer = httpx.post(
        f"{backend.url}/api/dev_issuer/token",
        json={"subject": subject, "claims": claims},
        headers={"Authorization": f"Convex {backend.admin_key}"},
        timeout=60,
    )
    token: str = answer.json()["token"]
    return token


def test_other_clients_sign_in(tmp_path: Path) -> None:
    """The PyPI client and older npm releases, with tokens of the development issuer."""
    with auth_app(tmp_path, "--dev-issuer") as app:
        url, token = app.backend.url, dev_token(app.backend, "ann", name="Ann")
        for version in ("1.28.0", "1.36.1"):
            project = npm_project(f"convex-{version}", {"convex": version})
            second = dev_token(app.backend, "ann", name="Ann", jti=version)
            assert node_run(HERE / "auth" / "older.mjs", project, url, token, second) == "ok\n"

        http = ConvexHttpClient(url)
        http.set_auth(token)
        assert http.query("users:identity")["name"] == "Ann"
        http.clear_auth()
        assert http.query("users:identity") is None
        live = ConvexClient(url)
        live.set_auth(token)
        assert live.query("users:identity")["subject"] == "ann"
        live.mutation("users:store")
        live.mutation("notes:add", {"text": "from Python"})
        assert next(iter(live.subscribe("notes:mine"))) == ["from Python"]
        live.clear_auth()
        assert live.query("users:identity") is None


def test_people_sign_in(tmp_path: Path) -> None:
    with auth_app(tmp_path) as app:
        print(drive(app.folder / "drive.mjs", app.backend, environment=app.environment))


def test_the_guide_shows_what_the_app_does() -> None:
    assert blocks_missing("auth", HERE / "auth") == []


@pytest.mark.slow
@pytest.mark.parametrize("app", ["auth", "convex_auth"])
def test_the_apps_type_check(app: str, tmp_path: Path) -> None:
    folder = tmp_path / app
    shutil.copytree(HERE / app, folder)
    (folder / "node_modules").symlink_to(npm_project("apps", PACKAGES) / "node_modules")
    assert cvx("codegen", cwd=folder).code == 0
    checked = cvx("typecheck", cwd=folder, deadline_s=120)
    assert checked.code == 0, checked.err
