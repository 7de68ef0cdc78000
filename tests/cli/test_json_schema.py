"""docs/json-schema.json tells the truth: every command is in it, and what the commands answer has exactly the shape it gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.backend_process import BackendProcess, free_port, pushed_app
from tests.cli.command_line import cvx
from tests.node_env import BLANK_PACKAGES, npm_project

ROOT = Path(__file__).resolve().parents[2]
APP = Path(__file__).parent / "app"
SCHEMA: dict[str, Any] = json.loads((ROOT / "docs" / "json-schema.json").read_text())


def closed(schema: Any) -> Any:
    """The schema with no other members than those it names: nothing undocumented may be answered."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    shut = {name: closed(value) for name, value in schema.items()}
    if shut.get("type") == "object" and "properties" in shut:
        shut["additionalProperties"] = False
    return shut


def check(command: str, line: str) -> Any:
    """One line of output: an envelope whose data has the command's shape."""
    envelope = json.loads(line)
    Draft202012Validator(closed(SCHEMA)).validate(envelope)
    if envelope["ok"]:
        shape = {**closed(SCHEMA["$defs"]["data"]["properties"][command]), "$defs": closed(SCHEMA["$defs"])}
        Draft202012Validator(shape).validate(envelope["data"])
    return envelope


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_every_command_is_in_it(tmp_path: Path) -> None:
    def names(command: dict[str, Any]) -> list[str]:
        inner = [name for child in command.get("commands", []) for name in names(child)]
        return inner or [command["name"].removeprefix("cvx ")]

    tree = cvx("help", "--json", cwd=tmp_path).envelope()["data"]
    hidden = {"completion words", "env rm", "env unset"}
    assert set(names(tree)) - hidden == set(SCHEMA["$defs"]["data"]["properties"])


WITH_DEPLOYMENT: list[tuple[str, list[str]]] = [
    ("functions", []),
    ("env set", ["A=1"]),
    ("env get", ["A"]),
    ("env list", []),
    ("env list", ["--names-only"]),
    ("env remove", ["A"]),
    ("data list", []),
    ("data show", ["{table}"]),
    ("jobs list", []),
    ("jobs cancel", ["--all"]),
    ("crons list", []),
    ("deploy", ["--dry-run", "--typecheck", "disable"]),
    ("deploy", ["--typecheck", "disable"]),
    ("logs", ["--history", "5", "--no-follow", "--success"]),
    ("auth setup", []),
    ("deployment show", []),
    ("data export", ["--table", "{table}"]),
    ("data export", ["--path", "all.zip"]),
    ("data import", ["rows.jsonl", "--table", "imported", "--dry-run"]),
    ("data import", ["rows.jsonl", "--table", "imported", "--yes"]),
    ("run", ["{function}"]),
]


@pytest.mark.deno
@pytest.mark.node
def test_commands_that_talk(tmp_path: Path) -> None:
    backend = BackendProcess(tmp_path / "data")
    backend.start()
    try:
        app = pushed_app(backend, APP, tmp_path / "app")
        env = {"CONVEX_SELF_HOSTED_URL": backend.url, "CONVEX_SELF_HOSTED_ADMIN_KEY": backend.admin_key}
        (app / "rows.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
        tables = cvx("data", "list", "--json", cwd=app, env=env).envelope()["data"]["tables"]
        functions = cvx("functions", "--json", cwd=app, env=env).envelope()["data"]["functions"]
        query = next(f["identifier"] for f in functions if f.get("functionType") == "Query")
        for command, words in WITH_DEPLOYMENT:
            filled = [word.format(table=tables[0]["name"], function=query) for word in words]
            done = cvx(*command.split(), *filled, "--json", cwd=app, env=env)
            lines = done.out.splitlines()
            assert lines or command in ("logs", "data export"), f"{command}: {done.err}"
            for line in lines:
                answered = check(command, line)
                assert answered["ok"] or command == "run", f"{command}: {answered}"
    finally:
        backend.stop()


@pytest.mark.deno
@pytest.mark.node
def test_commands_of_a_project(tmp_path: Path) -> None:
    app = tmp_path / "app"
    app.mkdir()
    (app / "node_modules").symlink_to(npm_project("blank", BLANK_PACKAGES) / "node_modules")
    port = str(free_port())
    for command, words in [
        ("init", ["--list-templates"]),
        ("init", ["--template", "blank"]),
        ("dev", ["--once", "--port", port]),
        ("codegen", []),
        ("typecheck", []),
        ("doctor", []),
        ("config show", ["--origin"]),
        ("deployment list", []),
        ("deployment create", ["other"]),
        ("deployment select", ["other"]),
        ("deployment show", []),
        ("deployment select", ["default"]),
        ("deployment delete", ["other", "--yes"]),
        ("backend status", []),
        ("backend stop", []),
        ("backend key", []),
        ("backend limits", ["stop_s"]),
        ("completion show", ["fish"]),
        ("completion install", ["fish"]),
        ("auth token", ["--subject", "ada"]),
        ("help", []),
        ("help", ["exit-codes"]),
    ]:
        done = cvx(*command.split(), *words, "--json", cwd=app, env={"HOME": str(tmp_path)})
        assert done.out, f"{command}: {done.err}"
        for line in done.out.splitlines():
            assert check(command, line)["ok"], f"{command}: {line}"


def test_failures(tmp_path: Path) -> None:
    for words in (
        ["run"],
        ["nonsense"],
        ["data", "show", "t", "--url", "http://127.0.0.1:9", "--admin-key", "k"],
    ):
        assert check("run", cvx(*words, "--json", cwd=tmp_path).out)["ok"] is False
