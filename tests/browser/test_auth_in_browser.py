"""React in a real browser: ConvexProviderWithAuth with a real OpenID Connect provider, and Convex Auth's own."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.apps.test_auth import AuthApp, auth_app
from tests.apps.test_convex_auth import convex_auth_app
from tests.backend_process import free_port
from tests.browser.chromium import Chromium, Page, chromium_binary
from tests.node_env import node

pytestmark = [
    pytest.mark.browser,
    pytest.mark.deno,
    pytest.mark.node,
    pytest.mark.skipif(chromium_binary() is None, reason="Chromium is not installed: `make browser` does"),
]


@contextmanager
def served_page(app: AuthApp, port: int, id_token_s: int = 3600) -> Iterator[str]:
    """The page's address; the provider runs, too."""
    serving = subprocess.Popen(
        [node(), "--no-warnings", "serve.mjs", app.backend.url],
        cwd=app.folder,
        env={**os.environ, **app.environment, "PAGE_PORT": str(port), "ID_TOKEN_SECONDS": str(id_token_s)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert serving.stdin is not None and serving.stdout is not None
    try:
        assert serving.stdout.readline().strip() == "ready"
        yield f"http://127.0.0.1:{port}/"
    finally:
        serving.stdin.close()
        serving.wait(60)
        serving.stdout.close()


def test_sign_in_refresh_and_sign_out(tmp_path: Path) -> None:
    with (
        auth_app(tmp_path) as app,
        served_page(app, free_port(), id_token_s=12) as address,
        Chromium(tmp_path / "profile") as browser,
    ):
        page = browser.open(address)
        page.wait_for("!!document.querySelector('#in')", "the page offers to sign in")
        assert page.evaluate("window.states") == ["loading", "out"]
        page.click("#in")
        page.wait_for("!!document.querySelector('[name=login]')", "the provider asks who it is")
        page.type_into("[name=login]", "ann")
        page.type_into("[name=password]", "anything")
        page.press_enter()
        page.wait_for("!!document.querySelector('input[value=consent]')", "the provider asks for consent")
        page.click("[type=submit]")

        page.wait_for_text("Hello Ann Lee")
        page.wait_for("!!document.querySelector('#add:enabled')", "the notes")
        page.wait_for("window.refreshes >= 1", "the token is refreshed at once")
        page.click("#add")
        page.wait_for_text("note 1")
        # A token holds for 12 s and is renewed 10 s before its end.
        page.wait_for("window.refreshes >= 4", "the token is refreshed again and again")
        page.click("#add")
        page.wait_for_text("note 2")
        assert page.evaluate("window.states.slice(window.states.indexOf('in'))") == ["in"], (
            "and nobody noticed"
        )

        page.reload()
        page.wait_for("String(window.states) === 'loading,in'", "signed in without having been signed out")
        page.wait_for_text("note 2")

        page.click("#out")
        page.wait_for("!!document.querySelector('#in')", "signed out")
        assert "note" not in page.text()


REFRESH_TOKEN = (
    "localStorage[Object.keys(localStorage).find((name) => name.startsWith('__convexAuthRefreshToken'))]"
)


def renewed(page: Page, before: str) -> str:
    """A page that was opened renews its token; a sign-out meanwhile would be undone by the answer, by the package's own
    doing. The refresh token afterwards."""
    page.wait_for(f"({REFRESH_TOKEN}) !== {json.dumps(before)}", "the token is renewed")
    return str(page.evaluate(REFRESH_TOKEN))


def test_convex_auth(tmp_path: Path) -> None:
    port = free_port()
    with (
        convex_auth_app(tmp_path, f"http://127.0.0.1:{port}", token_s=3600) as app,
        served_page(app, port) as address,
        Chromium(tmp_path / "profile") as browser,
    ):
        page = browser.open(address)
        page.wait_for("!!document.querySelector('#password')", "the ways to sign in")
        page.type_into("#password [name=email]", "ann@example.com")
        page.type_into("#password [name=password]", "correct horse")
        page.click("#password button")
        page.wait_for_text("Hello ann@example.com")
        page.wait_for("!!document.querySelector('#send:enabled')", "the messages")
        page.click("#send")
        page.wait_for_text("message 1")
        before = page.evaluate(REFRESH_TOKEN)
        page.reload()
        page.wait_for("!!document.querySelector('#send:enabled')", "signed in after a reload")
        before = renewed(page, before)

        sibling = browser.open(address)
        sibling.wait_for_text("Hello ann@example.com")
        renewed(page, before)
        page.click("#out")
        page.wait_for("!!document.querySelector('#work')", "signed out")
        sibling.wait_for("!!document.querySelector('#work')", "in the other tab, too")

        page.click("#work")
        page.wait_for("!!document.querySelector('[name=login]')", "the provider asks who it is")
        page.type_into("[name=login]", "ann")
        page.type_into("[name=password]", "anything")
        page.press_enter()
        page.wait_for("!!document.querySelector('input[value=consent]')", "the provider asks for consent")
        page.click("[type=submit]")
        page.wait_for_text("Hello Ann Lee")
        assert page.evaluate("location.search") == "", "the code is gone from the address"
        page.click("#out")
        page.wait_for("!!document.querySelector('#link')", "signed out")

        page.type_into("#link [name=email]", "bea@example.com")
        page.click("#link button")
        office = f"http://127.0.0.1:{app.environment['MAIL_PORT']}/"
        deadline = time.monotonic() + 60
        while not (mail := httpx.get(office).json()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert mail["to"] == "bea@example.com"
        page.call("Page.navigate", url=mail["link"])
        page.wait_for_text("Hello bea@example.com")
