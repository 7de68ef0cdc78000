"""Things that many apps need: what belongs to whom, who is here, a list that goes on and on."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import httpx
import pytest

from tests.apps.driving import HERE, drive, running
from tests.apps.guides import blocks_missing
from tests.backend_process import free_port
from tests.browser.chromium import Chromium, chromium_binary
from tests.node_env import node

pytestmark = [pytest.mark.deno, pytest.mark.node]
APP = HERE / "board"
TEMPLATE = HERE.parents[1] / "templates" / "chat-vite"


@pytest.mark.parametrize(
    ("guide", "app"),
    [
        ("ownership", APP),
        ("presence", APP),
        ("pagination", APP),
        ("offline", TEMPLATE),
        ("functions", TEMPLATE),
    ],
)
def test_the_guides_code_is_the_apps(guide: str, app: Path) -> None:
    assert blocks_missing(guide, app) == []


def test_ownership_and_presence(tmp_path: Path) -> None:
    with running(APP, tmp_path) as (backend, folder):
        print(drive(folder / "drive.mjs", backend))


@pytest.mark.browser
@pytest.mark.skipif(chromium_binary() is None, reason="Chromium is not installed: `make browser` installs it")
def test_infinite_scroll(tmp_path: Path) -> None:
    """The list grows as it is scrolled, twenty at a time, stays live, and ends."""
    port = free_port()
    with running(APP, tmp_path) as (backend, folder), Chromium(tmp_path / "profile") as browser:
        backend.call("mutation", "cards:createMany", {"count": 50})
        command = [
            node(),
            "node_modules/vite/bin/vite.js",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--strictPort",
        ]
        vite = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until_served(f"http://127.0.0.1:{port}")
            page = browser.open(f"http://127.0.0.1:{port}/?backend={backend.url}")
            page.wait_for("document.querySelectorAll('article').length === 20", "the first page")
            page.evaluate("scrollTo(0, document.body.scrollHeight)")
            page.wait_for("document.querySelectorAll('article').length === 40", "the second page")
            backend.call("mutation", "cards:createMany", {"count": 1})
            page.wait_for("document.querySelector('article').innerText === 'card 1'", "a new card on top")
            page.evaluate("scrollTo(0, document.body.scrollHeight)")
            page.wait_for_text("That is all.")
            page.wait_for("document.querySelectorAll('article').length === 51", "all of them")
        finally:
            vite.kill()
            vite.wait()


def wait_until_served(url: str) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        try:
            if httpx.get(url, timeout=60).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.05)
    raise AssertionError(f"{url} is not served")
