"""`cvx deploy` to a deployment elsewhere: chosen in every documented way, all or nothing, and told what it changes."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.backend_process import BackendProcess
from tests.cli.command_line import CVX, Outcome, cvx, environment
from tests.node_env import npm_project
from tests.toolchain.dev_process import TSCONFIG

pytestmark = [pytest.mark.deno, pytest.mark.node]

APP = Path(__file__).parent / "app"
PACKAGES = {"convex": "1.48.0", "typescript": "7.0.2"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendProcess]:
    """A backend as on a server: its own folder, ports and key, and no project beside it."""
    backend = BackendProcess(tmp_path_factory.mktemp("server") / "data")
    backend.start()
    yield backend
    backend.stop()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    shutil.copytree(APP, folder)
    (folder / "node_modules").symlink_to(npm_project("cvx-dev", PACKAGES) / "node_modules")
    (folder / "package.json").write_text(json.dumps({"name": "app", "dependencies": {"convex": "1.48.0"}}))
    (folder / "convex" / "tsconfig.json").write_text(TSCONFIG)
    return folder


def target(server: BackendProcess) -> list[str]:
    return ["--url", server.url, "--admin-key", server.admin_key]


def deploy(project: Path, server: BackendProcess, *words: str, env: dict[str, str] | None = None) -> Outcome:
    return cvx("deploy", *words, *target(server), cwd=project, env=env)


def deployed_functions(project: Path, server: BackendProcess) -> Any:
    return cvx("functions", "--json", *target(server), cwd=project).envelope()["data"]["functions"]


def double(project: Path, server: BackendProcess, env: dict[str, str] | None = None) -> int:
    """What the deployed `misc:double` makes of 1: tells the versions of the code apart."""
    words = [] if env else target(server)
    return int(
        cvx("run", "misc:double", '{"x": 1}', "--json", *words, cwd=project, env=env).envelope()["data"]
    )


def write_version(project: Path, factor: int) -> None:
    path = project / "convex" / "misc.ts"
    path.write_text((APP / "convex" / "misc.ts").read_text().replace("return x * 2", f"return x * {factor}"))


@pytest.mark.parametrize("way", ["flags", "self-hosted", "deploy key", "cvx.toml", "env file"])
def test_every_way_to_choose_it(project: Path, server: BackendProcess, way: str) -> None:
    key, words, env = server.admin_key, ["deploy"], {}
    if way == "flags":
        words += target(server)
    elif way == "self-hosted":
        env = {"CONVEX_SELF_HOSTED_URL": server.url, "CONVEX_SELF_HOSTED_ADMIN_KEY": key}
    elif way == "deploy key":
        env = {"CONVEX_DEPLOY_KEY": key, "CONVEX_URL": server.url}
    elif way == "cvx.toml":
        (project / "cvx.toml").write_text(
            f'[deployments.prod]\nurl = "{server.url}"\nadmin_key_env = "PROD_KEY"\n'
        )
        words += ["--prod"]
        env = {"PROD_KEY": key}
    else:
        (project / "ci.env").write_text(
            f"CONVEX_SELF_HOSTED_URL={server.url}\nCONVEX_SELF_HOSTED_ADMIN_KEY='{key}'\n"
        )
        words += ["--env-file", "ci.env"]
    factor = {"flags": 11, "self-hosted": 12, "deploy key": 13, "cvx.toml": 14, "env file": 15}[way]
    write_version(project, factor)
    done = cvx(*words, cwd=project, env=env)
    assert done.code == 0, done.err
    assert server.url in done.err and key not in done.err + done.out
    assert double(project, server) == factor
    assert not (project / ".cvx" / "local").exists(), "no local deployment was made"


@pytest.mark.parametrize(
    ("package", "variable"),
    [("vite", "VITE_CONVEX_URL"), ("next", "NEXT_PUBLIC_CONVEX_URL"), ("@sveltejs/kit", "PUBLIC_CONVEX_URL")],
)
def test_the_build_gets_the_url(project: Path, server: BackendProcess, package: str, variable: str) -> None:
    manifest = {"name": "app", "dependencies": {"convex": "1.48.0"}, "devDependencies": {package: "*"}}
    (project / "package.json").write_text(json.dumps(manifest))
    done = deploy(project, server, "--cmd", f'echo "$${variable}" > built'.replace("$$", "$"))
    assert done.code == 0, done.err
    assert (project / "built").read_text().strip() == server.url


def test_the_build_gets_the_url_under_a_name_of_choice(project: Path, server: BackendProcess) -> None:
    done = deploy(project, server, "--cmd", 'echo "$BACKEND" > built', "--cmd-url-env-var-name", "BACKEND")
    assert done.code == 0, done.err
    assert (project / "built").read_text().strip() == server.url


@pytest.mark.parametrize("fault", ["build", "types", "schema", "code", "auth"])
def test_a_failure_leaves_the_deployment_as_it_was(project: Path, server: BackendProcess, fault: str) -> None:
    write_version(project, 3)
    assert deploy(project, server).code == 0
    cvx("run", "misc:add", '{"name": "here"}', *target(server), cwd=project)
    before = deployed_functions(project, server)
    write_version(project, 4)
    words: list[str] = []
    functions = project / "convex"
    expected = 5
    if fault == "build":
        words, expected = ["--cmd", "echo building; exit 3"], 1
    elif fault == "types":
        (functions / "wrong.ts").write_text('export const n: number = "text";\n')
        expected = 1
    elif fault == "schema":
        schema = functions / "schema.ts"
        schema.write_text(schema.read_text().replace("name: v.string()", "name: v.number()"))
        words = ["--typecheck", "disable"]
    elif fault == "code":
        (functions / "throws.ts").write_text('export const one = 1;\nthrow new Error("at import");\n')
    else:
        (functions / "auth.config.ts").write_text(
            'export default { providers: [{ domain: process.env.NOT_SET!, applicationID: "x" }] };\n'
        )
        words = ["--typecheck", "disable"]
    done = deploy(project, server, *words)
    assert done.code == expected, f"{done.code}: {done.err}"
    assert "fix:" in done.err
    assert deployed_functions(project, server) == before
    assert double(project, server) == 3


def test_dry_run_says_what_would_change_and_changes_nothing(project: Path, server: BackendProcess) -> None:
    assert deploy(project, server).code == 0
    before = deployed_functions(project, server)
    write_version(project, 7)
    (project / "convex" / "crons.ts").write_text(
        'import { cronJobs } from "convex/server";\nimport { internal } from "./_generated/api";\n'
        'const crons = cronJobs();\ncrons.interval("count", { hours: 1 }, internal.fresh.nothing);\nexport default crons;\n'
    )
    (project / "convex" / "fresh.ts").write_text(
        'import { internalMutation } from "./_generated/server";\n'
        "export const nothing = internalMutation({ args: {}, handler: async () => null });\n"
    )
    schema = project / "convex" / "schema.ts"
    schema.write_text(
        schema.read_text().replace(
            "items: defineTable({ name: v.string() })",
            'items: defineTable({ name: v.string() }).index("by_name", ["name"]), others: defineTable(v.any())',
        )
    )
    done = deploy(project, server, "--dry-run", "--json")
    assert done.code == 0, done.err
    data = done.envelope()["data"]
    assert data["dryRun"] is True
    (changes,) = data["changes"]
    assert {"mark": "+", "name": "fresh:nothing", "detail": "internal mutation"} in changes["functions"]
    assert [c["name"] for c in changes["indexes"]] == ["items.by_name"]
    assert [(c["mark"], c["name"]) for c in changes["tables"]] == [("+", "others")]
    assert [(c["mark"], c["name"]) for c in changes["crons"]] == [("+", "count")]
    assert {c["name"] for c in changes["modules"]} >= {"misc.js"}
    assert deployed_functions(project, server) == before
    assert cvx("crons", "list", "--json", *target(server), cwd=project).envelope()["data"]["crons"] == []
    assert double(project, server) == 2
    again = deploy(project, server, "--dry-run", "--json").envelope()["data"]
    assert again["changes"] == data["changes"], "a rehearsal leaves no trace, not even for the next one"


def test_an_index_of_a_large_table_is_not_dropped_unasked(project: Path, server: BackendProcess) -> None:
    schema = project / "convex" / "schema.ts"
    plain = schema.read_text()
    schema.write_text(plain.replace("v.string() })", 'v.string() }).index("by_name", ["name"])'))
    assert deploy(project, server).code == 0
    cvx("run", "misc:add", '{"name": "one"}', *target(server), cwd=project)
    schema.write_text(plain)
    large = {"CONVEX_MIN_DOCUMENTS_FOR_INDEX_DELETE_WARNING": "1"}
    for words in ([], ["--yes"]):
        done = deploy(project, server, *words, env=large)
        assert done.code == 2 and "items.by_name" in done.err and "--yes=delete-indexes" in done.err
    assert deploy(project, server, "--dry-run", env=large).code == 0, "a rehearsal drops nothing"
    assert deploy(project, server, "--yes=delete-indexes", env=large).code == 0
    assert deploy(project, server, env=large).code == 0, "and now there is nothing to ask"


def test_twice_is_once(project: Path, server: BackendProcess) -> None:
    write_version(project, 21)
    assert deploy(project, server).code == 0
    again = deploy(project, server)
    assert again.code == 0 and "exactly this already" in again.err


def test_two_at_once_end_as_one_or_the_other(tmp_path: Path, project: Path, server: BackendProcess) -> None:
    other = tmp_path / "other"
    shutil.copytree(project, other, symlinks=True)
    running = []
    for folder, factor in ((project, 31), (other, 32)):
        write_version(folder, factor)
        (folder / "convex" / f"only{factor}.ts").write_text("export const one = 1;\n")
        command = [*CVX, "deploy", "--typecheck", "disable", *target(server)]
        running.append(
            subprocess.Popen(command, cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True)
        )
    ended = [(process.communicate(timeout=60)[1], process.returncode) for process in running]
    assert any(code == 0 for _, code in ended), ended
    assert all(code in (0, 5) for _, code in ended), ended
    assert double(project, server) in (31, 32)
