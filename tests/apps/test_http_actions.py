"""HTTP actions through plain HTTP clients: routes, streams, failures, limits, and clients that go away."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apps.driving import HERE, drive, running

pytestmark = [pytest.mark.deno, pytest.mark.node]


def test_http_actions(tmp_path: Path) -> None:
    with running(HERE / "http_actions", tmp_path) as (backend, folder):
        site = f"http://127.0.0.1:{backend.site_port}"
        print(drive(folder / "drive.mjs", backend, site))


def test_a_webhook_with_a_verified_signature(tmp_path: Path) -> None:
    """Stripe's scheme: by hand with Web Crypto, and with Stripe's own package."""
    packages = {"convex": "1.48.0", "stripe": "19.2.0", "typescript": "5.9.3"}
    with running(HERE / "stripe_webhook", tmp_path, packages) as (backend, folder):
        site = f"http://127.0.0.1:{backend.site_port}"
        print(drive(folder / "drive.mjs", backend, site))


def test_hono_as_the_router(tmp_path: Path) -> None:
    packages = {"convex": "1.48.0", "convex-helpers": "0.1.124", "hono": "4.10.4", "typescript": "5.9.3"}
    with running(HERE / "hono", tmp_path, packages) as (backend, folder):
        site = f"http://127.0.0.1:{backend.site_port}"
        print(drive(folder / "drive.mjs", backend, site))
