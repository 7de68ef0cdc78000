"""`cvx data import` and `cvx data export` as a person and a script meet them."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cvx.backend.bulk import EXPORT_PROGRAM
from tests.cli.command_line import CVX, Outcome, cvx, environment
from tests.cli.terminal import Terminal
from tests.jobs.transfer_client import TransferClient
from tests.live_backend import LiveBackend
from tests.processes import children_of
from tests.waiting import until

pytestmark = [pytest.mark.deno]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBackend]:
    with LiveBackend(tmp_path_factory.mktemp("data"), limits={"import_block_bytes": 20_000}) as backend:
        yield backend


@pytest.fixture(scope="module")
def client(live: LiveBackend) -> Iterator[TransferClient]:
    client = TransferClient(live.url, live.admin_key)
    yield client
    client.close()


def run(live: LiveBackend, cwd: Path, *words: str, stdin: str | None = None) -> Outcome:
    return cvx("data", *words, "--url", live.url, "--admin-key", live.admin_key, cwd=cwd, stdin=stdin)


def rows_file(path: Path, count: int) -> Path:
    path.write_text("".join(json.dumps({"n": n, "text": "x" * 100}) + "\n" for n in range(count)))
    return path


def test_import_says_what_changes_and_export_gives_it_back(
    live: LiveBackend, client: TransferClient, tmp_path: Path
) -> None:
    rows_file(tmp_path / "rows.jsonl", 3)
    first = run(live, tmp_path, "import", "--table", "one", "rows.jsonl")
    assert (first.code, first.out) == (0, "")
    assert "one   | 3      | 0 of 0" in first.err and "Imported 3 documents from rows.jsonl." in first.err
    again = run(live, tmp_path, "import", "--table", "one", "rows.jsonl")
    assert again.code == 5 and "TableExists" in again.err and "--replace" in again.err
    dry = run(live, tmp_path, "import", "--table", "one", "--replace", "--dry-run", "--json", "rows.jsonl")
    assert dry.envelope()["data"]["changes"] == [
        {"component": "", "table": "one", "create": 3, "delete": 3, "existing": 3}
    ]
    assert dry.envelope()["data"]["dryRun"] is True
    asked = run(live, tmp_path, "import", "--table", "one", "--replace", "rows.jsonl")
    assert asked.code == 2 and "--yes" in asked.err
    newest = client.query("_system/cli/queryImport:list")[0]
    assert newest["state"]["error_code"] == "ImportCanceled", "nobody will ever confirm it"
    done = run(live, tmp_path, "import", "--table", "one", "--replace", "--yes", "--json", "rows.jsonl")
    assert done.code == 0 and done.envelope()["data"]["rows"] == 3
    same = run(live, tmp_path, "import", "--table", "one", "--replace", "--yes", "rows.jsonl")
    assert same.code == 0 and "Nothing to do: rows.jsonl is what is there already." in same.err
    more = run(live, tmp_path, "import", "--table", "one", "--append", "-", stdin='{"n":9}\n')
    assert more.code == 0, more.err
    exported = run(live, tmp_path, "export", "--table", "one")
    assert exported.code == 0
    rows = [json.loads(line) for line in exported.out.splitlines()]
    assert [row["n"] for row in rows] == [0, 1, 2, 9] and rows == client.rows("one")
    stream = run(live, tmp_path, "export", "--table", "one", "--json")
    assert [json.loads(line)["data"]["n"] for line in stream.out.splitlines()] == [0, 1, 2, 9]


def test_formats_are_told_by_name_and_by_content(live: LiveBackend, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "b.json").write_text('\n[{"x":1}]')
    (tmp_path / "lines.json").write_text('{"x":1}\n{"x":2}\n')
    (tmp_path / "c.data").write_bytes(b"\xef\xbb\xbf" + b'{"x":1}\n')
    (tmp_path / "d.data").write_text("x\n1\n")
    for name, count in (("a.csv", 1), ("b.json", 1), ("lines.json", 2), ("c.data", 1)):
        done = run(live, tmp_path, "import", "--table", "f_" + name.replace(".", "_"), name, "--json")
        assert done.code == 0 and done.envelope()["data"]["rows"] == count, done.out
    unknown = run(live, tmp_path, "import", "--table", "f", "d.data")
    assert unknown.code == 2 and "--format" in unknown.err
    assert run(live, tmp_path, "import", "--table", "f", "d.data", "--format", "csv").code == 0
    official = run(live, tmp_path, "import", "--table", "g", "--format", "jsonLines", "lines.json")
    assert official.code == 0, "the official names of formats are known"


def test_what_is_wrong_has_a_place_a_reason_and_a_code(
    live: LiveBackend, client: TransferClient, tmp_path: Path
) -> None:
    (tmp_path / "bad.jsonl").write_text('{"n":1}\n{"n":\n')
    bad = run(live, tmp_path, "import", "--table", "bad", "bad.jsonl")
    assert bad.code == 5 and "bad.jsonl:2: Line 2 is not valid JSON" in bad.err
    assert "Nothing was imported." in bad.err and "bad" not in client.tables()
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("t/documents.jsonl", "[1]\n")
    inside = run(live, tmp_path, "import", "bad.zip", "--json")
    assert inside.code == 5
    assert inside.envelope()["error"]["message"].startswith(
        "bad.zip/t/documents.jsonl:1: Row 1 is not an object"
    )
    for words, code in (
        (["import", "--table", "t", "nothing.jsonl"], 3),
        (["import", "bad.jsonl"], 2),
        (["import", "--table", "t", "bad.zip"], 2),
        (["import", "--table", "_t", "bad.jsonl"], 5),
        (["import", "--table", "t", "--append", "--replace", "bad.jsonl"], 2),
        (["import", "--table", "t", "--format", "xml", "bad.jsonl"], 2),
        (["import", "--table", "t", "-"], 2),  # Of what format nothing at all is, nobody can tell.
        (["import", "--table", "t", "."], 3),
        (["export", "--table", "on"], 3),
        (["export", "--format", "csv"], 2),
        (["export", "--table", "one", "--format", "csv", "--json"], 2),
        (["export", "--table", "one", "--format", "json", "--json"], 2),
        (["export", "--table", "bad", "--path", "bad.zip"], 5),
    ):
        outcome = run(live, tmp_path, *words, "--json")
        assert outcome.code == code, (words, outcome)
        assert outcome.envelope()["ok"] is False and outcome.envelope()["error"]["hint"], words
    nobody = ("--url", "http://127.0.0.1:9", "--admin-key", "a|b")
    early = cvx("data", "import", "--table", "no-such-name", "bad.jsonl", *nobody, cwd=tmp_path)
    assert early.code == 5 and "'no-such-name' is not a valid table name" in early.err, (
        "nothing was sent for it"
    )
    down = cvx(
        "data", "export", "--table", "x", "--url", "http://127.0.0.1:9", "--admin-key", "a|b", cwd=tmp_path
    )
    assert down.code == 6
    refused = cvx("data", "export", "--url", live.url, "--admin-key", "test-instance|00", cwd=tmp_path)
    assert refused.code == 4


def test_a_whole_deployment_as_a_zip(live: LiveBackend, client: TransferClient, tmp_path: Path) -> None:
    rows_file(tmp_path / "rows.jsonl", 500)
    run(live, tmp_path, "import", "--table", "whole", "rows.jsonl")
    before = client.rows("whole")
    made = run(live, tmp_path, "export", "--path", "all.zip", "--include-file-storage", "--json")
    assert made.code == 0, made.err
    assert made.envelope()["data"]["path"] == "all.zip"
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert archive.testzip() is None and "whole/documents.jsonl" in archive.namelist()
    (tmp_path / "folder").mkdir()
    into = run(live, tmp_path, "export", "--path", "folder", "--json").envelope()["data"]["path"]
    assert Path(into).name.startswith("snapshot_test-instance_")
    piped = subprocess.run(
        [*CVX, "data", "export", "--url", live.url, "--admin-key", live.admin_key],
        cwd=tmp_path, env=environment(), capture_output=True, check=True,
    )  # fmt: skip
    assert piped.stdout.startswith(b"PK\x03\x04")
    csv = run(live, tmp_path, "export", "--table", "whole", "--path", "whole.csv")
    assert csv.code == 0 and (tmp_path / "whole.csv").read_text().startswith("_id,_creationTime,n,text\n")
    back = run(live, tmp_path, "import", "--replace-all", "--yes", "all.zip")
    assert back.code == 0, back.err
    assert client.rows("whole") == before
    assert not list(tmp_path.rglob("*.partial"))


def test_production_wants_its_name_typed(live: LiveBackend, client: TransferClient, tmp_path: Path) -> None:
    (tmp_path / "cvx.toml").write_text(
        f'[deployments.prod]\nurl = "{live.url}"\nadmin_key_env = "PROD_KEY"\n'
    )
    rows_file(tmp_path / "rows.jsonl", 2)
    key = {"PROD_KEY": live.admin_key}

    def on_prod(*words: str) -> Outcome:
        return cvx("data", "import", "--prod", "--table", "p", "rows.jsonl", *words, cwd=tmp_path, env=key)

    assert on_prod().code == 0, "nothing is deleted, so nothing is asked"
    vague = on_prod("--replace", "--yes")
    assert vague.code == 2 and "--yes=delete-data" in vague.err
    assert on_prod("--replace", "--yes=delete-data").code == 0
    rows_file(tmp_path / "rows.jsonl", 4)
    assert (
        _typed(
            [*CVX, "data", "import", "--prod", "--table", "p", "--replace", "rows.jsonl"],
            "prod",
            tmp_path,
            key,
        )
        == 0
    )
    assert client.size("p") == 4


def _typed(command: list[str], answer: str, cwd: Path, env: dict[str, str]) -> int:
    """Run a command on a terminal and type an answer once it asks for it."""
    main, child = pty.openpty()
    process = subprocess.Popen(
        command, cwd=cwd, env=environment(TERM="xterm", **env), stdin=child, stdout=child, stderr=child
    )
    os.close(child)
    seen = b""
    typed = False
    deadline = time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            try:
                seen += os.read(main, 4096)
            except OSError:
                break
            if not typed and b"Type" in seen and b"go on" in seen:
                typed = True
                time.sleep(0.3)
                os.write(main, answer.encode() + b"\r")
        return process.wait(60)
    finally:
        os.close(main)
        process.kill()
        assert typed, seen.decode(errors="replace")


def test_progress_is_plain_lines_off_a_terminal(live: LiveBackend, tmp_path: Path) -> None:
    rows_file(tmp_path / "rows.jsonl", 150_000)
    done = run(live, tmp_path, "import", "--table", "progress", "rows.jsonl")
    assert done.code == 0 and "\r" not in done.err and "\x1b" not in done.err
    steps = [line for line in done.err.splitlines() if "rows/s" in line]
    assert steps and all("rows (" in line for line in steps), done.err
    quiet = run(live, tmp_path, "import", "--table", "quiet", "--quiet", "rows.jsonl")
    assert quiet.code == 0 and "rows/s" not in quiet.err


def test_ctrl_c_leaves_everything_as_it_was(
    live: LiveBackend, client: TransferClient, tmp_path: Path
) -> None:
    rows_file(tmp_path / "rows.jsonl", 60_000)
    run(live, tmp_path, "import", "--table", "held", "-", "--format", "jsonl", stdin='{"n":1}\n')
    command = [*CVX, "data", "import", "--table", "held", "--replace", "--yes", "rows.jsonl"]
    process = subprocess.Popen(
        [*command, "--url", live.url, "--admin-key", live.admin_key],
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if "Checking" in line:
            break
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - began < 15
    assert client.size("held") == 1
    newest = client.query("_system/cli/queryImport:list")[0]
    assert newest["state"]["state"] == "failed" and newest["state"]["error_code"] == "ImportCanceled"


def test_who_reads_only_the_beginning_is_no_error(live: LiveBackend, tmp_path: Path) -> None:
    rows_file(tmp_path / "rows.jsonl", 30_000)
    run(live, tmp_path, "import", "--table", "long", "rows.jsonl")
    for words in (["--table", "long"], ["--table", "long", "--json"], []):
        command = [*CVX, "data", "export", *words, "-q", "--url", live.url, "--admin-key", live.admin_key]
        with subprocess.Popen(
            command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            assert process.stdout.read(4)
            process.stdout.close()
            assert (process.stderr.read(), process.wait(60)) == (b"", 0)
    until(lambda: not _export_children(), "the end of what nobody reads")


def test_nothing_is_lost_when_the_writers_are_stopped_meanwhile(
    live: LiveBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-Z and `fg`, a laptop that sleeps: a write to a full pipe then ends early, which Python's unbuffered output
    would not notice."""
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    rows_file(tmp_path / "rows.jsonl", ROWS := 150_000)
    imported = run(live, tmp_path, "import", "--table", "paused", "rows.jsonl")
    assert imported.code == 0, imported.err
    keys = ["--url", live.url, "--admin-key", live.admin_key]
    with subprocess.Popen(
        [*CVX, "data", "export", "--table", "paused", "-q", *keys],
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        until(_export_children, "the export begins")
        for _ in range(20):
            for pid in (process.pid, *_export_children()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
                    time.sleep(0.01)
                    os.kill(pid, signal.SIGCONT)
            time.sleep(0.02)
        exported = [json.loads(line)["n"] for line in process.stdout]
    assert exported == list(range(ROWS))


def test_ctrl_c_on_a_terminal_ends_the_job_too(
    live: LiveBackend, client: TransferClient, tmp_path: Path
) -> None:
    rows_file(tmp_path / "rows.jsonl", 400_000)
    keys = ["--url", live.url, "--admin-key", live.admin_key]
    uploads = live.config.data_dir / "transfers" / "imports"
    others = set(uploads.iterdir())
    with Terminal(["data", "import", "--table", "stopped", "rows.jsonl", *keys], tmp_path) as screen:
        screen.wait_for("rows/s")
        screen.interrupt()
        assert "Traceback" not in screen.text and "left" in screen.text
    assert "stopped" not in client.tables()
    until(lambda: set(uploads.iterdir()) <= others, "the end of the upload")
    run(live, tmp_path, "import", "--table", "held2", "rows.jsonl")
    for words, partial in (
        (["--table", "held2", "--path", "o.jsonl"], "o.jsonl.partial"),
        (["--path", "o.zip"], None),
    ):
        with Terminal(["data", "export", *words, *keys], tmp_path) as screen:
            screen.wait_for("rows/s")
            screen.interrupt()
            assert "Traceback" not in screen.text and re.search(r"\d/\d[\d,]+ rows", screen.text), screen.text
        assert not (tmp_path / str(partial)).exists() and not list(tmp_path.glob("o.*"))
        until(lambda: not _export_children(), "the end of the export")
    latest = client.query("_system/cli/exports:getLatest")
    assert latest["state"] == "canceled"
    assert not list((live.config.data_dir / "transfers" / "exports").glob("*.partial"))


def _export_children() -> list[int]:
    """Processes of this one, in which the backend runs, that make exports."""
    command = EXPORT_PROGRAM.encode()
    found = []
    for pid in children_of(os.getpid()):
        with contextlib.suppress(OSError):
            if command in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found
