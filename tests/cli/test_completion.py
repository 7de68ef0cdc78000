"""Completion: what is offered, in the shells themselves, and that `completions/` holds what the program would print."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cvx.cli.completion import FILE_NAMES, SHELLS, script_for
from tests.backend_process import BackendProcess, pushed_app
from tests.cli.command_line import cvx, empty_project, environment

ROOT = Path(__file__).resolve().parents[2]
APP = Path(__file__).parent / "app"


def offered(cwd: Path, *words: str, env: dict[str, str] | None = None) -> list[str]:
    done = cvx("completion", "words", "--", *words, cwd=cwd, env=env)
    assert done.code == 0, done.err
    return [line.split("\t")[0] for line in done.out.splitlines()]


@pytest.fixture
def on_path(tmp_path: Path) -> dict[str, str]:
    """A PATH with a `cvx` that is this one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "cvx").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cvx "$@"\n')
    (folder / "cvx").chmod(0o755)
    return environment(PATH=f"{folder}{os.pathsep}{os.environ['PATH']}", HOME=str(tmp_path))


@pytest.mark.parametrize("shell", SHELLS)
def test_the_files_are_fresh(shell: str) -> None:
    """Stale? `cvx completion show SHELL > completions/FILE`."""
    assert (ROOT / "completions" / FILE_NAMES[shell]).read_text() == script_for(shell)


def test_commands_and_options(tmp_path: Path) -> None:
    assert {"init", "dev", "data", "env"} <= set(offered(tmp_path, ""))
    assert offered(tmp_path, "depl") == ["deploy", "deployment"]
    assert offered(tmp_path, "env", "l") == ["list"]
    assert "rm" not in offered(tmp_path, "env", ""), "aliases are not shown"
    assert offered(tmp_path, "dev", "--typec") == ["--typecheck"]
    assert offered(tmp_path, "dev", "--typecheck", "") == ["try", "enable", "disable"]
    assert offered(tmp_path, "dev", "--typecheck=en") == ["--typecheck=enable"]
    assert offered(tmp_path, "dev", "--once", "--tail-logs", "d") == ["disable"]
    assert "chat-vite" in offered(tmp_path, "init", "--template", "")
    assert offered(tmp_path, "completion", "show", "") == list(SHELLS)
    assert offered(tmp_path, "nonsense", "") == []
    assert offered(tmp_path, "run", "") == [], "no project: nothing, and no error"


def test_files(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows.jsonl").touch()
    (tmp_path / ".hidden").touch()
    assert offered(tmp_path, "env", "set", "--from-file", "") == ["rows/", "rows.jsonl"]
    assert offered(tmp_path, "env", "set", "--from-file", "rows.") == ["rows.jsonl"]


def test_local_deployments(tmp_path: Path) -> None:
    project = empty_project(tmp_path / "app")
    for name in ("default", "feature-x"):
        folder = project / ".cvx" / "local" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(
            json.dumps(
                {"version": 1, "cloudPort": 1, "sitePort": 2, "instanceName": "a", "instanceSecret": "0" * 64}
            )
        )
    assert offered(project, "deployment", "select", "") == ["default", "feature-x"]
    assert offered(project, "env", "list", "--deployment", "f") == ["feature-x"]
    assert offered(project, "data", "show", "") == [], "a backend that does not run is not started"


@pytest.mark.deno
@pytest.mark.node
def test_names_of_a_running_deployment(tmp_path: Path, on_path: dict[str, str]) -> None:
    backend = BackendProcess(tmp_path / "data")
    backend.start()
    try:
        app = pushed_app(backend, APP, tmp_path / "app")
        env = {"CONVEX_SELF_HOSTED_URL": backend.url, "CONVEX_SELF_HOSTED_ADMIN_KEY": backend.admin_key}
        assert cvx("env", "set", "API_KEY", "x", cwd=app, env=env).code == 0
        functions = offered(app, "run", "", env=env)
        assert functions and all(":" in name for name in functions)
        tables = offered(app, "data", "show", "", env=env)
        assert tables
        assert offered(app, "env", "get", "AP", env=env) == ["API_KEY"]
        assert offered(app, "env", "remove", "OTHER", "A", env=env) == ["API_KEY"]
        module, _, _ = functions[0].partition(":")
        after_colon = [name.partition(":")[2] for name in functions if name.startswith(f"{module}:")]
        assert in_bash(f"cvx run {module}:", app, on_path | env) == after_colon
    finally:
        backend.stop()


def in_bash(line: str, cwd: Path, env: dict[str, str]) -> list[str]:
    """What bash itself would offer for this line."""
    script = f"""
    source {ROOT}/completions/cvx.bash
    COMP_LINE="$1"; COMP_POINT=${{#1}}
    _cvx
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "-c", script, "bash", line], cwd=cwd, env=env, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_bash(tmp_path: Path, on_path: dict[str, str]) -> None:
    assert in_bash("cvx depl", tmp_path, on_path) == ["deploy", "deployment"]
    assert in_bash("cvx env ", tmp_path, on_path)[:2] == ["set", "get"]
    assert in_bash("cvx dev --typecheck=en", tmp_path, on_path) == ["enable"]


@pytest.mark.skipif(
    shutil.which("fish") is None, reason="LOUD: fish is not installed here (apt-get install fish)"
)
def test_fish(tmp_path: Path, on_path: dict[str, str]) -> None:
    script = f"source {ROOT}/completions/cvx.fish; complete -C 'cvx env l'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        cwd=tmp_path,
        env=on_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("list\tList the variables")


@pytest.mark.skipif(
    shutil.which("zsh") is None, reason="LOUD: zsh is not installed here (apt-get install zsh)"
)
def test_zsh(tmp_path: Path, on_path: dict[str, str]) -> None:
    """The function itself, with zsh's own `_describe` replaced by one that prints what it is given."""
    script = f"""
    compdef() {{ : }}
    _describe() {{ print -l -- "${{(@P)2}}" }}
    source {ROOT}/completions/_cvx
    words=(cvx env l); CURRENT=3
    _cvx
    """
    done = subprocess.run(
        ["zsh", "-f", "-c", script], cwd=tmp_path, env=on_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("list:List the variables"), done.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_install_twice(tmp_path: Path, shell: str) -> None:
    env = {"HOME": str(tmp_path), "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""}
    first = cvx("completion", "install", shell, "--json", cwd=tmp_path, env=env).envelope()["data"]
    assert first["changed"] is True and Path(first["file"]).read_text() == script_for(shell)
    again = cvx("completion", "install", shell, "--json", cwd=tmp_path, env=env).envelope()["data"]
    assert again["changed"] is False


def test_the_shell_in_use(tmp_path: Path) -> None:
    assert "_cvx()" in cvx("completion", "show", cwd=tmp_path, env={"SHELL": "/bin/zsh"}).out
    done = cvx("completion", "show", cwd=tmp_path, env={"SHELL": "/bin/tcsh"})
    assert done.code == 2 and "bash, zsh, fish" in done.err
