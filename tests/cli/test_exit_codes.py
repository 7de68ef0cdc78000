"""One test for each exit code of `cvx help exit-codes`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import cvx.cli
from cvx.toolchain.client import http as client_http
from tests.backend_process import BackendProcess, pushed_app
from tests.cli.command_line import CVX, empty_project, environment
from tests.cli.command_line import cvx as run_cvx

APP = Path(__file__).parent / "app"


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[str]]]:
    """A project pushed to a backend, and the options that choose that backend."""
    folder = tmp_path_factory.mktemp("exit-codes")
    backend = BackendProcess(folder / "data")
    backend.start()
    try:
        project = pushed_app(backend, APP, folder / "app")
        yield project, ["--url", backend.url, "--admin-key", backend.admin_key]
    finally:
        backend.stop()


def test_1_failed(tmp_path: Path) -> None:
    project = empty_project(tmp_path / "app")
    (project / "convex.json").write_text("{")
    assert run_cvx("codegen", cwd=project).code == 1


def test_2_usage_when_nobody_can_answer(tmp_path: Path) -> None:
    begin = time.monotonic()
    done = run_cvx("env", "set", "NAME", "--url", "http://127.0.0.1:9", "--admin-key", "k", cwd=tmp_path)
    assert done.code == 2
    assert time.monotonic() - begin < 15
    assert "Pass the value as second argument" in done.err


def test_6_unreachable(tmp_path: Path) -> None:
    done = run_cvx("run", "a:b", "--url", "http://127.0.0.1:9", "--admin-key", "k", cwd=tmp_path)
    assert done.code == 6
    assert "http://127.0.0.1:9 cannot be reached: nothing answers there." in done.err
    done = run_cvx("run", "a:b", "--url", "http://nowhere.invalid", "--admin-key", "k", cwd=tmp_path)
    assert done.code == 6
    assert "http://nowhere.invalid cannot be reached: no connection (" in done.err


def test_8_stale_code_generation(tmp_path: Path) -> None:
    project = empty_project(tmp_path / "app")
    (project / "convex").mkdir()
    (project / "convex" / "a.ts").write_text("export const x = 1;\n")
    assert run_cvx("codegen", "--dry-run", cwd=project).code == 8
    assert run_cvx("codegen", cwd=project).code == 0
    assert run_cvx("codegen", "--dry-run", cwd=project).code == 0


def test_124_timed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody takes the connection and never answers."""
    monkeypatch.setattr(client_http, "ANSWER_DEADLINE_S", 0.3)
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert cvx.cli.run(["run", "a:b", "--url", url, "--admin-key", "k"]) == 124
    assert "gave no answer" in capsys.readouterr().err


def test_130_interrupted(tmp_path: Path) -> None:
    """Ctrl-C while a request is under way: it does not wait for the answer."""
    arrived = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        held: list[object] = []

        def accept() -> None:
            held.append(silent.accept())
            arrived.set()

        threading.Thread(target=accept, daemon=True).start()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            [*CVX, "run", "a:b", "--url", url, "--admin-key", "k"],
            cwd=tmp_path,
            env=environment(),
            stderr=subprocess.PIPE,
        )
        assert arrived.wait(60)
        time.sleep(0.1)
        begin = time.monotonic()
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
        assert time.monotonic() - begin < 15, "it waits for no answer"
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
        process.stderr.close()


