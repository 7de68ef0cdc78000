"""Components: packages of the registry as npm has them, and one of our own, each pushed and driven through an official client."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.apps.driving import HERE, drive, pushed, running
from tests.apps.guides import blocks_missing
from tests.apps.test_auth import set_variables
from tests.backend_process import BackendProcess
from tests.cli.command_line import Outcome, cvx
from tests.node_env import node, npm_project
from tests.waiting import until

pytestmark = [pytest.mark.deno, pytest.mark.node]

APPS = HERE / "components"
PACKAGES = {
    "convex": "1.48.0",
    "convex-helpers": "0.1.124",
    "@convex-dev/action-cache": "0.3.1",
    "@convex-dev/aggregate": "0.3.1",
    "@convex-dev/better-auth": "0.12.5",
    "@convex-dev/crons": "0.2.2",
    "@convex-dev/migrations": "0.3.6",
    "@convex-dev/presence": "0.4.0",
    "@convex-dev/rate-limiter": "0.4.0",
    "@convex-dev/sharded-counter": "0.2.1",
    "@convex-dev/workflow": "0.4.8",
    "@convex-dev/workpool": "0.4.12",
    "better-auth": "1.6.34",
    "react": "19.2.0",
    "react-dom": "19.2.0",
    "typescript": "5.9.3",
    "@types/node": "20.19.25",
    "@types/react": "19.2.2",
}


def _site(backend: BackendProcess) -> str:
    return f"http://127.0.0.1:{backend.site_port}"


def test_a_component_of_our_own_with_another_one_in_it(tmp_path: Path) -> None:
    with running(APPS / "library", tmp_path, PACKAGES) as (backend, folder):
        _type_check(folder)
        print(drive(folder / "drive.mjs", backend, _site(backend)))
        _named_by_the_command_line(backend, folder)
        _exported_and_imported(backend, folder)
        _taken_away_and_brought_back(backend, folder)


def _named_by_the_command_line(backend: BackendProcess, folder: Path) -> None:
    def run(*arguments: str) -> str:
        done = cvx(*arguments, *_to(backend), cwd=folder)
        assert done.code == 0, done.err
        return done.out

    assert [row["name"] for row in json.loads(run("data", "list", "--component", "annex", "--json"))["data"]["tables"]] == [
        "beats", "books",
    ]  # fmt: skip
    rows = run("data", "show", "books", "--component", "annex", "--format", "jsonl")
    assert '"Ulysses"' in rows and "Emma" not in rows
    assert "added Emma" in run("run", "log:lines", "--component", "library/audit")
    assert "Ulysses" in run("run", "--inline-query", "ctx.db.query('books').first()", "--component", "annex")
    assert "library/audit log:write" in run("logs", "--history", "all", "--no-follow")
    assert "beat" in run("crons", "list", "--component", "annex")
    for lost in (("run", "books:list"), ("data", "list"), ("data", "show", "books")):
        done = cvx(*lost, "--component", "attic", *_to(backend), cwd=folder)
        assert done.code != 0 and "There is no component 'attic'" in done.err, done.err


def _exported_and_imported(backend: BackendProcess, folder: Path) -> None:
    whole, part = folder / "whole.zip", folder / "part.zip"
    assert cvx("data", "export", "--path", str(whole), *_to(backend), cwd=folder).code == 0
    with zipfile.ZipFile(whole) as archive:
        titles = archive.read("_components/annex/books/documents.jsonl").decode()
        assert "Ulysses" in titles and "Emma" not in titles
        assert (
            "added Emma"
            in archive.read("_components/library/_components/audit/lines/documents.jsonl").decode()
        )
    assert (
        cvx("data", "export", "--component", "annex", "--path", str(part), *_to(backend), cwd=folder).code
        == 0
    )
    with zipfile.ZipFile(part) as archive:
        assert archive.read("books/documents.jsonl").decode() == titles
        assert "_components/audit/lines/documents.jsonl" in archive.namelist()
    one = cvx("data", "export", "--table", "books", "--component", "annex", *_to(backend), cwd=folder)
    assert one.code == 0 and "Ulysses" in one.out and "Emma" not in one.out
    rows = folder / "rows.jsonl"
    rows.write_text('{"title": "Kim", "copies": 4}\n')
    arguments = (
        "data",
        "import",
        str(rows),
        "--table",
        "books",
        "--component",
        "annex",
        "--replace",
        "--yes",
    )
    done = cvx(*arguments, *_to(backend), cwd=folder)
    assert done.code == 0, done.err
    assert [book["title"] for book in backend.call("query", "loans:books", {"annex": True})] == ["Kim"]
    assert "Kim" not in [book["title"] for book in backend.call("query", "loans:books", {})]


def _taken_away_and_brought_back(backend: BackendProcess, folder: Path) -> None:
    """Unmounted: nothing of it runs, its rows stay. Mounted again: as it was, handles and jobs included."""
    config = folder / "convex" / "convex.config.ts"
    text = config.read_text()
    inside = backend.call("query", "loans:handleInside", {})
    count = len(backend.call("query", "loans:books", {}))
    job = backend.call(
        "mutation", "loans:tell", {"name": "addLater", "args": {"title": "In time", "ms": 4000}}
    )
    config.write_text("\n".join(line for line in text.splitlines() if 'LIBRARY_NAME: "Main"' not in line))
    rehearsed = cvx("deploy", "--dry-run", "--typecheck", "disable", "--json", *_to(backend), cwd=folder)
    changes = {change["component"]: change for change in rehearsed.envelope()["data"]["changes"]}
    assert changes["library"]["type"] == changes["library/audit"]["type"] == "unmount"
    assert [cron["name"] for cron in changes["library"]["crons"]] == ["beat"]
    assert backend.call("query", "loans:runHandle", {"fn": inside})
    assert _deploy(backend, folder).code == 0
    assert "There is no component 'library'" in _failure(backend, "query", "loans:books", {})
    assert "is not deployed" in _failure(backend, "query", "loans:runHandle", {"fn": inside})
    assert httpx.get(f"{_site(backend)}/library/books", timeout=60).status_code == 404
    states = {row["path"]: row["state"] for row in _components(backend)}
    assert states == {
        "annex": "active", "annex/audit": "active", "library": "unmounted", "library/audit": "unmounted",
    }  # fmt: skip
    time.sleep(4.2)  # The job is due and waits.
    config.write_text(text)
    rehearsed = cvx("deploy", "--dry-run", "--typecheck", "disable", "--json", *_to(backend), cwd=folder)
    changes = {change["component"]: change for change in rehearsed.envelope()["data"]["changes"]}
    assert changes["library"]["type"] == "remount"
    assert _deploy(backend, folder).code == 0
    assert len(backend.call("query", "loans:runHandle", {"fn": inside})) >= count
    until(
        lambda: "In time" in [book["title"] for book in backend.call("query", "loans:books", {})],
        "the job's run after the component came back",
    )
    assert backend.call("query", "loans:ask", {"name": "job", "args": {"id": job}}) == "success"


def _deploy(backend: BackendProcess, folder: Path) -> Outcome:
    return cvx("deploy", "--yes", "--typecheck", "disable", *_to(backend), cwd=folder)


def _failure(backend: BackendProcess, kind: str, path: str, args: dict[str, Any]) -> str:
    body = {"path": path, "args": args, "format": "json"}
    answer = httpx.post(f"{backend.url}/api/{kind}", json=body, timeout=60).json()
    assert answer["status"] == "error", answer
    return str(answer["errorMessage"])


def _type_check(folder: Path) -> None:
    """Against what `cvx` has generated from the deployment's analysis."""
    compiler = folder / "node_modules" / "typescript" / "bin" / "tsc"
    done = subprocess.run(
        [node(), str(compiler), "--project", "convex"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_rate_limiter_sharded_counter_and_aggregate(tmp_path: Path) -> None:
    with running(APPS / "counting", tmp_path, PACKAGES) as (backend, folder):
        _type_check(folder)
        print(drive(folder / "drive.mjs", backend))


def test_workpool_workflow_crons_migrations_caches_and_presence(tmp_path: Path) -> None:
    """A workflow that waits outlives a killed backend."""
    with running(APPS / "working", tmp_path, PACKAGES) as (backend, folder):
        _type_check(folder)
        said = drive(folder / "drive.mjs", backend, _site(backend), "before")
        waiting = re.search(r"waiting: (\S+)", said)
        assert waiting is not None
        backend.kill()
        backend.start()
        print(said, drive(folder / "drive.mjs", backend, _site(backend), "after", waiting[1]))


def test_better_auth(tmp_path: Path) -> None:
    backend = BackendProcess(tmp_path / "data")
    backend.start()
    try:
        secrets: dict[str, str | None] = {
            "BETTER_AUTH_SECRET": "0123456789abcdef" * 2,
            "SITE_URL": "http://localhost:5173",
        }
        assert set_variables(backend, secrets).status_code == 200
        folder = pushed(backend, APPS / "better_auth", tmp_path / "app", PACKAGES)
        _type_check(folder)
        print(drive(folder / "drive.mjs", backend, _site(backend)))
    finally:
        backend.stop()


def test_the_guide_shows_what_is_tested() -> None:
    assert blocks_missing("components", APPS) == []


def test_bad_definitions_are_refused_with_file_and_line(tmp_path: Path) -> None:
    app = (
        'import { defineApp } from "convex/server";\nimport one from "./one/convex.config.js";\n'
        "const app = defineApp();\nUSES\nexport default app;\n"
    )
    one = 'import { defineComponent } from "convex/server";\nexport default defineComponent("one");\n'
    query = 'import { query } from "./_generated/server";\nexport const f = query({ args: {}, handler: async () => 1 });\n'
    around = (
        'import { defineComponent } from "convex/server";\nimport other from "../OTHER/convex.config.js";\n'
        'const c = defineComponent("c");\nc.use(other);\nexport default c;\n'
    )
    wrong_index = (
        'import { defineSchema, defineTable } from "convex/server";\n'
        'export default defineSchema({ a: defineTable({}).index("by_c", ["c" as never]) });\n'
    )
    twice = app.replace("USES", "app.use(one);\napp.use(one);")
    once = app.replace("USES", "app.use(one);")
    cases: list[tuple[dict[str, str], str]] = [
        (
            {"convex.config.ts": twice, "one/convex.config.ts": one},
            "convex/convex.config.ts:5: there are two components of the name 'one'",
        ),
        (
            {
                "convex.config.ts": once,
                "one/convex.config.ts": around.replace("OTHER", "two"),
                "two/convex.config.ts": around.replace("OTHER", "one"),
            },
            "convex/one/convex.config.ts:2 → convex/two/convex.config.ts:2",
        ),
        (
            {"convex.config.ts": once, "one/convex.config.ts": around.replace("../OTHER/", "./")},
            "import each other: convex/one/convex.config.ts:2 → convex/one/convex.config.ts",
        ),
        ({"convex.config.ts": once.replace("./one", "./none")}, "convex/convex.config.ts:2"),
        (
            {"convex.config.ts": once, "one/convex.config.ts": one, "one/schema.ts": wrong_index},
            'In the component one: In table "a" the index "by_c" is invalid',
        ),
        (
            {"convex.config.ts": once, "one/convex.config.ts": one, "one/f.ts": '"use node";\n' + query},
            'convex/one/f.ts:1: "use node" is not supported in components',
        ),
        (
            {
                "convex.config.ts": once.replace("use(one)", "use(one, { httpPrefix: 'x' })"),
                "one/convex.config.ts": one,
            },
            'httpPrefix must start with "/"',
        ),
    ]
    backend = BackendProcess(tmp_path / "data")
    backend.start()
    try:
        for number, (files, words) in enumerate(cases):
            folder = tmp_path / str(number)
            for name, text in {"f.ts": query, **files}.items():
                (folder / "convex" / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / "convex" / name).write_text(text)
            (folder / "package.json").write_text('{"dependencies": {"convex": "1.48.0"}}')
            (folder / "node_modules").symlink_to(npm_project("apps", PACKAGES) / "node_modules")
            done = cvx("deploy", "--yes", "--typecheck", "disable", *_to(backend), cwd=folder)
            assert done.code != 0 and words in done.err, done.err
    finally:
        backend.stop()


def test_the_official_command_line_pushes_components(tmp_path: Path) -> None:
    """Its discovery, its bundles and its types; then ours finds nothing to change."""
    backend = BackendProcess(tmp_path / "data")
    backend.start()
    try:
        folder = tmp_path / "app"
        shutil.copytree(APPS / "counting", folder)
        (folder / "node_modules").symlink_to(npm_project("apps", PACKAGES) / "node_modules")
        done = _official(backend, folder, "enable")
        assert done.returncode == 0, done.stderr
        assert "Installed component rateLimiter." in done.stderr
        shutil.copy(HERE / "harness.mjs", folder / "harness.mjs")
        print(drive(folder / "drive.mjs", backend))
        (folder / "convex" / "convex.config.ts").write_text(
            'import { defineApp } from "convex/server";\nexport default defineApp();\n'
        )
        for name in ("messages", "visits", "scores"):
            (folder / "convex" / f"{name}.ts").unlink()
        again = _official(backend, folder, "disable")
        assert again.returncode == 0, again.stderr
        assert "Unmounted component rateLimiter." in again.stderr
        states = {row["path"]: row["state"] for row in _components(backend)}
        assert set(states.values()) == {"unmounted"} and "aggregate/batchWorker" in states
        (folder / "convex" / "convex.config.ts").write_text(
            'import { defineApp } from "convex/server";\n'
            'import counter from "@convex-dev/sharded-counter/convex.config.js";\n'
            "const app = defineApp();\napp.use(counter);\napp.use(counter);\nexport default app;\n"
        )
        refused = _official(backend, folder, "disable")
        assert refused.returncode != 0
        assert (
            "convex/convex.config.ts:5: there are two components of the name 'shardedCounter'"
            in refused.stderr
        )
    finally:
        backend.stop()


def _official(backend: BackendProcess, folder: Path, typecheck: str) -> subprocess.CompletedProcess[str]:
    """The official command line, which here cannot report anything to anybody."""
    return subprocess.run(
        [node(), "node_modules/convex/bin/main.js", "deploy", "-y", "--typecheck", typecheck],
        cwd=folder,
        env={
            **os.environ,
            "CONVEX_SELF_HOSTED_URL": backend.url,
            "CONVEX_SELF_HOSTED_ADMIN_KEY": backend.admin_key,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def _components(backend: BackendProcess) -> list[dict[str, Any]]:
    answer = httpx.post(
        f"{backend.url}/api/query",
        json={"path": "_system/frontend/components:list", "args": {}, "format": "json"},
        headers={"Authorization": f"Convex {backend.admin_key}"},
        timeout=60,
    ).json()
    found: list[dict[str, Any]] = answer["value"]
    return found


def _to(backend: BackendProcess) -> list[str]:
    return ["--url", backend.url, "--admin-key", backend.admin_key]
