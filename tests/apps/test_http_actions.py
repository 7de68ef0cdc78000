"""HTTP actions through plain HTTP clients: routes, streams, failures, limits, and clients that go away."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.apps.driving import HERE, drive, running, type_check
from tests.apps.guides import blocks_missing
from tests.cli.command_line import cvx
from tests.compat.official_cli import OfficialCli

pytestmark = [pytest.mark.deno, pytest.mark.node]


def test_the_guides_code_is_the_apps() -> None:
    """That of three apps here."""
    assert blocks_missing("http-actions", HERE) == []


def test_http_actions(tmp_path: Path) -> None:
    with running(HERE / "http_actions", tmp_path) as (backend, folder):
        site = f"http://127.0.0.1:{backend.site_port}"
        print(drive(folder / "drive.mjs", backend, site))
        type_check(folder)
        # What both command lines show of it.
        httpx.get(f"{site}/files/public/x")
        assert httpx.get(f"{site}/answers?kind=throws").status_code == 500
        chosen = ("--url", backend.url, "--admin-key", backend.admin_key)
        shown = cvx("logs", "--history", "4", "--no-follow", "--success", *chosen, cwd=folder).out
        lines = [line.partition("[CONVEX ")[2] for line in shown.splitlines()]
        at = next(
            n
            for n, line in enumerate(lines)
            if line.startswith("H(GET /files/public/*)] Function executed in")
        )
        assert lines[at + 1 : at + 3] == [
            "H(GET /answers)] [LOG] 'about to throw'",
            "H(GET /answers)] Uncaught Error: it broke",
        ]
        with OfficialCli(folder, backend).start("logs", "--history", "4", "--success") as logs:
            logs.wait_for("[CONVEX H(GET /files/public/*)] Function executed in")
            logs.wait_for("[CONVEX H(GET /answers)] [LOG] 'about to throw'")
            logs.wait_for("[CONVEX H(GET /answers)] Uncaught Error: it broke")


def test_a_webhook_with_a_verified_signature(tmp_path: Path) -> None:
    """Stripe's scheme: by hand with Web Crypto, and with Stripe's own package."""
    with running(HERE / "stripe_webhook", tmp_path) as (backend, folder):
        site = f"http://127.0.0.1:{backend.site_port}"
        print(drive(folder / "drive.mjs", backend, site))
        type_check(folder)


def test_hono_as_the_router(tmp_path: Path) -> None:
    with running(HERE / "hono", tmp_path) as (backend, folder):
        site = f"http://127.0.0.1:{backend.site_port}"
        print(drive(folder / "drive.mjs", backend, site))
        type_check(folder)
