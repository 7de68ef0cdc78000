"""`--version` and `--help` answer at once: they import nothing they do not need."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from cvx import __version__
from tests.cli.command_line import CVX, cvx, environment

HEAVY = {
    "httpx",
    "websockets",
    "uvicorn",
    "starlette",
    "questionary",
    "rich",
    "watchfiles",
    "asyncio",
    "sqlite3",
}


def imported_by(*arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "cvx", *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.strip() for name in re.findall(r"^import time:.*\|([^|]+)$", done.stderr, re.MULTILINE)}


@pytest.mark.parametrize("flag", ["--version", "--help"])
def test_version_and_help_import_nothing_of_ours(flag: str) -> None:
    modules = imported_by(flag)
    assert {name for name in modules if name.startswith("cvx")} == {"cvx"}
    assert modules.isdisjoint(HEAVY | {"typer", "msgspec"})


@pytest.mark.parametrize("arguments", [["--help", "--color", "never"], [], ["help", "exit-codes"]])
def test_help_imports_no_command_and_nothing_heavy(arguments: list[str]) -> None:
    modules = imported_by(*arguments)
    assert modules.isdisjoint(HEAVY)
    commands = {name for name in modules if name.startswith("cvx.cli.commands.")}
    assert commands <= {"cvx.cli.commands.help"}
    assert not any(name.startswith("cvx.backend") for name in modules)


def test_a_command_that_sends_requests_imports_no_sockets_and_no_pushes(tmp_path: Path) -> None:
    nobody = ("--url", "http://127.0.0.1:9", "--admin-key", "a|b")
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "cvx", "env", "list", *nobody],
        env=environment(), cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 6 and "httpx" in done.stderr, done.stderr
    for heavy in ("websockets", "pydantic", "rich", "questionary", "cvx.protocol.push"):
        assert not re.search(rf"\| +{re.escape(heavy)}$", done.stderr, re.MULTILINE), heavy


def test_the_client_room_has_every_name_it_lists() -> None:
    from cvx.toolchain import client

    for name in client.__all__:
        assert getattr(client, name) is not None
    with pytest.raises(AttributeError):
        _ = client.nothing_of_this_name


@pytest.mark.parametrize("columns", ["", "80", "200"])
def test_the_written_help_is_fresh(columns: str, tmp_path: Path) -> None:
    """Stale? `cvx help > cvx/cli/root_help.txt`."""
    env = {"COLUMNS": columns}
    laid_out = cvx("--help", "--color", "never", cwd=tmp_path, env=env).out
    assert cvx("--help", cwd=tmp_path, env=env).out == laid_out == cvx("help", cwd=tmp_path, env=env).out
    assert laid_out.isascii(), "it is printed as it is, whatever the terminal's encoding"


def test_help_on_a_narrow_terminal_is_laid_out_for_it(tmp_path: Path) -> None:
    narrow = cvx("--help", cwd=tmp_path, env={"COLUMNS": "60"}).out
    assert (
        max(map(len, narrow.splitlines())) <= 60 < max(map(len, cvx("--help", cwd=tmp_path).out.splitlines()))
    )


def test_version_as_text_and_json(tmp_path: Path) -> None:
    assert cvx("--version", cwd=tmp_path).out == f"cvx {__version__}\n"
    assert cvx("--version", "--json", cwd=tmp_path).envelope()["data"] == {"version": __version__}


@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_answers_with_little_work(argument: str) -> None:
    """In processor time, and against Python's own start, so that a slow machine changes nothing. (What it takes in
    milliseconds is measured by `make bench`.)"""

    def work(*command: str) -> float:
        seconds = []
        for _ in range(5):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, env=environment(), capture_output=True, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
        return min(seconds)

    nothing = work(sys.executable, "-c", "pass")
    assert work(*CVX, argument) <= 8 * nothing
