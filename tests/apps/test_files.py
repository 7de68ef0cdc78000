"""File storage as apps use it: uploads from pages, ctx.storage in functions; the guide's app in a real browser."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.apps.driving import HERE, drive, pushed, running
from tests.apps.guides import GUIDES, blocks_missing
from tests.backend_process import BackendProcess
from tests.browser.chromium import Chromium, chromium_binary
from tests.cli.command_line import cvx
from tests.compat.official_cli import OfficialCli
from tests.waiting import until

pytestmark = [pytest.mark.deno, pytest.mark.node]
APP = HERE / "files"


def kept(backend: BackendProcess) -> list[Path]:
    """The bytes that are stored, and what is on its way."""
    return [path for path in (backend.data / "files").rglob("*") if path.is_file()]


def upload(backend: BackendProcess, data: object, content_type: str = "text/plain") -> str:
    target = backend.call("mutation", "photos:generateUploadUrl", {})
    response = httpx.post(target, content=data, headers={"Content-Type": content_type}, timeout=600)  # type: ignore[arg-type]
    assert response.status_code == 200, response.text
    return str(response.json()["storageId"])


def test_the_guides_code_is_the_apps() -> None:
    assert blocks_missing("file-storage", APP) == []
    guide = (GUIDES / "file-storage.md").read_text()
    [block] = re.findall(r"^```py\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    assert block in (APP / "upload.py").read_text()


def test_through_the_official_clients(tmp_path: Path) -> None:
    with running(APP, tmp_path) as (backend, folder):
        print(drive(folder / "drive.mjs", backend))
        documents = backend.call("query", "probes:documents", {})
        shown = OfficialCli(folder, backend)("data", "_storage", "--format", "jsonLines").stdout
        assert shown.count("\n") == len(documents) >= 1
        for document in documents:
            assert document["_id"] in shown and document["sha256"] in shown
        at = ("--url", backend.url, "--admin-key", backend.admin_key)
        ours = cvx("data", "show", "_storage", "--json", *at, cwd=folder)
        assert ours.code == 0
        assert all(document["_id"] in ours.out for document in documents)


def test_a_python_program_uploads(tmp_path: Path) -> None:
    (tmp_path / "lake.png").write_bytes(png(3, 2))
    with running(APP, tmp_path) as (backend, folder):
        done = subprocess.run(
            [sys.executable, folder / "upload.py", backend.url, tmp_path / "lake.png"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        [photo] = backend.call("query", "photos:list", {})
        assert photo["caption"] == "lake.png" and photo["author"] == "Python"
        shown = httpx.get(photo["url"])
        assert (shown.headers["content-type"], shown.content) == ("image/png", png(3, 2))


def test_a_kill_in_the_middle_leaves_no_half_file(tmp_path: Path) -> None:
    backend = BackendProcess(tmp_path / "data")
    backend.start()
    try:
        pushed(backend, APP, tmp_path / "app")
        whole = upload(backend, b"complete")
        before = kept(backend)
        target = backend.call("mutation", "photos:generateUploadUrl", {})
        stop = threading.Event()

        def endless() -> Iterator[bytes]:
            while not stop.is_set():
                yield b"x" * 65_536
                time.sleep(0.002)

        def send() -> None:
            try:
                httpx.post(target, content=endless(), timeout=60)
            except httpx.HTTPError:
                pass

        sender = threading.Thread(target=send)
        sender.start()
        until(
            lambda: sum(path.stat().st_size for path in kept(backend)) > 3_000_000, "megabytes have arrived"
        )
        assert backend.process is not None
        backend.process.send_signal(signal.SIGKILL)
        stop.set()
        sender.join()
        backend.kill()
        assert len(kept(backend)) == len(before) + 1, "what was on its way is hidden"
        backend.start()
        assert kept(backend) == before
        [document] = backend.call("query", "probes:documents", {})
        assert document["_id"] == whole
        url = backend.call("query", "probes:url", {"file": whole})
        assert httpx.get(url).content == b"complete"
    finally:
        backend.stop()


def test_kills_at_any_moment(tmp_path: Path) -> None:
    """What was acknowledged is there and whole; what is there is whole; what is left over goes."""
    backend = BackendProcess(tmp_path / "data")
    acknowledged: dict[str, bytes] = {}
    limits = ("--limit", "file_orphan_age_s=0.5", "--limit", "file_collection_interval_s=0.1")
    try:
        backend.start()
        pushed(backend, APP, tmp_path / "app")
        for _ in range(2):
            target = backend.call("mutation", "photos:generateUploadUrl", {})
            senders = [
                threading.Thread(target=send_until_killed, args=(target, acknowledged)) for _ in range(4)
            ]
            for sender in senders:
                sender.start()
            before = len(acknowledged)
            until(lambda before=before: len(acknowledged) > before + 3, "files arrive")  # type: ignore[misc]
            time.sleep(random.random() / 20)
            backend.kill()
            for sender in senders:
                sender.join()
            # What the killed process put into place without a record, as if it had been killed just then.
            orphan = backend.data / "files" / "ab" / ("ab" + os.urandom(15).hex())
            orphan.parent.mkdir(exist_ok=True)
            orphan.write_bytes(b"left over")
            backend.start()
        backend.stop()
        time.sleep(0.6)
        backend.start(*limits)
        documents = {row["_id"]: row for row in backend.call("query", "probes:documents", {})}
        assert set(acknowledged) <= set(documents)
        for id, row in documents.items():
            data = httpx.get(backend.call("query", "probes:url", {"file": id})).content
            assert base64.b64encode(hashlib.sha256(data).digest()).decode() == row["sha256"]
            assert acknowledged.get(id, data) == data
        until(lambda: len(kept(backend)) == len(documents), "what is left over goes")
    finally:
        backend.stop()


def send_until_killed(target: str, acknowledged: dict[str, bytes]) -> None:
    with httpx.Client(timeout=60) as client:
        while True:
            data = os.urandom(random.randrange(1, 300_000))
            try:
                answer = client.post(target, content=data)
            except httpx.HTTPError:
                return
            acknowledged[answer.json()["storageId"]] = data


def test_urls_follow_the_deployments_address(tmp_path: Path) -> None:
    with running(APP, tmp_path) as (backend, _):
        id = upload(backend, b"x")
        headers = {"Authorization": f"Convex {backend.admin_key}"}

        def move(url: str | None) -> None:
            body = {"requestDestination": "convexCloud", "url": url}
            httpx.post(
                f"{backend.url}/api/v1/update_canonical_url", json=body, headers=headers
            ).raise_for_status()

        old = backend.call("query", "probes:url", {"file": id})
        move("https://media.example.com/")
        assert backend.call("query", "probes:url", {"file": id}) == old.replace(
            backend.url, "https://media.example.com"
        )
        new = backend.call("mutation", "photos:generateUploadUrl", {})
        assert new.startswith("https://media.example.com/api/storage/upload?token=")
        moved = httpx.post(new.replace("https://media.example.com", backend.url), content=b"y")
        assert moved.status_code == 200, "the token is the deployment's, whatever its address"
        move(None)
        assert backend.call("query", "probes:url", {"file": id}) == old


def resident_bytes(backend: BackendProcess) -> int:
    """The most that the backend's own process ever had in memory."""
    assert backend.process is not None
    for line in Path(f"/proc/{backend.process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


@pytest.mark.parametrize("size", [96 << 20, pytest.param(1 << 30, marks=pytest.mark.long)])
def test_memory_does_not_grow_with_a_file(tmp_path: Path, size: int) -> None:
    backend = BackendProcess(tmp_path / "data")
    backend.start()
    try:
        pushed(backend, APP, tmp_path / "app")
        small = upload(backend, b"warm" * 100_000)
        httpx.get(backend.call("query", "probes:url", {"file": small}))
        before = resident_bytes(backend)
        block = os.urandom(1 << 20)
        begin = time.monotonic()
        id = upload(backend, (block for _ in range(size >> 20)), "application/octet-stream")
        uploaded = time.monotonic()
        received = 0
        with httpx.stream("GET", backend.call("query", "probes:url", {"file": id}), timeout=60) as response:
            for chunk in response.iter_bytes():
                received += len(chunk)
        downloaded = time.monotonic()
        assert received == size
        grown = resident_bytes(backend) - before
        print(
            f"{size >> 20} MiB: up {uploaded - begin:.1f} s, down {downloaded - uploaded:.1f} s, "
            f"{grown / 2**20:.1f} MiB more at the most"
        )
        assert grown < 64 << 20
    finally:
        backend.stop()


# ------------------------------------------------------------------------------------------------ in a browser


@contextmanager
def page_of(app: Path, backend: BackendProcess) -> Iterator[str]:
    """The app's page, bundled and served at an address of its own."""
    site = app / "site"
    site.mkdir()
    shutil.copy(app / "index.html", site)
    subprocess.run(
        [
            app / "node_modules" / "esbuild" / "bin" / "esbuild",
            app / "src" / "main.tsx",
            "--bundle",
            "--format=esm",
            "--jsx=automatic",
            f'--define:import.meta.env.VITE_CONVEX_URL="{backend.url}"',
            '--define:process.env.NODE_ENV="production"',
            f"--outfile={site / 'main.js'}",
            "--log-level=error",
        ],
        check=True,
    )

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def png(width: int, height: int) -> bytes:
    """A picture of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\x00" + b"\x20\x80\xc0" * width for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.browser
@pytest.mark.skipif(chromium_binary() is None, reason="Chromium is not installed: see `make browser`")
def test_a_react_page_uploads_and_shows(tmp_path: Path) -> None:
    (tmp_path / "sea.png").write_bytes(png(37, 21))
    (tmp_path / "notes.txt").write_text("no picture")
    with (
        running(APP, tmp_path) as (backend, app),
        page_of(app, backend) as url,
        Chromium(tmp_path / "profile") as browser,
    ):
        first, second = browser.open(url), browser.open(url)
        for page in (first, second):
            page.wait_for_text("No photos yet")

        def send(name: str) -> None:
            root = first.call("DOM.getDocument")["root"]["nodeId"]
            field = first.call("DOM.querySelector", nodeId=root, selector="input[type=file]")["nodeId"]
            first.call("DOM.setFileInputFiles", nodeId=field, files=[str(tmp_path / name)])
            first.click("form button")

        send("sea.png")
        first.wait_for_text("done")
        for page in (first, second):
            page.wait_for_text("sea.png by me")
            shown = "document.querySelector('img')?.naturalWidth === 37 && document.querySelector('img').naturalHeight === 21"
            page.wait_for(shown, "the picture is there")
        send("notes.txt")
        first.wait_for_text("A photo is an image of at most 5 MB.")
        assert len(backend.call("query", "probes:documents", {})) == 1
        second.click("figure button")
        for page in (first, second):
            page.wait_for_text("No photos yet")
        assert backend.call("query", "probes:documents", {}) == []
