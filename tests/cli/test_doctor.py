"""`cvx doctor` finds twelve faults, and following its own advice ends each of them."""

from __future__ import annotations

import json
import os
import shlex
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cvx.backend.config import Limits
from cvx.backend.store import examine_folder, open_store
from cvx.toolchain.dev import DataFolder, Finding, Machine, examine
from cvx.toolchain.dev.doctor import file_system_of
from tests.backend_process import free_port
from tests.cli.command_line import CVX, cvx, environment
from tests.node_env import npm_project

PACKAGES = {"convex": "1.48.0", "typescript": "7.0.2"}


def no_data(folder: Path) -> DataFolder:
    return DataFolder(None, 1, None, None)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A healthy project."""
    folder = tmp_path / "app"
    (folder / "convex").mkdir(parents=True)
    (folder / "package.json").write_text(
        json.dumps({"name": "app", "type": "module", "dependencies": {"convex": "^1.48.0"}})
    )
    (folder / "node_modules").mkdir()
    for package in (npm_project("cvx-dev", PACKAGES) / "node_modules").iterdir():
        (folder / "node_modules" / package.name).symlink_to(package)
    return folder


def findings(project: Path, env: dict[str, str] | None = None) -> dict[str, tuple[str, str, str | None]]:
    """What is not well, by the name of the check."""
    done = cvx("doctor", "--json", cwd=project, env=env)
    envelope = done.envelope()
    found = envelope["data"]["findings"] if envelope["ok"] else envelope["error"]["data"]
    bad = {f["check"]: (f["status"], f["message"], f["fix"]) for f in found if f["status"] == "failed"}
    assert done.code == (8 if bad else 0)
    assert all(fix for _, _, fix in bad.values()), bad
    return bad


def follow(fix: str, project: Path) -> None:
    """Type the advice into a shell, with `cvx` being this one."""
    words = [w for word in shlex.split(fix) for w in (CVX if word == "cvx" else [word])]
    done = subprocess.run(words, cwd=project, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def create_deployment(project: Path, port: int) -> Path:
    """The local deployment as `cvx init` leaves it, on this port."""
    folder = project / ".cvx" / "local" / "default"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(
        json.dumps(
            {
                "version": 1,
                "cloudPort": port,
                "sitePort": port + 1,
                "instanceName": "local-app",
                "instanceSecret": "00" * 32,
            }
        )
    )
    return folder


@pytest.mark.node
def test_nothing_is_wrong(project: Path) -> None:
    done = cvx("doctor", cwd=project)
    assert done.code == 0, done.out
    assert "✘" not in done.out and "Nothing is wrong" in done.err


@pytest.mark.node
@pytest.mark.deno
def test_port_taken(project: Path) -> None:
    port = free_port()
    create_deployment(project, port)
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        _, message, fix = findings(project)["ports"]
        assert str(port) in message and f"pid {os.getpid()}" in message
        assert fix is not None
        follow(fix, project)
        assert findings(project) == {}


@pytest.mark.node
def test_unwritable_folder(project: Path) -> None:
    """For root every mode is writable, so the folder is mounted read-only instead."""
    if os.geteuid() != 0:
        project.chmod(0o555)
        _, message, fix = findings(project)["folder"]
        assert str(project) in message and fix is not None
        follow(fix.split("   ")[0], project)
        assert findings(project) == {}
        return
    command = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"'
    words = [
        "unshare",
        "-m",
        "sh",
        "-c",
        command,
        "sh",
        str(project),
        *CVX,
        "doctor",
        "--project",
        str(project),
    ]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode != 8 and ("mount" in done.stderr or "unshare" in done.stderr):
        pytest.skip(f"LOUD: this root may not mount here: {done.stderr.strip()}")
    assert done.returncode == 8
    assert f"cannot write in {project}: read-only file system" in done.stdout
    assert findings(project) == {}


@pytest.mark.node
def test_a_file_where_the_folder_belongs(project: Path) -> None:
    (project / ".cvx").write_text("")
    _, message, fix = findings(project)["folder"]
    assert ".cvx is a file" in message and fix is not None
    follow(fix, project)
    assert findings(project) == {}


@pytest.mark.node
def test_old_convex(project: Path) -> None:
    package = project / "node_modules" / "convex"
    package.unlink()
    package.mkdir()
    (package / "package.json").write_text('{"name": "convex", "version": "0.19.1"}')
    (package / "node_modules").symlink_to(npm_project("cvx-dev", PACKAGES) / "node_modules")
    _, message, fix = findings(project)["convex"]
    assert "0.19.1" in message and fix is not None
    assert "add" in shlex.split(fix) and "convex@^1.48.0" in fix
    package.rename(project / "old")
    package.symlink_to(npm_project("cvx-dev", PACKAGES) / "node_modules" / "convex")
    assert findings(project) == {}


def test_missing_packages(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"name": "app", "dependencies": {"convex": "^1.48.0"}}')
    _, message, fix = findings(tmp_path)["packages"]
    assert "convex" in message and fix == "cvx init"
    follow(fix, tmp_path)
    assert findings(tmp_path) == {}


@pytest.mark.node
def test_broken_convex_json(project: Path) -> None:
    (project / "convex.json").write_text('{\n  "functions": 3\n}\n')
    _, message, fix = findings(project)["project"]
    assert "convex.json" in message and fix is not None
    (project / "convex.json").write_text('{\n  "functions": "convex/"\n}\n')
    assert findings(project) == {}


@pytest.mark.node
def test_bad_env_local(project: Path) -> None:
    (project / ".env.local").write_text("CONVEX_URL=http://127.0.0.1:3210\n'oh no\n")
    _, message, fix = findings(project)["environment"]
    assert ".env.local:2" in message and fix is not None and "line 2" in fix
    (project / ".env.local").write_text("CONVEX_URL=http://127.0.0.1:3210\n")
    assert findings(project) == {}


@pytest.mark.node
def test_a_note_of_a_backend_that_was_killed(project: Path) -> None:
    port = free_port()
    folder = create_deployment(project, port)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (folder / "backend.json").write_text(
        json.dumps({"pid": gone.pid, "started": "1", "cloudPort": port, "sitePort": port + 1})
    )
    _, message, fix = findings(project)["locks"]
    assert str(folder) in message and fix == "cvx backend status"
    subprocess.run(
        [*CVX, "backend", "status"], cwd=project, env=environment(), capture_output=True, check=False
    )
    assert findings(project) == {}


@pytest.mark.node
def test_data_in_use_by_another_program(project: Path) -> None:
    folder = create_deployment(project, free_port())
    store = open_store(folder / "data", Limits(), lambda _: None)
    try:
        _, message, fix = findings(project)["locks"]
        assert f"process {os.getpid()}" in message and fix == f"Stop it: kill {os.getpid()}"
    finally:
        store.close()
    assert findings(project) == {}


@pytest.mark.node
def test_newer_data(project: Path) -> None:
    folder = create_deployment(project, free_port())
    open_store(folder / "data", Limits(), lambda _: None).close()
    (path,) = (folder / "data").glob("*.sqlite3")
    connection = sqlite3.connect(path)
    (format,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version={format + 1}")
    connection.close()
    _, message, fix = findings(project)["data"]
    assert f"format {format + 1}" in message and fix is not None and "pip install --upgrade" in fix
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version={format}")
    connection.close()
    assert findings(project) == {}


@pytest.mark.node
def test_no_deno(project: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken" / "deno"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("def find_deno_bin():\n    raise FileNotFoundError('deno')\n")
    bad = findings(project, {"PYTHONPATH": str(broken.parent)})
    assert bad["deno"][2] == f"Run: {sys.executable} -m pip install --force-reinstall deno"
    assert findings(project) == {}


def ill(project: Path, data: Callable[[Path], DataFolder] = no_data, **machine: object) -> list[Finding]:
    return [f for f in examine(project, {}, data, Machine(**machine)) if f.status == "failed"]  # type: ignore[arg-type]


@pytest.mark.node
def test_disk_full(project: Path) -> None:
    (found,) = ill(project, disk_free=lambda _: 3 << 20)
    assert found.check == "disk" and "3 MB left" in found.message
    assert ill(project) == []


@pytest.mark.node
def test_network_file_system(project: Path) -> None:
    root = project.parent
    mounts = f"/dev/sda1 / ext4 rw 0 0\nserver:/home {root} nfs4 rw 0 0\n"
    (found,) = ill(project, mounts=lambda: mounts)
    assert found.check == "file system" and "nfs4" in found.message
    assert ill(project) == []


def test_the_file_system_of_a_folder() -> None:
    mounts = "/dev/a / ext4 rw\nx:/y /mnt/my\\040disk nfs rw\n/dev/b /mnt/my\\040disk/local xfs rw\n"
    assert file_system_of(Path("/mnt/my disk/app"), mounts) == "nfs"
    assert file_system_of(Path("/mnt/my disk/local/app"), mounts) == "xfs"
    assert file_system_of(Path("/mnt/my diskette"), mounts) == "ext4"
    assert file_system_of(Path("/home"), "") is None


@pytest.mark.node
def test_wrong_clock(project: Path) -> None:
    folder = create_deployment(project, free_port())
    open_store(folder / "data", Limits(), lambda _: None).close()
    report = examine_folder(folder / "data")
    data = DataFolder(report.format, report.format_max, 1_800_000_000.0, None)
    (found,) = ill(project, lambda _: data, now=lambda: 1_000_000_000.0)
    assert found.check == "data" and "clock is wrong" in found.message
    assert ill(project, lambda _: data, now=lambda: 1_800_000_001.0) == []
