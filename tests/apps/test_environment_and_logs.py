"""Environment variables and the function log, as clients and both command lines see them; and their guides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.apps.driving import HERE, drive, running, type_check
from tests.apps.guides import blocks_missing
from tests.backend_process import BackendProcess
from tests.cli.command_line import cvx
from tests.compat.official_cli import OfficialCli

pytestmark = [pytest.mark.deno, pytest.mark.node]

NEEDS = (
    "declare const process: { env: Record<string, string | undefined> };\n"
    "export default { providers: [{ domain: process.env.ISSUER_URL, applicationID: 'convex' }] };\n"
)


def chosen(backend: BackendProcess) -> list[str]:
    return ["--url", backend.url, "--admin-key", backend.admin_key]


def test_environment_variables(tmp_path: Path) -> None:
    with running(HERE / "environment", tmp_path) as (backend, folder):
        print(drive(folder / "drive.mjs", backend))
        type_check(folder)
        # A variable that auth.config.ts needs: the push says which one, in both command lines.
        (folder / "convex" / "auth.config.ts").write_text(NEEDS)
        pushed = ("dev", "--once", "--typecheck", "disable")
        ours = cvx(*pushed, *chosen(backend), "--json", cwd=folder)
        assert ours.code != 0
        last = json.loads(ours.out.splitlines()[-1])
        assert last["error"]["code"] == "AuthConfigMissingEnvironmentVariable"
        assert "ISSUER_URL" in last["error"]["message"] + last["error"]["hint"]
        official = OfficialCli(folder, backend)
        theirs = official(*pushed, code=1)
        assert "Environment variable ISSUER_URL is used in auth config file" in theirs.stderr
        assert (
            cvx("env", "set", "ISSUER_URL", "https://id.example.com", *chosen(backend), cwd=folder).code == 0
        )
        official(*pushed)
        refused = cvx("env", "remove", "ISSUER_URL", *chosen(backend), "--json", cwd=folder)
        assert refused.envelope()["error"]["code"] == "AuthConfigMissingEnvironmentVariable"


def test_environment_variables_on_the_command_line(tmp_path: Path) -> None:
    with running(HERE / "environment", tmp_path) as (backend, folder):
        values = {"PLAIN": "a b", "QUOTED": 'it\'s "so"', "LINES": "one\ntwo", "HASH": "a#b", "EMPTY": ""}
        for name, value in values.items():
            assert cvx("env", "set", name, value, *chosen(backend), cwd=folder).code == 0
        listed = cvx("env", "list", *chosen(backend), cwd=folder)
        (folder / "copy.env").write_text(listed.out)
        official = OfficialCli(folder, backend)
        assert official("env", "list").stdout == listed.out
        for name in values:
            assert cvx("env", "remove", name, *chosen(backend), cwd=folder).code == 0
        # What one lists the other reads back.
        official("env", "set", "--from-file", "copy.env")
        for name, value in values.items():
            got = cvx("env", "get", name, *chosen(backend), "--json", cwd=folder).envelope()["data"]["value"]
            assert got == value, name
        refused = cvx("env", "set", "1A", "x", *chosen(backend), "--json", cwd=folder)
        assert refused.envelope()["error"]["code"] == "EnvironmentVariableNameInvalid"
        assert "not a valid name" in official("env", "set", "1A", "x", code=1).stderr


def test_logs(tmp_path: Path) -> None:
    with running(HERE / "logs", tmp_path) as (backend, folder):
        print(drive(folder / "drive.mjs", backend))
        type_check(folder)
        answer = cvx("run", "orders:place", '{"item": "pad", "count": 200}', *chosen(backend), cwd=folder)
        assert answer.code == 0
        assert "[DEBUG] 'reserving' 200 'of' 'pad'" in answer.err
        cvx("run", "orders:fail", '{"why": "no pads"}', *chosen(backend), cwd=folder)
        shown = cvx("logs", "--history", "2", "--no-follow", *chosen(backend), cwd=folder).out
        lines = [line.partition("[CONVEX ")[2] for line in shown.splitlines()]
        assert lines[1:5] == [
            "",
            "",
            "",
            "M(orders:place)] [WARN] 'an unusually large order'",
        ]
        assert "M(orders:place)] [DEBUG] 'reserving' 200 'of' 'pad'" in lines
        assert "M(orders:fail)] Uncaught Error: no pads" in lines
        as_json = cvx("logs", "--history", "1", "--no-follow", "--json", *chosen(backend), cwd=folder)
        entry = json.loads(as_json.out)
        assert entry["data"]["identifier"] == "orders:fail" and entry["data"]["caller"] == "HttpApi"
        with OfficialCli(folder, backend).start("logs", "--history", "2") as follows:
            follows.wait_for("[CONVEX M(orders:place)] [DEBUG] 'reserving' 200 'of' 'pad'")
            follows.wait_for("[CONVEX M(orders:fail)] Uncaught Error: no pads")
            cvx("run", "orders:chatter", '{"lines": 2, "size": 3}', *chosen(backend), cwd=folder)
            follows.wait_for("[CONVEX M(orders:chatter)] [LOG] 'xxx'", times=2)
            acted = cvx("run", "reports:slow", '{"steps": 2}', *chosen(backend), cwd=folder)
            assert float(acted.out) == 2 and "[LOG] 'step' 2" in acted.err
            follows.wait_for("[CONVEX A(reports:slow)] [WARN] 'done'")
            assert follows.text.count("A(reports:slow)] [LOG] 'step' 1") == 1
        shown = cvx("logs", "--history", "4", "--no-follow", "--success", *chosen(backend), cwd=folder).out
        lines = [line.partition("[CONVEX ")[2] for line in shown.splitlines()]
        assert lines[:3] == [
            f"A(reports:slow)] {text}" for text in ("[LOG] 'step' 1", "[LOG] 'step' 2", "[WARN] 'done'")
        ]
        assert lines[3].startswith("A(reports:slow)] Function executed in ")


@pytest.mark.parametrize(
    ("guide", "app"), [("environment", "environment"), ("logs", "logs"), ("http-actions", "stripe_webhook")]
)
def test_the_guide_shows_what_the_app_does(guide: str, app: str) -> None:
    assert blocks_missing(guide, HERE / app) == []
