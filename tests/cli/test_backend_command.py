"""`cvx backend` for other programs: serve in the foreground, the key alone, a clean stop on SIGTERM."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from cvx import __version__
from tests.backend_process import free_port
from tests.cli.command_line import CVX, cvx, environment


def test_key_is_printed_alone_and_stays_the_same(tmp_path: Path) -> None:
    first = cvx("backend", "key", "--data", "data", "--instance-name", "shop", cwd=tmp_path)
    assert first.code == 0 and first.err == ""
    assert first.out.startswith("shop|") and first.out.count("\n") == 1
    assert cvx("backend", "key", "--data", "data", cwd=tmp_path).out == first.out
    instance = tmp_path / "data" / "instance.json"
    assert instance.stat().st_mode & 0o777 == 0o600
    secret = json.loads(instance.read_text())["instanceSecret"]
    assert secret not in first.out
    rotated = cvx("backend", "key", "--data", "data", "--rotate", cwd=tmp_path)
    assert rotated.out != first.out and rotated.out.startswith("shop|")


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    done = cvx("backend", "key", "--data", "typo", cwd=tmp_path)
    assert done.code == 3 and "typo" in done.err
    assert not (tmp_path / "typo").exists()


def test_another_name_is_refused(tmp_path: Path) -> None:
    cvx("backend", "key", "--data", "data", "--instance-name", "shop", cwd=tmp_path)
    done = cvx("backend", "key", "--data", "data", "--instance-name", "other", cwd=tmp_path)
    assert done.code == 5 and "'shop'" in done.err


def test_a_damaged_instance_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "instance.json").write_text("{")
    done = cvx("backend", "key", "--data", "data", cwd=tmp_path)
    assert done.code == 1 and "instance.json is damaged" in done.err
    assert (tmp_path / "data" / "instance.json").read_text() == "{"


@pytest.mark.deno
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_answers_and_stops_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    port, site_port = free_port(), free_port()
    process = subprocess.Popen(
        [
            *CVX,
            "backend",
            "serve",
            "--port",
            str(port),
            "--site-port",
            str(site_port),
            "--data",
            "data",
            "--json",
        ],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())["data"]
        assert ready["url"] == f"http://127.0.0.1:{port}"
        assert httpx.get(f"{ready['url']}/version").text == __version__
        assert httpx.get(f"{ready['url']}/instance_name").text == ready["instance"]
        key = cvx("backend", "key", "--data", "data", cwd=tmp_path).out.strip()
        listed = cvx("env", "list", "--url", ready["url"], "--admin-key", key, "--json", cwd=tmp_path)
        assert listed.envelope()["data"] == {"variables": {}}
        begin = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert time.monotonic() - begin < 20
        assert "Traceback" not in err
        assert out == ""
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.mark.deno
def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = cvx(
            "backend", "serve", "--port", str(port), "--site-port", "0", "--data", "data", cwd=tmp_path
        )
    assert done.code != 0
    assert str(port) in done.err and "Traceback" not in done.err and "[Bug]" not in done.err
