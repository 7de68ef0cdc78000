"""With --json, standard output carries one object whatever goes wrong; without it, errors are talk."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command_line import cvx, empty_project

NOWHERE = ["--url", "http://127.0.0.1:9", "--admin-key", "secret-key-of-a-test"]

FAILURES: list[tuple[int, list[str]]] = [
    (2, ["no-such-command"]),
    (2, ["--no-such-flag"]),
    (2, ["run"]),
    (2, ["run", "--bogus"]),
    (2, ["run", "a:b", "{", *NOWHERE]),
    (2, ["run", "a:b", "[1]", *NOWHERE]),
    (2, ["run", "a:b", "{'a': }", *NOWHERE]),
    (2, ["run", "a:b", "--inline-query", "1", *NOWHERE]),
    (2, ["run", "--inline-query", "1", "--watch", *NOWHERE]),
    (2, ["run", "a:b", "{}", "extra", "words"]),
    (2, ["run", "a:b", "--identity", "7", *NOWHERE]),
    (2, ["dev", "--typecheck", "maybe"]),
    (2, ["dev", "--codegen", "maybe"]),
    (2, ["dev", "--tail-logs=maybe"]),
    (2, ["dev", "--port", "abc"]),
    (2, ["dev", "--port", "70000"]),
    (2, ["deploy", "--typecheck", "no"]),
    (2, ["env"]),
    (2, ["env", "bogus"]),
    (2, ["env", "get"]),
    (2, ["env", "set", *NOWHERE]),
    (2, ["env", "set", "A", *NOWHERE]),
    (2, ["env", "set", "A", "1", "2", *NOWHERE]),
    (2, ["data"]),
    (2, ["data", "show"]),
    (2, ["data", "show", "t", "--order", "up", *NOWHERE]),
    (2, ["data", "show", "t", "--format", "xml", *NOWHERE]),
    (2, ["data", "show", "t", "--limit", "0", *NOWHERE]),
    (2, ["logs", "--history=many", *NOWHERE]),
    (2, ["logs", "--history", "many", *NOWHERE]),
    (2, ["dev", "--tail-logs", "sometimes"]),
    (2, ["backend", "serve"]),
    (2, ["backend", "serve", "--data", "d", "--port", "99999"]),
    (2, ["deployment", "create"]),
    (2, ["help", "nothing"]),
    (2, ["config", "show", "--color", "pink"]),
    (3, ["init", "--template", "no-such-template", "new-folder"]),
    (3, ["deployment", "select", "nowhere"]),
    (3, ["deployment", "delete", "nowhere", "--yes"]),
    (3, ["run", "a:b", "--deployment", "nowhere"]),
    (3, ["run", "a:b", "--prod"]),
    (3, ["run", "a:b"]),
    (3, ["env", "list", "--env-file", "missing.env"]),
    (3, ["env", "set", "--from-file", "missing.env", *NOWHERE]),
    (3, ["codegen", "--project", "no/such/folder"]),
    (3, ["backend", "key"]),
    (2, ["run", "a:b", "--url", "http://127.0.0.1:9"]),
    (2, ["run", "a:b", "--url", "ftp://x", "--admin-key", "k"]),
    (6, ["run", "a:b", *NOWHERE]),
    (6, ["env", "list", *NOWHERE]),
    (6, ["data", "list", *NOWHERE]),
    (6, ["functions", *NOWHERE]),
    (6, ["logs", *NOWHERE]),
    (6, ["run", "a:b", "--watch", *NOWHERE]),
]


def test_there_are_fifty_failures() -> None:
    assert len(FAILURES) >= 50


@pytest.mark.parametrize(
    ("code", "words"), FAILURES, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_failure_is_one_json_object(tmp_path: Path, code: int, words: list[str]) -> None:
    done = cvx(*words, "--json", cwd=empty_project(tmp_path / "app"))
    envelope = done.envelope()
    assert envelope["ok"] is False
    assert envelope["error"]["code"] and envelope["error"]["message"]
    assert done.code == code, envelope
    assert "Traceback" not in done.err
    assert "secret-key-of-a-test" not in done.out + done.err
    assert envelope["error"]["code"] != "Bug"


@pytest.mark.parametrize(
    "words", [["no-such-command"], ["run", "a:b", *NOWHERE], ["deployment", "select", "nowhere"]]
)
def test_without_json_errors_are_talk_with_a_fix(tmp_path: Path, words: list[str]) -> None:
    done = cvx(*words, cwd=empty_project(tmp_path / "app"))
    assert done.out == ""
    assert done.err.startswith("error[")
    assert "fix: " in done.err
    assert "\x1b" not in done.err
