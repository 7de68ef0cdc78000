"""What a command writes into: a reader that leaves, a disk that is full, an answer that is no deployment's."""

from __future__ import annotations

import http.server
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backend_process import BackendProcess, pushed_app
from tests.cli.command_line import CVX, cvx, empty_project, environment

APP = Path(__file__).parent / "app"
NOWHERE = ["--url", "http://127.0.0.1:9", "--admin-key", "k"]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[str]]]:
    folder = tmp_path_factory.mktemp("pipes")
    backend = BackendProcess(folder / "data")
    backend.start()
    try:
        project = pushed_app(backend, APP, folder / "app")
        yield project, ["--url", backend.url, "--admin-key", backend.admin_key]
    finally:
        backend.stop()


@pytest.mark.deno
@pytest.mark.parametrize(
    "words", [["run", "misc:count", "--watch"], ["run", "misc:count", "--watch", "--json"], ["logs", "--history", "5"]]
)  # fmt: skip
def test_a_follower_ends_when_its_reader_leaves(deployed: tuple[Path, list[str]], words: list[str]) -> None:
    """Nothing else happens on the deployment: it must not wait for its next line to find out."""
    project, target = deployed
    assert cvx("run", "misc:double", '{"x": 2}', *target, cwd=project).code == 0  # So the logs have a line.
    with subprocess.Popen(
        [*CVX, *words, *target],
        cwd=project,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        try:
            assert process.wait(60) == 0
        finally:
            process.kill()
        assert not any(word in process.stderr.read() for word in ("Traceback", "error[", "Exception"))


@pytest.mark.parametrize("words", [["help", "--json"], ["--help"], ["--version"], ["help", "run"]])
def test_a_reader_that_does_not_read(words: list[str], tmp_path: Path) -> None:
    with subprocess.Popen(
        [*CVX, *words], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait(60) == 0


def test_a_failure_that_nobody_reads_keeps_its_exit_code(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*CVX, "data", "list", "--json", *NOWHERE], cwd=empty_project(tmp_path / "app"), env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait(60) == 6


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("json", [[], ["--json"]])
def test_a_full_disk_is_said_once(json: list[str], tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*CVX, "help", "exit-codes", *json], cwd=tmp_path, env=environment(), stdout=full,
            stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("CannotPrint") == (0 if json else 1) and "Traceback" not in done.stderr


class _WebServer(http.server.BaseHTTPRequestHandler):
    """A web server that is no deployment: pages, whatever is asked."""

    def _page(self) -> None:
        body = b"<!DOCTYPE html>\n<html><body><h1>Nothing here</h1></body></html>"
        self.send_response(502)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _page

    def log_message(self, format: str, *args: object) -> None:
        return None


@pytest.mark.parametrize(
    "words", [["env", "list"], ["data", "list"], ["run", "a:b"], ["logs", "--no-follow"]]
)
def test_a_web_page_is_not_shown(words: list[str], tmp_path: Path) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _WebServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            done = cvx(*words, "--url", url, "--admin-key", "k", cwd=empty_project(tmp_path / "app"))
        finally:
            server.shutdown()
    assert done.code == 6 and "<" not in done.err, done.err
    assert "status 502" in done.err and f"Is {url} really a Convex deployment?" in done.err


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    project = empty_project(tmp_path / "app")
    (project / "secret.bin").write_bytes(b"\xff\xfe")
    for words in (["A", "--from-file", "secret.bin"], ["--from-file", "secret.bin"]):
        done = cvx("env", "set", *words, *NOWHERE, cwd=project)
        assert done.code == 1 and "secret.bin is not text" in done.err, done.err
    piped = subprocess.run(
        [*CVX, "env", "set", "A", *NOWHERE], cwd=project, env=environment(LC_ALL="C"), input=b"\xff",
        capture_output=True, check=False,
    )  # fmt: skip
    assert piped.returncode == 1 and b"Standard input is not text" in piped.stderr


@pytest.mark.skipif(not Path("/sys/kernel").exists(), reason="no /sys")
def test_a_folder_that_refuses_is_no_fault_of_ours(tmp_path: Path) -> None:
    """Nobody makes folders in /sys, not even root."""
    done = cvx("init", "/sys/an-app", "--template", "blank", "--no-install", cwd=tmp_path)
    assert done.code == 1 and "error[SystemRefused]: /sys/an-app" in done.err, done.err
    assert "cvx doctor" in done.err and "Traceback" not in done.err
