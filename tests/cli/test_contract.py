"""Items of the command-line contract that no other module proves: docs/CLI.md says which test proves which."""

from __future__ import annotations

import ast
import json
import re
import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cvx.cli.output import Output, TerminalReporter
from cvx.toolchain.progress import Started, Step
from tests.backend_process import BackendProcess, pushed_app
from tests.cli.command_line import CVX, cvx, empty_project, environment
from tests.cli.terminal import Terminal
from tests.node_env import node, npm_project
from tests.toolchain.dev_process import Dev, notes_project

ROOT = Path(__file__).resolve().parents[2]
APP = Path(__file__).parent / "app"
NOWHERE = ["--url", "http://127.0.0.1:9", "--admin-key", "key-of-a-test"]

FAULTS = """\
import { action, mutation, query } from "./_generated/server";

export const inMutation = mutation({
  args: {},
  handler: async (ctx) => {
    await ctx.db.query("items").take(1);
    deeper();
  },
});

function deeper(): never {
  throw new Error("on line eleven... of the source");
}

export const inAction = action({ args: {}, handler: async () => deeper() });
export const inQuery = query({ args: {}, handler: async () => deeper() });
"""
FAULT_LINE = FAULTS.splitlines().index('  throw new Error("on line eleven... of the source");') + 1


class Production:
    """An app pushed to a backend that its cvx.toml calls `prod`."""

    def __init__(self, backend: BackendProcess, folder: Path) -> None:
        self.backend = backend
        self.app = pushed_app(backend, APP, folder)
        (self.app / "convex" / "faults.ts").write_text(FAULTS)
        (self.app / "cvx.toml").write_text(
            f'[deployments.prod]\nurl = "{backend.url}"\nadmin_key_env = "PROD_KEY"\n'
        )
        self.env = {"PROD_KEY": backend.admin_key}
        done = cvx("dev", "--once", "--typecheck", "disable", *self.target, cwd=self.app)
        assert done.code == 0, done.err
        assert cvx("run", "misc:add", '{"name": "kept"}', *self.target, cwd=self.app).code == 0
        assert cvx("env", "set", "ONE", "1", *self.target, cwd=self.app).code == 0

    @property
    def target(self) -> list[str]:
        return ["--url", self.backend.url, "--admin-key", self.backend.admin_key]

    def cvx(self, *words: str, stdin: str | None = None) -> Any:
        return cvx(*words, "--prod", cwd=self.app, env=self.env, stdin=stdin)

    def rows(self) -> int:
        return int(self.backend.call("query", "misc:count", {}))


@pytest.fixture(scope="module")
def prod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    folder = tmp_path_factory.mktemp("contract")
    backend = BackendProcess(folder / "data")
    backend.start()
    try:
        yield Production(backend, folder / "app")
    finally:
        backend.stop()


# ---- 1, 3: quick ---------------------------------------------------------------------------------


