"""The templates in a real browser: two pages see each other's writes, and code changes arrive without a reload."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cvx.toolchain.project import deno_binary
from tests.backend_process import free_port
from tests.browser.chromium import Chromium, chromium_binary
from tests.node_env import node
from tests.toolchain.dev_process import CVX, Dev, environment

pytestmark = [
    pytest.mark.browser,
    pytest.mark.deno,
    pytest.mark.skipif(
        chromium_binary() is None,
        reason="Chromium is not installed: `make browser` installs it on Debian as root",
    ),
]


def scaffolded(folder: Path, template: str, env: dict[str, str] | None = None) -> Path:
    done = subprocess.run(
        [*CVX, "init", str(folder), "--template", template, "--yes"],
        env=environment() | (env or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def wait_until_served(url: str, dev: Dev) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        try:
            if httpx.get(url, timeout=60).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.05)
    raise AssertionError(f"{url} is not served:\n{''.join(dev.errors)}")


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[Chromium]:
    with Chromium(tmp_path / "profile") as browser:
        yield browser


@pytest.fixture
def without_node(tmp_path: Path) -> dict[str, str]:
    """A PATH with a shell and no Node: what a Python team has."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sh").symlink_to("/bin/sh")
    return {"PATH": str(folder)}


@pytest.fixture
def node_path() -> dict[str, str]:
    """A PATH with Node first."""
    return {"PATH": f"{Path(node()).parent}{os.pathsep}{os.environ['PATH']}"}


def test_chat_vite(tmp_path: Path, chromium: Chromium, without_node: dict[str, str]) -> None:
    app = scaffolded(tmp_path / "chat", "chat-vite", without_node)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with Dev(app, "--start", f"vite --host 127.0.0.1 --port {port} --strictPort", env=without_node) as dev:
        target = dev.event("target")
        dev.ready()
        wait_until_served(url, dev)
        first, second = chromium.open(url), chromium.open(url)
        for page in (first, second):
            page.wait_for_text("Welcome to #general")
            page.evaluate("window.notReloaded = true")

        first.type_into("form input", "Hello from the first page")
        first.press_enter()
        first.wait_for_text("Hello from the first page")
        second.wait_for_text("Hello from the first page")
        second.wait_for_text("last message from Anonymous")
        second.wait_for("document.querySelectorAll('article').length === 1", "the message shows once")

        source = app / "convex" / "messages.ts"
        source.write_text(source.read_text().replace("last message from", "newest words by"))
        for page in (first, second):
            page.wait_for_text("newest words by Anonymous")
            assert page.evaluate("window.notReloaded") is True

        for number in range(25):
            message = {"channel": "general", "author": "Loop", "body": f"message {number}"}
            httpx.post(f"{target['url']}/api/mutation", json={"path": "messages:send", "args": message})
        first.wait_for_text("message 24")
        third = chromium.open(url)
        third.wait_for_text("message 24")
        third.wait_for("document.querySelectorAll('article').length === 20", "one page of the list")
        third.click(".messages button")
        third.wait_for("document.querySelectorAll('article').length == 26", "the rest of the list")


def test_chat_vite_optimistic_message_is_rolled_back(
    tmp_path: Path, chromium: Chromium, without_node: dict[str, str]
) -> None:
    """The message shows before the server answers; when the server refuses, it goes and the reason shows."""
    app = scaffolded(tmp_path / "chat", "chat-vite", without_node)
    source = app / "convex" / "messages.ts"
    text = source.read_text()
    source.write_text(
        text.replace('if (message.body.trim() === "")', 'if (message.body.includes("forbidden"))')
    )
    port = free_port()
    with Dev(app, "--start", f"vite --host 127.0.0.1 --port {port} --strictPort", env=without_node) as dev:
        dev.ready()
        url = f"http://127.0.0.1:{port}"
        wait_until_served(url, dev)
        page = chromium.open(url)
        page.wait_for_text("Welcome to #general")
        page.evaluate(
            """
            window.seen = false;
            new MutationObserver(() => {
              if (document.querySelector('article')?.innerText.includes('forbidden')) window.seen = true;
            }).observe(document.body, { childList: true, subtree: true });
            """
        )
        page.type_into("form input", "forbidden words")
        page.press_enter()
        page.wait_for_text("A message needs a text")
        assert page.evaluate("window.seen") is True, "shown at once"
        page.wait_for("document.querySelectorAll('article').length === 0", "it is taken back")


