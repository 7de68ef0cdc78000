"""Components in components in components, and further packages of the registry: what the quick tests leave out."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.apps.driving import drive, running
from tests.apps.test_components import APPS, PACKAGES, _failure, _site, _to, _type_check
from tests.backend_process import BackendProcess
from tests.cli.command_line import cvx
from tests.node_env import node

pytestmark = [pytest.mark.deno, pytest.mark.node, pytest.mark.long]

FURTHER = {
    "convex": "1.48.0",
    "convex-helpers": "0.1.124",
    "@convex-dev/action-retrier": "0.3.1",
    "@convex-dev/agent": "0.7.3",
    "@convex-dev/expo-push-notifications": "0.3.1",
    "@convex-dev/geospatial": "0.2.1",
    "@convex-dev/persistent-text-streaming": "0.3.3",
    "@convex-dev/polar": "0.9.2",
    "@convex-dev/prosemirror-sync": "0.2.6",
    "@convex-dev/r2": "0.10.2",
    "@convex-dev/rag": "0.7.6",
    "@convex-dev/rate-limiter": "0.4.0",
    "@convex-dev/resend": "0.2.8",
    "@convex-dev/twilio": "0.2.2",
    "@convex-dev/workpool": "0.4.12",
    "ai": "7.0.173",
    "@ai-sdk/provider": "4.0.38",
    "@ai-sdk/provider-utils": "5.0.81",
    "zod": "4.6.7",
    "@polar-sh/sdk": "0.49.0",
    "@polar-sh/checkout": "0.4.1",
    "@tiptap/core": "3.34.0",
    "@tiptap/pm": "3.34.0",
    "react": "19.2.0",
    "react-dom": "19.2.0",
    "typescript": "5.9.3",
    "@types/node": "20.19.25",
    "@types/react": "19.2.2",
}


def test_trees_of_components(tmp_path: Path) -> None:
    with running(APPS / "depths", tmp_path, PACKAGES) as (backend, folder):
        _type_check(folder)
        print(drive(folder / "drive.mjs", backend, _site(backend)))
        logged = cvx("logs", "--history", "all", "--no-follow", *_to(backend), cwd=folder).out
        assert "outer/left/inner items:fail" in logged and "'inner is asked to fail:' 'data'" in logged
        _handles_outlive_pushes_but_not_their_function(backend, folder)
        _named_by_the_official_command_line(backend, folder)
        _carried_over_by_the_official_command_line(backend, folder, tmp_path)


def _deploy(backend: BackendProcess, folder: Path) -> None:
    done = cvx("deploy", "--yes", "--typecheck", "disable", *_to(backend), cwd=folder)
    assert done.code == 0, done.err


def _handles_outlive_pushes_but_not_their_function(backend: BackendProcess, folder: Path) -> None:
    """The component keeps the handle in a table; it means the function of that name, whatever is pushed."""
    app = folder / "convex" / "app.ts"
    text = app.read_text()

    def call(word: str) -> Any:
        return backend.call("mutation", "app:callRemembered", {"text": word})

    app.write_text(text.replace("return `heard ${text}`", "return `heard anew ${text}`"))
    _deploy(backend, folder)
    assert call("you") == "heard anew you"
    backend.kill()
    backend.start()
    assert call("again") == "heard anew again"
    app.write_text(text.replace("const hear =", "const listen =").replace("app.hear)", "app.listen)"))
    _deploy(backend, folder)
    for caller in ("callRemembered", "scheduleRemembered"):
        failure = _failure(backend, "mutation", f"app:{caller}", {"text": "you"})
        assert "#app:hear' is not deployed" in failure and "outer/items.ts" in failure, failure
    app.write_text(text)
    _deploy(backend, folder)
    assert call("once more") == "heard once more"


def official(
    backend: BackendProcess, folder: Path, *arguments: str, deadline_s: float = 120
) -> subprocess.CompletedProcess[str]:
    """The official command line, which here cannot report anything to anybody."""
    addresses = {"CONVEX_SELF_HOSTED_URL": backend.url, "CONVEX_SELF_HOSTED_ADMIN_KEY": backend.admin_key}
    return subprocess.run(
        [node(), "node_modules/convex/bin/main.js", *arguments],
        cwd=folder, env={**os.environ, **addresses}, capture_output=True, text=True, check=False,
        timeout=deadline_s,
    )  # fmt: skip


def _said(backend: BackendProcess, folder: Path, *arguments: str) -> str:
    done = official(backend, folder, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _named_by_the_official_command_line(backend: BackendProcess, folder: Path) -> None:
    inner = ("--component", "outer/left/inner")
    state = json.loads(_said(backend, folder, "run", *inner, "items:state"))
    assert state["word"] == "one" and "inner apple" in state["items"]
    assert _said(backend, folder, "data", *inner).split() == ["beats", "items"]
    assert "inner apple" in _said(backend, folder, "data", "items", *inner)
    refused = official(backend, folder, "run", "--component", "outer/nowhere", "items:state")
    assert refused.returncode != 0 and "outer/nowhere" in refused.stderr, refused.stderr


def _carried_over_by_the_official_command_line(backend: BackendProcess, folder: Path, tmp_path: Path) -> None:
    """What it exports, it imports into another deployment of the same app: every instance's rows and files."""
    whole = tmp_path / "whole.zip"
    _said(backend, folder, "export", "--path", str(whole), "--include-file-storage")
    with zipfile.ZipFile(whole) as archive:
        names = set(archive.namelist())
    place = "_components/outer/_components/left/_components/inner"
    assert {f"{place}/items/documents.jsonl", f"{place}/_storage/documents.jsonl"} <= names
    other = BackendProcess(tmp_path / "other")
    other.start()
    try:
        _deploy(other, folder)
        _said(other, folder, "import", "--replace", "-y", str(whole))
        for instance in ("outer", "second", "outer/left", "outer/right", "outer/left/inner"):
            before, after = (
                json.loads(_said(each, folder, "run", "--component", instance, "items:state"))
                for each in (backend, other)
            )
            assert after["items"] == before["items"] and after["files"] == before["files"], instance
            assert after["items"] or instance == "outer/right"
        found = other.call("query", "app:search", {"words": "apple"})
        assert sorted(found) == ["green apple", "red apple"]
    finally:
        other.stop()


def test_further_packages(tmp_path: Path) -> None:
    """Each does its main thing, as far as it can with nobody to talk to."""
    with running(APPS / "further", tmp_path, FURTHER) as (backend, folder):
        _type_check(folder)
        print(drive(folder / "drive.mjs", backend, _site(backend)))
