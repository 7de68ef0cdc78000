"""`cvx dev` on every kind of broken input: it says what to do, and goes on by itself when that is done."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from cvx.toolchain.dev.ports import holder
from tests.processes import alive, descendants, still_alive
from tests.toolchain.dev_process import (
    Dev,
    notes_project,
    run_cvx,
    write_notes,
    write_schema,
)
from tests.waiting import until

pytestmark = pytest.mark.deno


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return notes_project(tmp_path / "app")


def test_start_edit_and_see_the_change(project: Path) -> None:
    with Dev(project) as dev:
        target = dev.event("target")
        dev.ready()
        assert f"CONVEX_URL={target['url']}\n" in (project / ".env.local").read_text()
        assert (project / "convex" / "_generated" / "api.d.ts").is_file()
        assert (project / ".gitignore").read_text().splitlines() == [".env.local"]
        assert dev.call("notes:version") == "one"
        write_notes(project, "two")
        assert dev.ready()["modulesSent"] == 1
        assert dev.call("notes:version") == "two"
        (project / "convex" / "more.ts").write_text(
            'import { query } from "./_generated/server";\nexport const x = query(async () => 1);\n'
        )
        dev.ready()
        assert dev.call("more:x") == 1
        assert (
            '"more"' in (project / "convex" / "_generated" / "api.d.ts").read_text()
            or "more" in (project / "convex" / "_generated" / "api.d.ts").read_text()
        )


def test_syntax_error(project: Path) -> None:
    with Dev(project) as dev:
        dev.ready()
        (project / "convex" / "notes.ts").write_text("export const broken = ;\n")
        error = dev.failed("BundleFailed")["error"]
        assert error["diagnostics"][0]["file"] == "convex/notes.ts"
        assert error["diagnostics"][0]["line"] == 1
        assert dev.call("notes:version") == "one", "the code that works stays live"
        write_notes(project, "mended")
        dev.ready()
        assert dev.call("notes:version") == "mended"


def test_broken_from_the_start(project: Path) -> None:
    (project / "convex" / "notes.ts").write_text("export const broken = ;\n")
    with Dev(project) as dev:
        dev.failed("BundleFailed")
        write_notes(project, "mended")
        dev.ready()
        assert dev.call("notes:version") == "mended"


def test_error_when_the_module_is_loaded(project: Path) -> None:
    with Dev(project) as dev:
        dev.ready()
        (project / "convex" / "bad.ts").write_text('throw new Error("at import");\nexport {};\n')
        error = dev.failed("InvalidModules")["error"]
        assert "at import" in error["message"] and "bad" in error["message"]
        (project / "convex" / "bad.ts").unlink()
        dev.ready()


def test_type_error_is_shown_and_stops_nothing(project: Path) -> None:
    with Dev(project, typecheck="try") as dev:
        dev.ready()
        assert dev.event("types")["status"] == "ok"
        source = (project / "convex" / "notes.ts").read_text()
        (project / "convex" / "notes.ts").write_text(source.replace('"one"', '"typed" satisfies number'))
        dev.ready()
        types = dev.event("types")
        assert types["status"] == "failed"
        assert types["diagnostics"][0]["file"] == "convex/notes.ts"
        assert dev.call("notes:version") == "typed", "a type error does not hold code back"
        write_notes(project, "fine")
        dev.ready()
        assert dev.event("types")["status"] == "ok"


def test_schema_that_rows_violate_waits_for_the_rows(project: Path) -> None:
    with Dev(project) as dev:
        dev.ready()
        dev.call("notes:add", {"text": "old"})
        write_schema(project, ", done: v.boolean()")
        failure = dev.failed("SchemaFailed")
        assert "notes" in failure["error"]["message"] and "table notes" in failure["waitsFor"]
        assert dev.call("notes:count") == 1
        dev.call("notes:clear")
        dev.ready()


def test_schema_that_rows_violate_waits_for_files_too(project: Path) -> None:
    with Dev(project) as dev:
        dev.ready()
        dev.call("notes:add", {"text": "old"})
        write_schema(project, ", done: v.boolean()")
        dev.failed("SchemaFailed")
        write_schema(project, ", done: v.optional(v.boolean())")
        dev.ready()
        assert dev.call("notes:count") == 1


def test_function_file_deleted_and_back(project: Path) -> None:
    with Dev(project) as dev:
        dev.ready()
        (project / "convex" / "notes.ts").unlink()
        dev.ready()
        assert run_cvx(project, "run", "notes:version").returncode == 3
        write_notes(project, "back")
        dev.ready()
        assert dev.call("notes:version") == "back"


def test_package_missing_until_it_is_installed(project: Path) -> None:
    with Dev(project) as dev:
        dev.ready()
        (project / "convex" / "uses.ts").write_text(
            'import { query } from "./_generated/server";\nimport { pad } from "leftpad-of-test";\n'
            "export const x = query(async () => pad());\n"
        )
        error = dev.failed("BundleFailed")["error"]
        assert "npm install leftpad-of-test" in str(error)
        package = project / "node_modules" / "leftpad-of-test"
        package.mkdir()
        (package / "package.json").write_text(
            '{"name": "leftpad-of-test", "main": "index.js", "type": "module"}'
        )
        (package / "index.js").write_text("export const pad = () => 42;\n")
        dev.ready()
        assert dev.call("uses:x") == 42


def test_no_packages_at_all_until_they_are_installed(project: Path) -> None:
    (project / "node_modules").rename(project / "elsewhere")
    with Dev(project) as dev:
        assert dev.failed("ConvexNotInstalled")["error"]["hint"].startswith("Run: ")
        (project / "elsewhere").rename(project / "node_modules")
        dev.ready()
        assert dev.call("notes:version") == "one"


def test_generated_files_that_are_removed_come_back(project: Path) -> None:
    with Dev(project) as dev:
        dev.ready()
        shutil.rmtree(project / "convex" / "_generated")
        write_notes(project, "again")
        dev.ready()
        assert (project / "convex" / "_generated" / "server.d.ts").is_file()


def test_convex_json_malformed(project: Path) -> None:
    with Dev(project) as dev:
        dev.ready()
        (project / "convex.json").write_text('{ "functions": }')
        assert dev.failed("InvalidConvexJson")["error"]["diagnostics"][0]["file"] == "convex.json"
        (project / "convex.json").write_text('{ "functions": "convex/" }')
        dev.ready()


def test_backend_killed_is_started_again_with_its_data(project: Path) -> None:
    with Dev(project) as dev:
        dev.ready()
        dev.call("notes:add", {"text": "kept"})
        first = dev.state()
        os.kill(first["pid"], signal.SIGKILL)
        dev.ready()
        assert dev.state()["pid"] != first["pid"]
        assert dev.state()["cloudPort"] == first["cloudPort"]
        assert dev.call("notes:count") == 1
        write_notes(project, "after")
        dev.ready()
        assert dev.call("notes:version") == "after"


def test_environment_variable_missing_until_it_is_set(project: Path) -> None:
    (project / "convex" / "auth.config.ts").write_text(
        "export default { providers: [{ domain: process.env.TEST_DOMAIN!, applicationID: 'x' }] };\n"
    )
    with Dev(project) as dev:
        failure = dev.failed("AuthConfigMissingEnvironmentVariable")
        assert "cvx env set TEST_DOMAIN" in failure["error"]["hint"]
        assert run_cvx(project, "env", "set", "TEST_DOMAIN", "https://example.com").returncode == 0
        dev.ready()


def test_interrupt_leaves_nothing_behind(project: Path) -> None:
    with Dev(project, "--start", f"{sys.executable} -m http.server 0 --bind 127.0.0.1") as dev:
        dev.ready()
        state = dev.state()
        until(lambda: len(descendants(dev.process.pid)) >= 4, "backend, its runner, bundler, front end")
        family = descendants(dev.process.pid)
        assert state["pid"] in family
        code, seconds = dev.stop()
        assert code == 130
        assert seconds < 20
        assert still_alive(family) == set()
        try:
            socket.create_server(("127.0.0.1", state["cloudPort"])).close()
        except OSError:  # The port was free again, and another test beside this one has taken it.
            held = holder(state["cloudPort"])
            assert "(pid" in held and not any(f"(pid {pid})" in held for pid in family), held


def test_interrupt_while_starting(project: Path) -> None:
    with Dev(project) as dev:
        dev.event("target")
        family = descendants(dev.process.pid)
        code, seconds = dev.stop()
        assert code == 130 and seconds < 20
        assert still_alive(family) == set()


def test_two_interrupts_leave_nothing_behind_either(project: Path) -> None:
    with Dev(project) as dev:
        dev.ready()
        family = descendants(dev.process.pid)
        os.kill(dev.process.pid, signal.SIGINT)
        time.sleep(0.05)
        assert dev.stop()[0] == 130
        assert still_alive(family) == set()


def test_terminated_is_interrupted(project: Path) -> None:
    with Dev(project) as dev:
        dev.ready()
        assert dev.stop(signal.SIGTERM)[0] == 130


def test_second_dev_refuses_by_name_and_a_stale_lock_heals(project: Path) -> None:
    with Dev(project) as first:
        first.ready()
        second = run_cvx(project, "dev", "--once")
        assert second.returncode == 5
        assert str(first.process.pid) in second.stderr
        backend = first.state()["pid"]
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait(60)
    assert alive(backend), "kill -9 leaves the backend to the next command"
    with Dev(project) as third:
        third.ready()
        assert third.state()["pid"] == backend, "adopted, not started a second time"
        write_notes(project, "adopted")
        third.ready()
        assert third.call("notes:version") == "adopted"
        third.stop()
    assert still_alive([backend]) == set()


def test_port_taken_says_by_what_and_takes_the_next(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (project / ".env.local").write_text(f"CONVEX_URL=http://127.0.0.1:{port}\n")
        with Dev(project, own_port=False) as dev:
            target = dev.event("target")
            dev.ready()
            assert target["url"] != f"http://127.0.0.1:{port}"
            assert f"CONVEX_URL={target['url']}\n" in (project / ".env.local").read_text()
            said = "".join(dev.errors)
            assert f"Port {port} is taken by" in said and f"pid {os.getpid()}" in said
        asked = run_cvx(project, "dev", "--once", "--port", str(port))
        assert asked.returncode == 5 and f"Port {port} is taken" in asked.stderr


def test_worktrees_of_one_name_started_at_once_get_ports_of_their_own(tmp_path: Path) -> None:
    projects = [notes_project(tmp_path / side / "app") for side in ("left", "right")]
    with Dev(projects[0], own_port=False) as left, Dev(projects[1], own_port=False) as right:
        urls = {dev.event("target")["url"] for dev in (left, right)}
        left.ready(), right.ready()
        assert len(urls) == 2
        left.call("notes:add", {"text": "mine"})
        assert (left.call("notes:count"), right.call("notes:count")) == (1, 0)


def test_once_and_until_success_and_run(project: Path) -> None:
    done = run_cvx(project, "dev", "--once", "--run", "notes:count", "--typecheck", "disable")
    assert done.returncode == 0, done.stderr
    assert "notes:count returned 0" in done.stderr
    (project / "convex" / "notes.ts").write_text("export const broken = ;\n")
    failed = run_cvx(project, "dev", "--once", "--typecheck", "disable")
    assert failed.returncode == 1 and "convex/notes.ts:1" in failed.stderr
    with Dev(project, "--until-success") as dev:
        dev.failed("BundleFailed")
        write_notes(project, "finally")
        dev.ready()
        assert dev.process.wait(60) == 0


def test_once_fails_on_type_errors(project: Path) -> None:
    source = (project / "convex" / "notes.ts").read_text()
    assert run_cvx(project, "dev", "--once").returncode == 0
    (project / "convex" / "notes.ts").write_text(source.replace('"one"', '"typed" satisfies number'))
    done = run_cvx(project, "dev", "--once")
    assert done.returncode == 1 and "TypeErrors" in done.stderr, done.stderr
    assert done.stderr.count("--> convex/notes.ts:") == 1, "shown once, with its place"
    assert run_cvx(project, "run", "notes:version").stdout == '"one"\n', "nothing was activated"
    forced = run_cvx(project, "dev", "--once", "--typecheck", "disable")
    assert forced.returncode == 0 and run_cvx(project, "run", "notes:version").stdout == '"typed"\n'


def test_until_success_waits_for_the_types(project: Path) -> None:
    source = (project / "convex" / "notes.ts").read_text()
    (project / "convex" / "notes.ts").write_text(source.replace('"one"', '"typed" satisfies number'))
    with Dev(project, "--until-success", typecheck="enable") as dev:
        dev.failed("TypeErrors")
        write_notes(project, "two")
        dev.ready()
        assert dev.process.wait(60) == 0


def test_front_end_that_fails_ends_dev(project: Path) -> None:
    with Dev(project, "--start", "exit 7") as dev:
        dev.ready()
        assert dev.process.wait(60) == 1
        assert "status 7" in "".join(dev.errors) or dev.event("end")["error"]["code"] == "FrontEndFailed"


def test_front_end_writes_through_us(project: Path) -> None:
    command = "echo $CONVEX_URL; test -t 1 && echo terminal; echo last words >&2; exit 7"
    done = run_cvx(project, "dev", "--start", command)
    assert done.returncode == 1 and done.stdout == ""
    assert "http://127.0.0.1:" in done.stderr and "\nterminal" not in done.stderr
    assert done.stderr.index("last words") < done.stderr.index("FrontEndFailed]")


def test_functions_folder_that_vanishes_is_made_again_and_said(project: Path) -> None:
    with Dev(project) as dev:
        dev.ready()
        (project / "convex").rename(project / "aside")
        dev.ready()
        assert "convex/ did not exist" in "".join(dev.errors)


def test_commands_start_the_backend_when_none_runs(project: Path) -> None:
    assert run_cvx(project, "dev", "--once", "--typecheck", "disable").returncode == 0
    done = run_cvx(project, "run", "notes:version")
    assert (done.returncode, done.stdout) == (0, '"one"\n'), done.stderr
    assert '"running":false' in run_cvx(project, "backend", "status", "--json").stdout


def test_backend_status_and_stop(project: Path) -> None:
    with Dev(project) as dev:
        dev.ready()
        pid = dev.state()["pid"]
        assert f'"pid":{pid}' in run_cvx(project, "backend", "status", "--json").stdout
        key = run_cvx(project, "backend", "key")
        assert key.returncode == 0 and "|" in key.stdout and key.stdout.count("\n") == 1


def test_other_limits_in_cvx_toml_start_the_backend_again(project: Path) -> None:
    settings = project / "cvx.toml"

    def set_variable(value: str) -> int:
        return run_cvx(project, "env", "set", "A", value).returncode

    with Dev(project) as dev:
        url = dev.event("target")["url"]
        dev.ready()
        assert set_variable("0123456789a") == 0
        settings.write_text("[backend.limits]\nenvironment_value_bytes_max = 10\n")
        assert dev.event("target")["url"] == url
        dev.ready()
        assert set_variable("0123456789b") != 0 and set_variable("0123456789") == 0
        settings.write_text("[backend.limits]\nenvironment_value_byte_max = 10\n")
        assert "environment_value_bytes_max" in dev.failed("BackendFailed")["error"]["message"]
        settings.unlink()
        dev.ready()
        assert set_variable("0123456789a") == 0
