"""The unmodified official CLI against our backend: every command a project needs, and what it generates."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backend_process import BackendProcess
from tests.compat.official_cli import OfficialCli, copied_app
from tests.node_env import node, node_run

NEWEST = "1.48.0"
OLDER = ("1.28.0", "1.38.0")

pytestmark = [pytest.mark.node, pytest.mark.deno, pytest.mark.slow]


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendProcess]:
    process = BackendProcess(tmp_path_factory.mktemp("data"))
    process.start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def convex(tmp_path_factory: pytest.TempPathFactory, backend: BackendProcess) -> OfficialCli:
    """The newest CLI in the guestbook app, which it has pushed, with a room and a message."""
    cli = OfficialCli(copied_app("guestbook", tmp_path_factory.mktemp("app") / "guestbook", NEWEST), backend)
    first = cli("dev", "--once")
    assert "Convex functions ready!" in first.stderr
    assert "Added table indexes:" in first.stderr
    assert re.search(r"\[\+\] messages\.by_author\s+author, kind, _creationTime", first.stderr)
    room = cli("run", "admin/rooms:create", '{"name": "lobby"}').json
    cli("run", "messages:send", json.dumps({"room": room, "author": "ada", "body": "hello"}))
    return cli


def test_dev_writes_the_environment_file_and_pushes_again_without_changes(convex: OfficialCli) -> None:
    environment = (convex.app / ".env.local").read_text()
    assert f"CONVEX_URL={convex.backend.url}\n" in environment
    assert f"CONVEX_SITE_URL=http://127.0.0.1:{convex.backend.site_port}" in environment
    again = convex("dev", "--once")
    assert "Convex functions ready!" in again.stderr
    assert "table indexes" not in again.stderr


def test_run_prints_values_and_logs(convex: OfficialCli) -> None:
    room = convex("run", "admin/rooms:create", '{"name": " attic "}').json
    ran = convex("run", "messages:send", json.dumps({"room": room, "author": "bob", "body": "hi"}))
    assert "[CONVEX ?(messages:send)] [LOG] 'sending as' 'bob'" in ran.stderr
    liked = convex("run", "messages:like", json.dumps({"id": ran.json}))
    assert liked.json == {"$integer": "AQAAAAAAAAA="}
    listed = convex("run", "api.messages.list", json.dumps({"room": room})).json
    assert [(message["author"], message["body"]) for message in listed] == [("bob", "hi")]
    assert "attic" in convex("run", "admin/rooms").json


def test_run_reports_what_is_wrong(convex: OfficialCli) -> None:
    unknown = convex("run", "messages:nothing", code=1)
    assert "Could not find function for 'messages:nothing'" in unknown.stderr
    assert "messages:send" in unknown.stderr, "it lists the functions that there are"
    assert "ArgumentValidationError" in convex("run", "messages:like", "{}", code=1).stderr
    room = convex("run", "admin/rooms:create", '{"name": "x"}').json
    failed = convex("run", "messages:send", json.dumps({"room": room, "author": "a", "body": " "}), code=1)
    assert "ConvexError" in failed.stderr
    assert "empty" in failed.stderr


def test_run_acts_as_a_user(convex: OfficialCli) -> None:
    assert convex("run", "admin/rooms:whoami").stdout == ""
    assert convex("run", "admin/rooms:whoami", "--identity", '{"name": "Ada"}').json == "Ada"


def test_inline_queries_read_and_cannot_write(convex: OfficialCli) -> None:
    ran = convex(
        "run",
        "--inline-query",
        'await ctx.db.query("rooms").withIndex("by_name", q => q.eq("name", "lobby")).unique()',
    )
    assert ran.json["name"] == "lobby"
    counted = convex(
        "run", "--inline-query",
        'const all = await ctx.db.query("messages").filter(q => q.eq(q.field("author"), "ada")).collect(); '
        "console.log(\"found\", all.length); return all.length;",
    )  # fmt: skip
    assert counted.json == 1
    assert "[LOG] 'found' 1" in counted.stderr
    whole = "export default query({ handler: async (ctx, args) => ctx.db.normalizeId('rooms', 'nonsense') });"
    assert convex("run", "--inline-query", whole).stdout.strip() in ("", "null")
    assert (
        "ctx.db.insert is not a function"
        in convex("run", "--inline-query", 'await ctx.db.insert("rooms", { name: "no" })', code=1).stderr
    )
    assert convex("run", "--inline-query", "syntax error here", code=1).stderr


def test_run_watch_prints_every_change(convex: OfficialCli) -> None:
    with convex.start("run", "messages:count", "--watch") as watching:
        watching.wait_for("\n")
        before = len(convex("run", "messages:list").json)
        watching.wait_for(str(before))
        convex("run", "--inline-query", "1")
        room = convex("run", "admin/rooms:create", '{"name": "watched"}').json
        convex("run", "messages:send", json.dumps({"room": room, "author": "w", "body": "w"}))
        watching.wait_for(str(before + 1))


def test_data(convex: OfficialCli) -> None:
    assert convex("data").stdout.split() == ["messages", "rooms"]
    rows = convex("data", "rooms", "--format", "jsonLines", "--order", "asc").stdout.splitlines()
    assert '"name": "lobby"' in rows[0]
    assert "lobby" in convex("data", "rooms").stdout
    assert "There are no documents in this table." in convex("data", "nothing").stderr


def test_function_spec(convex: OfficialCli) -> None:
    spec = convex("function-spec").json
    assert spec["url"] == convex.backend.url
    functions = {
        item.get("identifier", f"{item.get('method')} {item.get('path')}"): item for item in spec["functions"]
    }
    send = functions["messages.js:send"]
    assert (send["functionType"], send["visibility"]) == ("Mutation", {"kind": "public"})
    assert send["args"]["value"]["author"] == {"fieldType": {"type": "string"}, "optional": False}
    assert send["returns"] == {"type": "id", "tableName": "messages"}
    assert functions["messages.js:count"]["visibility"] == {"kind": "internal"}
    assert functions["GET /hello"]["functionType"] == "HttpAction"
    assert functions["admin/rooms.js:default"]["returns"] == {"type": "any"}


def test_env(convex: OfficialCli) -> None:
    assert convex("run", "admin/rooms:greeting").json == "no greeting"
    assert "Successfully set GREETING" in convex("env", "set", "GREETING", "good day").stderr
    assert convex("env", "get", "GREETING").stdout == "good day\n"
    assert convex("run", "admin/rooms:greeting").json == "good day"
    assert "GREETING=good day" in convex("env", "list").stdout
    bulk = convex("env", "set", stdin="ONE=1\nTWO='a b'\nGREETING=good day\n")
    assert "2 new" in bulk.stderr
    assert convex("env", "list").stdout.splitlines() == ["GREETING=good day", "ONE=1", "TWO=a b"]
    for name in ("GREETING", "ONE", "TWO"):
        assert f"Successfully unset {name}" in convex("env", "remove", name).stderr
    assert "No environment variables set" in convex("env", "list").stderr
    assert convex("run", "admin/rooms:greeting").json == "no greeting"


def test_logs(convex: OfficialCli) -> None:
    with convex.start("logs", "--success", "--history") as logs:
        logs.wait_for("Watching logs")
        logs.wait_for("[CONVEX M(messages:send)] [LOG] 'sending as' 'ada'")
        convex("run", "admin/rooms:greeting")
        logs.wait_for("[CONVEX Q(admin/rooms:greeting)] Function executed in")
        convex("run", "messages:like", "{}", code=1)
        logs.wait_for("ArgumentValidationError")


def test_deploy_and_its_dry_run(convex: OfficialCli) -> None:
    schema = convex.app / "convex/schema.ts"
    original = schema.read_text()
    schema.write_text(original.replace('.index("by_name", ["name"])', '.index("by_title", ["name"])'))
    rooms = convex.app / "convex/admin/rooms.ts"
    code = rooms.read_text()
    rooms.write_text(code.replace('withIndex("by_name")', 'withIndex("by_title")'))
    try:
        dry = convex("deploy", "--dry-run", "-v", "-y")
        assert "Would have deployed" in dry.stderr
        assert "by_title" in dry.stderr
        assert convex("run", "admin/rooms").json, "nothing has changed"
        with_index = 'ctx.db.query("rooms").withIndex("by_title").collect()'
        assert "rooms.by_title" in convex("run", "--inline-query", with_index, code=1).stderr
        done = convex("deploy", "-y")
        assert f"Deployed Convex functions to {convex.backend.url}" in done.stderr
        assert re.search(r"\[-\] rooms\.by_name\s+name, _creationTime", done.stderr)
        assert re.search(r"\[\+\] rooms\.by_title\s+name, _creationTime", done.stderr)
        assert "lobby" in convex("run", "admin/rooms").json
    finally:
        schema.write_text(original)
        rooms.write_text(code)
        convex("dev", "--once")


def test_a_schema_that_rows_violate_is_refused_and_nothing_changes(convex: OfficialCli) -> None:
    schema = convex.app / "convex/schema.ts"
    original = schema.read_text()
    schema.write_text(
        original.replace("name: v.string()", "name: v.string(), floor: v.optional(v.null()), size: v.any()")
    )
    try:
        failed = convex("dev", "--once", "--typecheck", "disable", code=1)
        assert "Schema validation failed." in failed.stderr
        assert re.search(
            r'Document with ID "\w+" in table "rooms" does not match the schema: ', failed.stderr
        )
        assert "missing the required field `size`" in failed.stderr
        assert convex("run", "admin/rooms").json
        convex("run", "admin/rooms:create", '{"name": "still"}')
    finally:
        schema.write_text(original)
        convex("dev", "--once")


def test_code_that_does_not_load_is_refused_with_its_place(convex: OfficialCli) -> None:
    broken = convex.app / "convex/broken.ts"
    broken.write_text("export const before = 1;\nthrow new Error(`at import ${before}`);\n")
    try:
        failed = convex("dev", "--once", code=1)
        assert "InvalidModules: Hit an error while pushing:" in failed.stderr
        assert "Loading the pushed modules encountered the following error:" in failed.stderr
        assert "Failed to analyze broken.js: Uncaught Error: at import 1" in failed.stderr
        assert "convex/broken.ts:2:" in failed.stderr
    finally:
        broken.unlink()
        shutil.rmtree(convex.app / "convex/_generated")
        convex("dev", "--once")


def test_an_auth_config_that_reads_an_unset_variable(convex: OfficialCli) -> None:
    config = convex.app / "convex/auth.config.ts"
    config.write_text(
        "declare const process: { env: Record<string, string | undefined> };\n"
        'export default { providers: [{ domain: process.env.ISSUER_URL, applicationID: "convex" }] };\n'
    )
    try:
        failed = convex("dev", "--once", code=1)
        assert (
            "Environment variable ISSUER_URL is used in auth config file but its value was not set."
            in failed.stderr
        )
        convex("env", "set", "ISSUER_URL", "https://issuer.example.com")
        convex("dev", "--once")
    finally:
        config.unlink()
        convex("dev", "--once")
        convex("env", "remove", "ISSUER_URL")


def test_codegen_generates_what_we_generate(convex: OfficialCli, tmp_path: Path) -> None:
    """Both generators on the same app: the same files, the same exports, and one program type-checks with each."""
    theirs = convex.app / "convex/_generated"
    shutil.rmtree(theirs)
    convex("codegen")
    ours_app = tmp_path / "ours"
    shutil.copytree(convex.app, ours_app, symlinks=True, ignore=shutil.ignore_patterns("_generated", ".home"))
    command = [sys.executable, "-m", "cvx", "codegen"]
    done = subprocess.run(command, cwd=ours_app, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    ours = ours_app / "convex/_generated"
    names = sorted(path.name for path in theirs.iterdir() if path.is_file())
    assert names == ["api.d.ts", "api.js", "dataModel.d.ts", "server.d.ts", "server.js"]
    assert sorted(path.name for path in ours.iterdir() if path.is_file()) == names
    script = Path(__file__).parent / "exports.mjs"
    exported = []
    for folder in (theirs, ours):
        found = json.loads(
            node_run(
                script,
                (convex.app / "node_modules").resolve().parent,
                *(str(folder / name) for name in names),
            )
        )
        exported.append({Path(path).name: exports for path, exports in found.items()})
    assert exported[0] == exported[1]
    assert exported[0]["server.d.ts"]["MutationCtx"] == "type"
    for app in (convex.app, ours_app):
        tsc = subprocess.run(
            [node(), str(app / "node_modules/typescript/bin/tsc"), "-p", str(app)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert tsc.returncode == 0, tsc.stdout


@pytest.mark.parametrize("version", OLDER)
def test_older_releases_push_and_run(version: str, tmp_path: Path) -> None:
    backend = BackendProcess(tmp_path / "data")
    backend.start()
    try:
        convex = OfficialCli(copied_app("guestbook", tmp_path / "app", version), backend)
        assert "Convex functions ready!" in convex("dev", "--once").stderr
        room = convex("run", "admin/rooms:create", '{"name": "lobby"}').json
        sent = convex("run", "messages:send", json.dumps({"room": room, "author": "ada", "body": "x"}))
        assert "'sending as' 'ada'" in sent.stderr
        assert convex("run", "messages:list").json[0]["body"] == "x"
        assert "Convex functions ready!" in convex("dev", "--once").stderr
        assert convex("data").stdout.split() == ["messages", "rooms"]
        convex("env", "set", "GREETING", "hi")
        assert convex("run", "admin/rooms:greeting").json == "hi"
    finally:
        backend.stop()


def test_dev_goes_on_by_itself_when_what_it_waits_for_is_fixed(convex: OfficialCli) -> None:
    ready = "Convex functions ready!"
    schema = convex.app / "convex/schema.ts"
    original = schema.read_text()
    config = convex.app / "convex/auth.config.ts"
    room = convex("run", "admin/rooms:create", '{"name": "waiting"}').json
    convex("run", "messages:send", json.dumps({"room": room, "author": "eve", "body": "in the way"}))
    try:
        with convex.start("dev", "--typecheck", "disable", "--tail-logs", "always") as dev:
            dev.wait_for(ready)
            schema.write_text(
                original.replace("author: v.string(),", "author: v.string(),\n    mood: v.string(),")
            )
            dev.wait_for("missing the required field `mood`")
            convex("run", "messages:sweep", '{"keep": 0}')
            dev.wait_for(ready, times=2)
            schema.write_text(original)
            dev.wait_for(ready, times=3)
            config.write_text(
                "declare const process: { env: Record<string, string | undefined> };\n"
                'export default { providers: [{ domain: process.env.WAITED_FOR, applicationID: "convex" }] };\n'
            )
            dev.wait_for("Environment variable WAITED_FOR is used in auth config file")
            convex("env", "set", "WAITED_FOR", "https://issuer.example.com")
            dev.wait_for(ready, times=4)
            config.unlink()
            dev.wait_for(ready, times=5)
            convex("run", "messages:send", json.dumps({"room": room, "author": "ada", "body": "hello"}))
            dev.wait_for("[CONVEX M(messages:send)] [LOG] 'sending as' 'ada'")
    finally:
        schema.write_text(original)
        config.unlink(missing_ok=True)
        convex("dev", "--once")
        convex("env", "remove", "WAITED_FOR")


def test_the_smaller_commands(convex: OfficialCli, tmp_path: Path) -> None:
    ran = convex("dev", "--once", "--run", "messages:count")
    assert "Convex functions ready!" in ran.stderr
    pushed = convex("run", "--push", "messages:count")
    assert pushed.json >= 0
    told = convex("deploy", "-y", "--cmd", "echo url=$CONVEX_URL", "--cmd-url-env-var-name", "CONVEX_URL")
    assert f"url={convex.backend.url}" in told.stdout + told.stderr
    variables = tmp_path / "variables"
    variables.write_text("FROM_FILE=yes\n")
    assert "1 new" in convex("env", "set", "--from-file", str(variables)).stderr
    clash = convex("env", "set", "--from-file", str(variables))
    assert "already set" in clash.stderr
    convex("env", "remove", "FROM_FILE")
    assert convex.backend.url in convex("deployments").stderr
    (convex.app / ".env.local").unlink()
    assert "Saved CONVEX_URL and CONVEX_SITE_URL" in convex("init").stderr
    tested = convex("network-test")
    assert "Network test passed." in tested.stderr
