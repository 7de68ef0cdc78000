"""Several local deployments at once: in one folder by name, and in copies of it (worktrees). None touches another's data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.toolchain.dev_process import Dev, notes_project, run_cvx

pytestmark = [pytest.mark.deno, pytest.mark.node]


def add(project: Path, text: str, *options: str) -> None:
    done = run_cvx(project, "run", "notes:add", json.dumps({"text": text}), *options)
    assert done.returncode == 0, done.stderr


def texts(project: Path, *options: str) -> list[str]:
    done = run_cvx(project, "data", "show", "notes", "--format", "jsonl", *options)
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["text"] for line in done.stdout.splitlines()]


def test_two_in_one_folder_and_one_in_a_worktree(tmp_path: Path) -> None:
    project = notes_project(tmp_path / "app")
    created = run_cvx(project, "deployment", "create", "feature-x", "--json")
    assert created.returncode == 0, created.stderr
    with Dev(project, own_port=False) as main:
        first = main.event("target")
        main.ready()
        with Dev(project, "--deployment", "feature-x", own_port=False) as feature:
            second = feature.event("target")
            feature.ready()
            written = (project / ".env.local").read_text()
            assert first["url"] in written and second["url"] not in written, "it is the chosen one's"
            assert any("cvx deployment select feature-x" in line for line in feature.errors), feature.errors
            worktree = tmp_path / "worktree"
            shutil.copytree(project, worktree, symlinks=True, ignore=shutil.ignore_patterns(".cvx"))
            with Dev(worktree, own_port=False) as other:
                third = other.event("target")
                other.ready()
                assert len({first["url"], second["url"], third["url"]}) == 3
                assert len({first["siteUrl"], second["siteUrl"], third["siteUrl"]}) == 3
                add(project, "in main", "--deployment", "default")
                add(project, "in feature", "--deployment", "feature-x")
                add(worktree, "in the worktree", "--deployment", "default")
                assert texts(project, "--deployment", "default") == ["in main"]
                assert texts(project, "--deployment", "feature-x") == ["in feature"]
                assert texts(worktree, "--deployment", "default") == ["in the worktree"]
    listed = json.loads(run_cvx(project, "deployment", "list", "--json").stdout)["data"]["deployments"]
    assert {d["name"] for d in listed} == {"default", "feature-x"}
    assert texts(project, "--deployment", "feature-x") == ["in feature"], "and it is there the next time"


def test_a_new_deployment_does_not_take_the_ports_of_one_that_does_not_run(tmp_path: Path) -> None:
    project = notes_project(tmp_path / "app")
    with Dev(project, own_port=False) as dev:
        url = dev.event("target")["url"]
        dev.ready()
    created = json.loads(run_cvx(project, "deployment", "create", "later", "--json").stdout)["data"]
    assert created["url"] != url


def test_configure_makes_another_deployment_and_goes_back(tmp_path: Path) -> None:
    project = notes_project(tmp_path / "app")

    def chosen() -> tuple[str, bool]:
        shown = json.loads(run_cvx(project, "deployment", "show", "--json").stdout)["data"]
        return shown["name"], shown["created"]

    def configure(*options: str) -> tuple[int, str]:
        done = run_cvx(project, "dev", "--once", "--typecheck", "disable", "--configure", *options)
        return done.returncode, done.stderr

    assert configure("new")[0] == 0 and chosen() == ("default", True)
    add(project, "in the first")
    assert configure("new")[0] == 0 and chosen() == ("dev-2", True)
    assert texts(project) == [] and texts(project, "--deployment", "default") == ["in the first"]
    code, said = configure("existing")  # Two to choose from, and nobody to ask.
    assert code == 2 and "--deployment NAME" in said
    assert configure("existing", "--deployment", "default")[0] == 0 and chosen() == ("default", True)
    assert texts(project) == ["in the first"]
