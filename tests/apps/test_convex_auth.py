"""The package @convex-dev/auth, as npm has it: passwords, an OpenID Connect provider, links by mail."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.apps.driving import HERE, drive, pushed
from tests.apps.guides import blocks_missing
from tests.apps.test_auth import PACKAGES, AuthApp, set_variables
from tests.backend_process import BackendProcess, free_port, pushed_app
from tests.cli.command_line import cvx, environment
from tests.node_env import node, npm_project

pytestmark = [pytest.mark.deno, pytest.mark.node]


@contextmanager
def convex_auth_app(folder: Path, site_url: str, token_s: int) -> Iterator[AuthApp]:
    """The app, set up as its guide says, on a backend of its own."""
    backend = BackendProcess(folder / "data")
    backend.start()
    oidc, mail = free_port(), free_port()
    try:
        setup = cvx(
            "auth", "setup", "--site-url", site_url, "--url", backend.url, "--admin-key", backend.admin_key,
            cwd=folder,
        )  # fmt: skip
        assert setup.code == 0, setup.err
        variables: dict[str, str | None] = {
            "OIDC_ISSUER": f"http://127.0.0.1:{oidc}",
            "OIDC_SECRET": "a secret between the two",
            "MAIL_URL": f"http://127.0.0.1:{mail}",
            "TOKEN_MS": str(token_s * 1000),
        }
        assert set_variables(backend, variables).status_code == 200
        app = pushed(backend, HERE / "convex_auth", folder / "app", PACKAGES)
        shutil.copy(HERE / "auth" / "provider.mjs", app / "provider.mjs")
        told = {
            "CONVEX_SITE": f"http://127.0.0.1:{backend.site_port}",
            "OIDC_PORT": str(oidc),
            "OIDC_SECRET": "a secret between the two",
            "MAIL_PORT": str(mail),
        }
        yield AuthApp(backend, app, told)
    finally:
        backend.stop()


def sign_up(backend: BackendProcess, email: str) -> str:
    """A new user's token."""
    params = {"email": email, "password": "correct horse", "flow": "signUp"}
    token: str = backend.call("action", "auth:signIn", {"provider": "password", "params": params})["tokens"][
        "token"
    ]
    return token


def who(backend: BackendProcess, token: str) -> str:
    """The email of the user whose token it is, or the code of the refusal."""
    answer = httpx.post(
        f"{backend.url}/api/query",
        json={"path": "messages:me", "args": {}, "format": "json"},
        headers={"Authorization": f"Bearer {token}"},
        timeout=60,
    ).json()
    found: str = answer["value"]["email"] if "value" in answer else answer["code"]
    return found


def test_everything_convex_auth_does(tmp_path: Path) -> None:
    with convex_auth_app(tmp_path, "http://127.0.0.1:9/app", 12) as app:
        print(drive(app.folder / "drive.mjs", app.backend, environment=app.environment))


def test_a_public_address_that_the_backend_cannot_reach(tmp_path: Path) -> None:
    """Behind a proxy, in a container: the backend asks its own HTTP actions for their keys without the network."""
    with convex_auth_app(tmp_path, "http://127.0.0.1:9/app", 3600) as app:
        backend = app.backend
        first = sign_up(backend, "ann@example.com")
        assert who(backend, first) == "ann@example.com"
        for url in ("https://site.example.invalid", None):
            changed = httpx.post(
                f"{backend.url}/api/v1/update_canonical_url",
                json={"requestDestination": "convexSite", "url": url},
                headers={"Authorization": f"Convex {backend.admin_key}"},
            )
            assert changed.status_code == 200
            token = sign_up(backend, f"{len(str(url))}@example.com")
            assert who(backend, token) == f"{len(str(url))}@example.com"
            assert who(backend, first) == ("NoAuthProvider" if url else "ann@example.com"), "its issuer moved"

        # On other ports after a restart, the app's auth config names its new address without a push.
        backend.stop()
        backend.port, backend.site_port = free_port(), free_port()
        backend.url = f"http://127.0.0.1:{backend.port}"
        backend.start()
        assert who(backend, sign_up(backend, "new@example.com")) == "new@example.com"
        assert who(backend, first) == "NoAuthProvider"


@pytest.mark.slow
def test_the_packages_own_setup(tmp_path: Path) -> None:
    """`npx @convex-dev/auth` sets up an app on our backend; what it makes can be pushed, and ours agrees with it."""
    backend, app = BackendProcess(tmp_path / "data"), tmp_path / "app"
    (app / "convex").mkdir(parents=True)
    (app / "node_modules").symlink_to(npm_project("apps", PACKAGES) / "node_modules")
    package = {
        "name": "app",
        "dependencies": {name: PACKAGES[name] for name in ("convex", "@convex-dev/auth")},
    }
    package["devDependencies"] = {"typescript": PACKAGES["typescript"]}
    (app / "package.json").write_text(json.dumps(package))
    backend.start()
    try:
        target = ("--url", backend.url, "--admin-key", backend.admin_key)
        done = subprocess.run(
            [
                node(), "node_modules/@convex-dev/auth/dist/bin.cjs", *target,
                "--web-server-url", "http://localhost:5173", "--skip-git-check",
            ],
            cwd=app,
            env=environment(CI="1", HOME=str(tmp_path)),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        kept = cvx("auth", "setup", *target, "--json", cwd=app).envelope()["data"]
        assert kept == {"set": [], "kept": ["JWT_PRIVATE_KEY", "JWKS", "SITE_URL"], "missingFiles": []}
        pushed_app(backend, app, app_copy := tmp_path / "copy", PACKAGES)
        assert (app_copy / "convex" / "auth.config.ts").exists()
        keys = httpx.get(f"http://127.0.0.1:{backend.site_port}/.well-known/jwks.json").json()
        assert keys["keys"][0]["use"] == "sig"
    finally:
        backend.stop()


def test_the_guide_shows_what_the_app_does() -> None:
    assert blocks_missing("convex-auth", HERE / "convex_auth") == []