@pytest.mark.deno
class TestAgainstABackend:
    """The codes that need somebody to say no."""

    def test_0_ok(self, deployed: tuple[Path, list[str]]) -> None:
        project, chosen = deployed
        done = run_cvx("run", "misc:double", '{"x": 4}', *chosen, cwd=project)
        assert (done.code, done.out) == (0, "8.0\n"), done.err

    def test_3_not_found_names_the_nearest(self, deployed: tuple[Path, list[str]]) -> None:
        project, chosen = deployed
        done = run_cvx("run", "misc:doubel", *chosen, cwd=project)
        assert done.code == 3, done.err
        assert "misc:double" in done.err
        assert run_cvx("data", "show", "itens", *chosen, cwd=project).code == 3
        assert run_cvx("env", "get", "NOPE", *chosen, cwd=project).code == 3
        missing = run_cvx("run", "--component", "nowhere", "misc:double", *chosen, cwd=project)
        assert missing.code == 3 and "nowhere" in missing.err

    def test_4_wrong_key(self, deployed: tuple[Path, list[str]]) -> None:
        project, chosen = deployed
        done = run_cvx("run", "misc:double", *chosen[:2], "--admin-key", "x|0011", cwd=project)
        assert done.code == 4, done.err
        assert "fix:" in done.err

    def test_5_validation(self, deployed: tuple[Path, list[str]]) -> None:
        project, chosen = deployed
        assert run_cvx("run", "misc:double", '{"x": "four"}', *chosen, cwd=project).code == 5
        assert run_cvx("env", "set", "1BAD", "x", *chosen, cwd=project).code == 5

    def test_7_the_function_threw(self, deployed: tuple[Path, list[str]]) -> None:
        project, chosen = deployed
        done = run_cvx("run", "misc:fail", *chosen, "--json", cwd=project)
        assert done.code == 7
        error = done.envelope()["error"]
        assert error["code"] == "FunctionThrew"
        assert error["data"] == {"reason": "on purpose"}

    def test_inline_query_reads(self, deployed: tuple[Path, list[str]]) -> None:
        project, chosen = deployed
        run_cvx("run", "misc:add", '{"name": "one"}', *chosen, cwd=project)
        done = run_cvx("data", "show", "items", "--format", "jsonl", *chosen, cwd=project)
        assert done.code == 0 and '"name":"one"' in done.out, done.err

    def test_env_round_trip_is_idempotent(self, deployed: tuple[Path, list[str]]) -> None:
        project, chosen = deployed
        assert "Set SECRET" in run_cvx("env", "set", "SECRET", "hush#1", *chosen, cwd=project).err
        again = run_cvx("env", "set", "SECRET", "hush#1", *chosen, cwd=project)
        assert "Nothing to do" in again.err and "hush" not in again.err + again.out
        assert run_cvx("env", "get", "SECRET", *chosen, cwd=project).out == "hush#1\n"
        listed = run_cvx("env", "list", *chosen, cwd=project).out
        assert listed == "SECRET='hush#1'\n"
        assert run_cvx("env", "set", *chosen, cwd=project, stdin="SECRET=other\n").code == 5
        assert run_cvx("env", "set", "--force", *chosen, cwd=project, stdin="SECRET=other\n").code == 0
        assert run_cvx("env", "set", "SECRET", *chosen, cwd=project, stdin="piped\n").code == 0
        assert run_cvx("env", "get", "SECRET", *chosen, cwd=project).out == "piped\n"
        assert run_cvx("env", "remove", "SECRET", *chosen, cwd=project).code == 0
        assert "Nothing to do" in run_cvx("env", "rm", "SECRET", *chosen, cwd=project).err

    def test_functions_and_tables_as_json(self, deployed: tuple[Path, list[str]]) -> None:
        project, chosen = deployed
        spec = run_cvx("functions", *chosen, "--json", cwd=project).envelope()["data"]
        assert {f["identifier"] for f in spec["functions"]} >= {
            "misc.js:double",
            "misc.js:fail",
            "misc.js:add",
        }
        tables = run_cvx("data", "list", *chosen, "--json", cwd=project).envelope()["data"]["tables"]
        assert [table["name"] for table in tables] == ["items"]

    def test_logs_history(self, deployed: tuple[Path, list[str]]) -> None:
        project, chosen = deployed
        run_cvx("run", "misc:double", '{"x": 1}', *chosen, cwd=project)
        done = run_cvx("logs", "--no-follow", *chosen, cwd=project)
        assert done.code == 0 and "doubling 1" in done.out, done.err

    def test_official_variables_choose_the_deployment(
        self, deployed: tuple[Path, list[str]], tmp_path: Path
    ) -> None:
        _, chosen = deployed
        env = {"CONVEX_SELF_HOSTED_URL": chosen[1], "CONVEX_SELF_HOSTED_ADMIN_KEY": chosen[3]}
        done = run_cvx("run", "misc:double", '{"x": 2}', cwd=tmp_path, env=env)
        assert (done.code, done.out) == (0, "4.0\n"), done.err

    def test_watch_streams_every_result(self, deployed: tuple[Path, list[str]]) -> None:
        project, chosen = deployed
        process = subprocess.Popen(
            [*CVX, "run", "misc:count", "--watch", *chosen, "--json"],
            cwd=project,
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            assert '"ok":true' in first
            run_cvx("run", "misc:add", '{"name": "two"}', *chosen, cwd=project)
            second = process.stdout.readline()
            assert '"ok":true' in second and second != first
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
            assert process.stdout is not None
            process.stdout.close()

    def test_deploy_dry_run_changes_nothing(self, deployed: tuple[Path, list[str]]) -> None:
        project, chosen = deployed
        done = run_cvx("deploy", "--dry-run", "--typecheck", "disable", *chosen, "--json", cwd=project)
        assert done.code == 0, done.out
        assert done.envelope()["data"]["dryRun"] is True