def processor_s(command: list[str], cwd: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=cwd, env=environment(CI="1"), capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


@pytest.mark.node
@pytest.mark.parametrize("flag", ["--version", "--help"])
def test_starts_in_a_fifth_of_the_official_time(flag: str, tmp_path: Path) -> None:
    """By turns in one run, processor time, the best of each."""
    main = (
        npm_project("cvx-dev", {"convex": "1.48.0", "typescript": "7.0.2"})
        / "node_modules/convex/bin/main.js"
    )
    ours, theirs = [], []
    for _ in range(3):
        ours.append(processor_s([*CVX, flag], tmp_path))
        theirs.append(processor_s([node(), str(main), flag], tmp_path))
    assert min(ours) <= 0.2 * min(theirs), f"{flag}: ours {min(ours):.3f} s, theirs {min(theirs):.3f} s"


@pytest.mark.parametrize(
    "words",
    ["dev", "deploy", "init x --no-install", "data import --table t rows.jsonl", "data export --table t",
     "typecheck", "codegen", "logs", "run a:b --watch", "doctor", "functions", "env list", "deployment create x"],
)  # fmt: skip
def test_something_is_on_the_screen_at_once(words: str, tmp_path: Path) -> None:
    project = empty_project(tmp_path / "app")
    spent = []
    for _ in range(2):
        with Terminal(words.split(), project) as screen:
            assert screen.read()
            spent.append(screen.processor_s())
            assert "Starting" in screen.text
    assert min(spent) <= 0.1, spent


def test_the_first_sign_is_replaced_and_only_a_terminal_sees_it(tmp_path: Path) -> None:
    with Terminal(["env", "list", *NOWHERE], tmp_path) as screen:
        assert screen.ended() == 6
    assert screen.text.startswith("… Starting\r\x1b[2K"), screen.text
    assert screen.text.count("Starting") == 1
    assert "Starting" not in cvx("env", "list", *NOWHERE, cwd=tmp_path).err
    with Terminal(["env", "list", "--json", *NOWHERE], tmp_path) as screen:
        screen.ended()
    assert "Starting" not in screen.text


# ---- 13: nobody to ask ---------------------------------------------------------------------------


def without_stdin(words: list[str], cwd: Path, env: dict[str, str]) -> tuple[int, str, float]:
    """Standard input not only empty but closed; with the processor time it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *CVX, *words],
        cwd=cwd, env=environment() | env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.returncode, done.stderr, after.ru_utime - before.ru_utime


@pytest.mark.deno
@pytest.mark.parametrize(
    ("words", "flag"),
    [
        ("dev --configure", "--configure new"),
        ("env set NAME --prod", "second argument"),
        ("env set --prod", "--from-file FILE"),
        ("env remove ONE --prod", "--yes=delete-variables"),
        ("deployment delete prod", "--yes=delete-data"),
        ("deployment delete spare", "--yes"),
        ("data import --table items rows.jsonl --replace --prod", "--yes=delete-data"),
        ("data import --table items - --prod", "FILE"),
    ],
)
def test_a_question_nobody_can_answer_ends_naming_the_flag(prod: Production, words: str, flag: str) -> None:
    for name in ("prod", "spare"):
        state = prod.app / ".cvx" / "local" / name
        state.mkdir(parents=True, exist_ok=True)
        config = {
            "version": 1,
            "cloudPort": 3210,
            "sitePort": 3211,
            "instanceName": name,
            "instanceSecret": "0" * 64,
        }
        (state / "config.json").write_text(json.dumps(config))
    (prod.app / "rows.jsonl").write_text('{"name": "one"}\n')
    code, err, seconds = without_stdin(words.split(), prod.app, prod.env)
    assert code == 2, err
    assert flag in err
    assert seconds < 20
    assert prod.rows() > 0 and (prod.app / ".cvx/local/prod").exists()


# ---- 14, 15, 16: production ----------------------------------------------------------------------


@pytest.mark.deno
def test_production_is_confirmed_by_its_name_or_the_named_risk(prod: Production) -> None:
    (prod.app / "rows.jsonl").write_text('{"name": "one"}\n{"name": "two"}\n')
    replace = ["data", "import", "--table", "items", "rows.jsonl", "--replace"]
    prod.cvx("run", "misc:add", '{"name": "before"}')
    before = prod.rows()

    dry = prod.cvx(*replace, "--dry-run", "--json").envelope()["data"]
    change = dry["changes"][0]
    assert (dry["dryRun"], change["create"], change["delete"]) == (True, 2, before)
    assert prod.rows() == before
    unnamed = prod.cvx(*replace, "--yes")
    assert unnamed.code == 2 and "--yes=delete-data" in unnamed.err
    with Terminal([*replace, "--prod"], prod.app, prod.env) as screen:
        screen.wait_for("Type 'prod'")
        screen.type("prod\r")
        assert screen.ended() == 0, screen.text
    assert prod.rows() == 2
    again = prod.cvx(*replace, "--yes=delete-data")
    assert again.code == 0 and prod.rows() == 2, again.err


@pytest.mark.deno
def test_variables_of_production(prod: Production) -> None:
    assert prod.cvx("env", "set", "DOOMED", "once").code == 0
    dry = prod.cvx("env", "remove", "DOOMED", "ABSENT", "--dry-run", "--json").envelope()["data"]
    assert dry == {"removed": ["DOOMED"], "dryRun": True}
    assert prod.cvx("env", "remove", "DOOMED").code == 2
    assert prod.cvx("env", "remove", "DOOMED", "--yes").code == 2
    with Terminal(["env", "set", "DOOMED", "other", "--prod"], prod.app, prod.env) as screen:
        screen.wait_for("Type 'prod'")
        screen.type("no\r")
        assert screen.ended() == 1, screen.text
    assert prod.cvx("env", "get", "DOOMED").out == "once\n"
    assert prod.cvx("env", "set", "DOOMED", "other").code == 0, "a script has said what it wants"
    assert prod.cvx("env", "remove", "DOOMED", "--yes=delete-variables").code == 0
    assert prod.cvx("env", "get", "DOOMED").code == 3
    assert cvx("env", "set", "LOCAL", "1", *prod.target, cwd=prod.app).code == 0
    assert cvx("env", "remove", "LOCAL", *prod.target, cwd=prod.app).code == 0, "elsewhere nobody is asked"


@pytest.mark.deno
def test_jobs_of_production(prod: Production) -> None:
    assert cvx("run", "misc:later", '{"times": 3}', *prod.target, cwd=prod.app).code == 0

    def waiting() -> list[str]:
        listed = prod.cvx("jobs", "list", "--json").envelope()["data"]["jobs"]
        return [job["id"] for job in listed]

    one, *others = waiting()
    cancel = ("jobs", "cancel", "--all")
    dry = prod.cvx(*cancel, "--dry-run", "--json").envelope()["data"]
    assert dry == {"canceled": 3, "finished": [], "dryRun": True}
    dry = prod.cvx("jobs", "cancel", one, "--dry-run", "--json").envelope()["data"]
    assert dry == {"canceled": [one], "finished": [], "dryRun": True}
    assert prod.cvx("jobs", "cancel", "gibberish", "--dry-run").code == 1
    refused = prod.cvx(*cancel)
    assert refused.code == 2 and "--yes=cancel-jobs" in refused.err
    assert prod.cvx(*cancel, "--yes").code == 2, "the risk has a name"
    assert prod.cvx("jobs", "cancel", one).code == 2
    with Terminal([*cancel, "--prod"], prod.app, prod.env) as screen:
        screen.wait_for("Cancel 3 jobs of prod? Type 'prod'")
        screen.type("no\r")
        assert screen.ended() == 1, screen.text
    assert waiting() == [one, *others]
    with Terminal(["jobs", "cancel", one, "--prod"], prod.app, prod.env) as screen:
        screen.wait_for("Type 'prod'")
        screen.type("prod\r")
        assert screen.ended() == 0, screen.text
    assert waiting() == others
    done = prod.cvx(*cancel, "--yes=cancel-jobs", "--json").envelope()["data"]
    assert done == {"canceled": 2, "finished": [], "dryRun": False} and waiting() == []
    assert cvx("run", "misc:later", '{"times": 1}', *prod.target, cwd=prod.app).code == 0
    assert cvx(*cancel, *prod.target, cwd=prod.app).code == 0, "elsewhere nobody is asked"
    assert "Nothing is scheduled" in cvx(*cancel, "--dry-run", *prod.target, cwd=prod.app).err


def test_a_local_deployment_called_prod(tmp_path: Path) -> None:
    project = empty_project(tmp_path / "app")
    state = project / ".cvx" / "local" / "prod"
    state.mkdir(parents=True)
    config = {
        "version": 1,
        "cloudPort": 3210,
        "sitePort": 3211,
        "instanceName": "p",
        "instanceSecret": "0" * 64,
    }
    (state / "config.json").write_text(json.dumps(config))
    (state / "more").write_bytes(b"x" * 1000)
    size = 1000 + (state / "config.json").stat().st_size
    dry = cvx("deployment", "delete", "prod", "--dry-run", "--json", cwd=project).envelope()["data"]
    assert dry == {"deleted": "prod", "files": 2, "bytes": size, "dryRun": True}
    assert cvx("deployment", "delete", "prod", "--yes", cwd=project).code == 2
    with Terminal(["deployment", "delete", "prod"], project) as screen:
        screen.wait_for("Type 'prod'")
        screen.type("prud\r")
        assert screen.ended() == 1
    assert state.exists()
    assert cvx("deployment", "delete", "prod", "--yes=delete-data", cwd=project).code == 0
    assert not state.exists()


# ---- 18: the user's line -------------------------------------------------------------------------


@pytest.mark.deno
@pytest.mark.parametrize("function", ["inMutation", "inAction", "inQuery"])
def test_an_error_at_run_time_shows_the_users_line(prod: Production, function: str) -> None:
    done = prod.cvx("run", f"faults:{function}")
    assert done.code == 7
    assert re.search(rf"{FAULT_LINE} \|   throw new Error.*\n\s+\|\s+\^", done.err), done.err
    assert "Request ID" not in done.err and "Traceback" not in done.err
    answered = prod.cvx("run", f"faults:{function}", "--json").envelope()["error"]
    place = answered["diagnostics"][0]
    assert (place["file"], place["line"]) == ("convex/faults.ts", FAULT_LINE)


@pytest.mark.deno
def test_a_watched_query_that_fails_shows_it_too(prod: Production) -> None:
    with Terminal(["run", "faults:inQuery", "--watch", "--prod"], prod.app, prod.env) as screen:
        screen.wait_for(f"{FAULT_LINE} |   throw new Error")
        assert screen.interrupt() < 5


# ---- 22: progress --------------------------------------------------------------------------------


def test_steps_have_counts_and_are_throttled_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = TerminalReporter(Output())
    reporter.report(Started("import", "Importing rows.jsonl"))
    for done in range(0, 90_000, 9):
        reporter.report(Step("import", done, 90_000, "40,000 rows/s, 2 s left"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "- Importing rows.jsonl"
    assert 1 <= len(lines) - 1 <= 3, "one a second at most"
    assert re.fullmatch(r"- Importing rows.jsonl [\d,]+/90,000 40,000 rows/s, 2 s left", lines[1])


@pytest.mark.deno
def test_imports_exports_and_indexes_show_how_far_they_are(prod: Production) -> None:
    rows = "".join(f'{{"n": {n}, "text": "{"x" * 100}"}}\n' for n in range(60_000))
    (prod.app / "many.jsonl").write_text(rows)
    with Terminal(["data", "import", "--table", "many", "many.jsonl", *prod.target], prod.app) as screen:
        assert screen.ended() == 0, screen.text
    assert re.search(r"/s", screen.text) and "Imported 60,000 documents" in screen.text, screen.text
    with Terminal(["data", "export", "--path", "all.zip", *prod.target], prod.app) as screen:
        assert screen.ended() == 0, screen.text
    assert "snapshot" in screen.text and "Exported to" in screen.text, screen.text
    schema = prod.app / "convex" / "schema.ts"
    original = schema.read_text()
    table = 'many: defineTable({ n: v.number(), text: v.string() }).index("by_n", ["n"])'
    schema.write_text(original.replace("defineSchema({ ", f"defineSchema({{ {table}, "))
    try:
        with Terminal(["deploy", "--typecheck", "disable", *prod.target], prod.app) as screen:
            assert screen.ended() == 0, screen.text
        shown = (
            r"Pushing functions [\d,]+/[\d,]+ documents(, [\d,]+/s(, [\w ]+ left)?)? \(\d+/\d+ indexes ready"
        )
        assert re.search(shown, screen.text), screen.text
    finally:
        schema.write_text(original)


# ---- 23: Ctrl-C ----------------------------------------------------------------------------------


@pytest.mark.deno
def test_interrupted_followers_end_at_once(prod: Production) -> None:
    for words, sign in ((["logs"], "Showing logs"), (["run", "misc:count", "--watch"], "\n")):
        with Terminal([*words, *prod.target], prod.app) as screen:
            screen.wait_for(sign)
            if "--watch" in words:
                while not re.search(r"\d", screen.text):
                    assert screen.read()
            time.sleep(0.2)
            assert screen.interrupt() < 15, "at once: it waits for nothing"
        assert "Traceback" not in screen.text


@pytest.mark.deno
def test_an_interrupted_import_leaves_the_old_rows(prod: Production) -> None:
    before = prod.rows()
    process = subprocess.Popen(
        [*CVX, "data", "import", "--table", "items", "--replace", "--yes", "--format", "jsonl", "-", *prod.target],
        cwd=prod.app, env=environment(), stdin=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None and process.stderr is not None
    process.stdin.write(b'{"name": "never"}\n' * 20_000)
    process.stdin.flush()
    time.sleep(1)
    begin = time.monotonic()
    process.send_signal(2)
    assert process.wait(60) == 130
    assert time.monotonic() - begin < 15
    assert b"Traceback" not in process.stderr.read()
    process.stdin.close()
    process.stderr.close()
    assert prod.rows() == before


# ---- 21, 28: nothing leaks -----------------------------------------------------------------------


def test_no_address_elsewhere_is_ever_called() -> None:
    """No telemetry, no update check: the only addresses in the code are this machine's and names in texts."""
    allowed = {"127.0.0.1", "localhost", "0.0.0.0", "registry.npmjs.org", "convex.test"}
    found = set()
    for path in (ROOT / "cvx" / "toolchain").rglob("*.py"):
        for node_ in ast.walk(ast.parse(path.read_text())):
            if isinstance(node_, ast.Constant) and isinstance(node_.value, str):
                found |= set(re.findall(r"https?://([a-z0-9.-]+\.[a-z]+)\b", node_.value))
    assert {host for host in found if host not in allowed and not host.endswith("example.com")} <= {
        "docs.convex.dev",
        "cvx.dev",
    }, found


@pytest.mark.deno
def test_no_output_and_no_command_line_shows_a_secret(prod: Production) -> None:
    secret = "value-that-nobody-may-see"
    assert prod.cvx("env", "set", "TOKEN", stdin=secret).code == 0
    seen = []
    for words in (
        "env set TOKEN value-that-nobody-may-see",
        "env remove TOKEN",
        "config show --origin",
        "deployment show --json",
        "run misc:double {x:1} -v",
        "deploy --dry-run --typecheck disable -v",
        "logs --history 5 --no-follow --success --json",
        "doctor --json",
        "data import --table items nothing.jsonl --json",
    ):
        talks = words.split()[0] != "doctor"
        done = cvx(*words.split(), *(["--prod"] if talks else []), cwd=prod.app, env=prod.env)
        seen.append((words, done.out + done.err))
    key = prod.backend.admin_key
    shown = [words for words, text in seen if key in text or key.split("|")[1] in text or secret in text]
    assert shown == []


@pytest.mark.deno
@pytest.mark.node
def test_the_local_backends_secret_stays_off_its_command_line_and_log(tmp_path: Path) -> None:
    project = notes_project(tmp_path / "app")
    with Dev(project) as dev:
        dev.ready()
        config = json.loads((project / ".cvx/local/default/config.json").read_text())
        secrets = (config["instanceSecret"], config["adminKey"].split("|")[1])
        argv = Path(f"/proc/{dev.state()['pid']}/cmdline").read_text()
        log = (project / ".cvx/local/default/backend.log").read_text()
        for secret in secrets:
            assert secret not in argv + log + "".join(dev.errors)
        assert (project / ".cvx/local/default/config.json").stat().st_mode & 0o077 == 0
