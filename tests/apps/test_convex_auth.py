"""The package @convex-dev/auth, as npm has it: passwords, an OpenID Connect provider, links by mail."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.apps.driving import HERE, drive, pushed
from tests.apps.test_auth import PACKAGES, AuthApp, set_variables
from tests.backend_process import BackendProcess, free_port
from tests.cli.command_line import cvx

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
        environment = {
            "CONVEX_SITE": f"http://127.0.0.1:{backend.site_port}",
            "OIDC_PORT": str(oidc),
            "OIDC_SECRET": "a secret between the two",
            "MAIL_PORT": str(mail),
        }
        yield AuthApp(backend, app, environment)
    finally:
        backend.stop()


def test_everything_convex_auth_does(tmp_path: Path) -> None:
    with convex_auth_app(tmp_path, "http://127.0.0.1:9/app", 12) as app:
        print(drive(app.folder / "drive.mjs", app.backend, environment=app.environment))