def test_chat_vite_offline_writes_wait_and_survive_a_reload(tmp_path: Path, chromium: Chromium) -> None:
    """The backend goes away under the page: what is written then arrives once, also after the page was closed."""
    app = scaffolded(tmp_path / "chat", "chat-vite")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with Dev(app) as dev:
        dev.ready()
        command = [node(), "node_modules/vite/bin/vite.js", "--host", "127.0.0.1", "--port", str(port)]
        vite = subprocess.Popen([*command, "--strictPort"], cwd=app, stdout=subprocess.DEVNULL)
        try:
            wait_until_served(url, dev)
            page, other = chromium.open(url), chromium.open(url)
            for each in (page, other):
                each.wait_for(shows_status("synced"), "the page is synced")
            dev.stop()
            for each, text in ((page, "written offline"), (other, "in another page")):
                each.wait_for(shows_status("offline"), "the page notices that the backend is gone")
                each.type_into("form input", text)
                each.press_enter()
                each.wait_for_text("1 not sent yet")
            # What one tab keeps takes a moment to reach the process of the other.
            page.wait_for(f"{WRITES_KEPT}.length === 2", "the browser keeps both writes")
            page.reload()
            page.wait_for_text("2 not sent yet")
            page.wait_for_text("Welcome to #general")
            page.type_into("form input", "and another")
            page.press_enter()
            page.wait_for_text("3 not sent yet")
            with Dev(app) as again:
                again.ready()
                page.wait_for(shows_status("synced"), "the page is synced again")
                page.wait_for_text("written offline")
                page.wait_for_text("and another")
                page.reload()
                page.wait_for(shows_status("synced"), "the reloaded page is synced")
                page.wait_for_text("and another")
                page.wait_for("document.querySelectorAll('article').length === 3", "each is there once")
        finally:
            vite.kill()
            vite.wait()


WRITES_KEPT = "Object.keys(localStorage).filter((name) => name.startsWith('synced:write:'))"


def shows_status(status: str) -> str:
    return f"document.querySelector('.status')?.innerText === {json.dumps(status)}"


FRAMEWORKS = {
    "vue-vite": ("vite --host 127.0.0.1 --port {port} --strictPort", "vite/bin/vite.js build", "dist"),
    "sveltekit": ("vite --host 127.0.0.1 --port {port} --strictPort", "vite/bin/vite.js build", "build"),
    "nextjs": ("next dev --hostname 127.0.0.1 --port {port}", "next/dist/bin/next build", ".next"),
}
REACT_IS_THERE = "Object.keys(document.querySelector('form')).some(key => key.startsWith('__react'))"
NEEDS_NODE = {"nextjs"}  # Its development server is a Node program; the others run under Deno.


@pytest.mark.parametrize("template", FRAMEWORKS)
def test_task_list(
    template: str, tmp_path: Path, chromium: Chromium, without_node: dict[str, str], node_path: dict[str, str]
) -> None:
    """Live in two pages, type-checked, and built for production against the deployment."""
    env = node_path if template in NEEDS_NODE else without_node
    app = scaffolded(tmp_path / "tasks", template, env)
    start, build, output = FRAMEWORKS[template]
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with Dev(app, "--start", start.format(port=port), typecheck="enable", env=env) as dev:
        dev.ready()
        wait_until_served(url, dev)
        first, second = chromium.open(url), chromium.open(url)
        for page in (first, second):
            page.wait_for_text("Nothing to do.")
        if template == "nextjs":  # The server renders the page before React is there to hear of a key.
            for page in (first, second):
                page.wait_for(REACT_IS_THERE, "React takes over the page")
        first.type_into("form input", "water the plants")
        first.press_enter()
        second.wait_for_text("water the plants")
        second.click("li input")
        first.wait_for("document.querySelector('li')?.classList.contains('done')", "the task is done")
    program = [node()] if template in NEEDS_NODE else [str(deno_binary()), "run", "-A"]
    done = subprocess.run(
        [*program, *f"node_modules/{build}".split()],
        cwd=app,
        env=environment() | env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (app / output).is_dir()


def test_html_template(tmp_path: Path, chromium: Chromium) -> None:
    app = scaffolded(tmp_path / "tasks", "html")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with Dev(app, "--start", f"{sys.executable} serve.py {port}") as dev:
        dev.ready()
        wait_until_served(url, dev)
        assert httpx.get(f"{url}/.env.local").status_code == 404
        assert httpx.get(f"{url}/.cvx/local/default/config.json").status_code == 404
        first, second = chromium.open(url), chromium.open(url)
        first.wait_for_text("Nothing to do.")
        first.type_into("form input", "water the plants")
        first.press_enter()
        second.wait_for_text("water the plants")
        second.click("li input")
        first.wait_for("document.querySelector('li')?.className == 'done'", "the task is done")


def test_python_client_template(tmp_path: Path) -> None:
    app = scaffolded(tmp_path / "readings", "python-client")
    with Dev(app) as dev:
        dev.ready()
        done = subprocess.run(
            [sys.executable, "main.py", "2"],
            cwd=app,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        lines = [json.loads(line.removeprefix("latest: ")) for line in done.stdout.splitlines()]
        assert [len(line) for line in lines][-1] == 2, done.stdout
        assert os.environ.get("CONVEX_URL") is None
