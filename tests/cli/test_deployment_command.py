"""Several local deployments: made, chosen, shown and deleted; and which one a command means."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.command_line import cvx, empty_project


@pytest.mark.deno
def test_create_select_and_delete(tmp_path: Path) -> None:
    project = empty_project(tmp_path / "app")
    made = cvx("deployment", "create", "staging", "--json", cwd=project).envelope()["data"]
    assert made["created"] is True
    config = project / ".cvx" / "local" / "staging" / "config.json"
    secret = json.loads(config.read_text())["instanceSecret"]
    again = cvx("deployment", "create", "staging", "--json", cwd=project).envelope()["data"]
    assert again["created"] is False
    # Not its URL: another test's backend may have its port meanwhile.
    assert json.loads(config.read_text())["instanceSecret"] == secret
    other = cvx("deployment", "create", "other", "--select", "--json", cwd=project).envelope()["data"]
    assert other["url"] != again["url"], "each has ports of its own"
    listed = cvx("deployment", "list", "--json", cwd=project).envelope()["data"]
    assert listed["selected"] == "other"
    assert [d["name"] for d in listed["deployments"]] == ["other", "staging"]
    shown = cvx("deployment", "show", "--json", cwd=project).envelope()["data"]
    assert shown["name"] == "other" and shown["chosenBy"] == "cvx deployment select"
    assert "Nothing to do" in cvx("deployment", "select", "other", cwd=project).err

    assert cvx("env", "set", "A", "staging", "--deployment", "staging", cwd=project).code == 0
    assert cvx("env", "get", "A", "--deployment", "staging", cwd=project).out == "staging\n"
    assert cvx("env", "get", "A", cwd=project).code == 3, "their data is apart"

    refused = cvx("deployment", "delete", "other", cwd=project)
    assert refused.code == 2 and "--yes" in refused.err
    assert cvx("deployment", "delete", "other", "--yes", cwd=project).code == 0
    assert cvx("deployment", "show", "--json", cwd=project).envelope()["data"]["name"] == "default"


def test_precedence_is_shown_with_origins_and_without_secrets(tmp_path: Path) -> None:
    project = empty_project(tmp_path / "app")
    (project / ".env.local").write_text(
        "CONVEX_SELF_HOSTED_URL=http://127.0.0.1:1\nCONVEX_SELF_HOSTED_ADMIN_KEY=hush-local\n"
    )
    env = {"CONVEX_SELF_HOSTED_URL": "http://127.0.0.1:2"}
    done = cvx("config", "show", "--origin", "--json", cwd=project, env=env)
    settings = done.envelope()["data"]["settings"]
    urls = [s for s in settings if s["name"] == "CONVEX_SELF_HOSTED_URL"]
    assert [(s["origin"], s["overridden"]) for s in urls] == [
        ("process environment", False),
        (".env.local", True),
    ]
    assert "hush-local" not in done.out + done.err
    assert "hush-local" not in cvx("config", "show", "--origin", cwd=project, env=env).out
    flag = cvx("run", "a:b", "--url", "http://127.0.0.1:3", "--admin-key", "k", cwd=project, env=env)
    assert "http://127.0.0.1:3 cannot be reached" in flag.err
    variable = cvx("run", "a:b", cwd=project, env=env)
    assert "http://127.0.0.1:2 cannot be reached" in variable.err
    file = cvx("run", "a:b", cwd=project)
    assert "http://127.0.0.1:1 cannot be reached" in file.err
