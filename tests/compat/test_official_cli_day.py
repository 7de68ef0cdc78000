"""A day's work with the unmodified official CLI against our backend, in one sitting: three releases, a backend each.

What test_official_cli.py shows of the newest release is not repeated for it, nor what test_transfers.py shows of all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.backend_process import BackendProcess
from tests.compat.official_cli import OfficialCli, copied_app
from tests.compat.test_official_cli import NEWEST, OLDER

pytestmark = [pytest.mark.node, pytest.mark.deno, pytest.mark.slow]


class Day:
    """One release at work in the guestbook app."""

    def __init__(self, version: str, folder: Path) -> None:
        self.version = tuple(int(part) for part in version.split("."))
        self.backend = BackendProcess(folder / "data")
        self.backend.start()
        self.convex = OfficialCli(copied_app("guestbook", folder / "app", version), self.backend)
        self.app = self.convex.app

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The rows of a table in the order of their creation: asked for directly, since each Node start costs a second."""
        options = {"cursor": None, "numItems": 50}
        answer = httpx.post(
            f"{self.backend.url}/api/query",
            json={"path": "_system/cli/tableData", "format": "convex_encoded_json",
                  "args": [{"table": table, "order": "asc", "paginationOpts": options}]},
            headers={"Authorization": f"Convex {self.backend.admin_key}"},
        ).json()  # fmt: skip
        rows: list[dict[str, Any]] = answer["value"]["page"]
        return rows


# The older releases' whole day is long; test_official_cli.py has a shorter one of each.
RELEASES = [NEWEST, *(pytest.param(version, marks=pytest.mark.long) for version in OLDER)]


@pytest.fixture(scope="module", params=RELEASES)
def day(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    begun = Day(request.param, tmp_path_factory.mktemp("day"))
    try:
        yield begun
    finally:
        begun.backend.stop()


def test_a_day(day: Day, tmp_path: Path) -> None:
    """One test, since each step goes on from the one before."""
    morning(day)
    calls(day)
    if day.version < (1, 48):
        variables(day, tmp_path)
    imports(day, tmp_path)
    evening(day)


def morning(day: Day) -> None:
    """Push; types; the specification."""
    assert "Convex functions ready!" in day.convex("dev", "--once", "--typecheck", "disable").stderr
    generated = {path.name for path in (day.app / "convex/_generated").iterdir()}
    assert {"api.d.ts", "api.js", "dataModel.d.ts", "server.d.ts", "server.js"} <= generated
    if day.version < (1, 48):  # For the newest release, test_official_cli.py compares what it generates.
        day.convex("codegen", "--typecheck", "disable")
    day.convex("function-spec", "--file")
    written = next(day.app.glob("function_spec_*.json"))
    identifiers = {f.get("identifier") for f in json.loads(written.read_text())["functions"]}
    assert {"messages.js:send", "admin/rooms.js:create"} <= identifiers
    written.unlink()


def calls(day: Day) -> None:
    """`run` by every spelling of a name and of arguments; as somebody; watched; pushed first."""
    run = day.convex
    room = run("run", "admin/rooms:create", "{ name: 'lobby' }").json  # JSON5
    sent = run("run", "convex/messages.ts:send", json.dumps({"room": room, "author": "ada", "body": "hello"}))
    assert "'sending as' 'ada'" in sent.stderr
    assert [m["body"] for m in run("run", "api.messages.list").json] == ["hello"]
    assert run("run", "admin/rooms:whoami", "--identity", "{ name: 'Ada' }").json == "Ada"
    assert "ArgumentValidationError" in run("run", "messages:send", "{}", code=1).stderr
    if day.version >= (1, 38):
        assert run("run", "--inline-query", "(await ctx.db.query('rooms').collect()).length").json == 1
    if day.version[:2] == (1, 38):
        assert run("run", "--push", "--typecheck", "disable", "messages:count").json == 1
        with run.start("run", "messages:count", "--watch") as watching:
            watching.wait_for("1\n")
            run("run", "messages:send", json.dumps({"room": room, "author": "ada", "body": "again"}))
            watching.wait_for("2\n")


def variables(day: Day, tmp_path: Path) -> None:
    """`env` in all forms the release has."""
    convex = day.convex
    convex("env", "set", "GREETING", "good day")
    assert convex("env", "get", "GREETING").stdout == "good day\n"
    assert convex("run", "admin/rooms:greeting").json == "good day"
    if day.version >= (1, 38):
        file = tmp_path / "variables"
        file.write_text("ONE=1\nTWO='a b'\n")
        convex("env", "set", "--from-file", str(file))
        file.write_text("ONE=other\n")
        convex("env", "set", "--from-file", str(file), "--force")
        file.write_text("a whole\nfile")
        convex("env", "set", "WHOLE", "--from-file", str(file))
        assert convex("env", "get", "WHOLE").stdout == "a whole\nfile\n"
        listed = convex("env", "list").stdout
        assert "ONE=other" in listed and "TWO=a b" in listed
    convex("env", "remove", "GREETING")
    assert convex("run", "admin/rooms:greeting").json == "no greeting"


def imports(day: Day, tmp_path: Path) -> None:
    """One file; test_transfers.py goes through formats, modes and exports for these releases."""
    sheet = tmp_path / "people.csv"
    sheet.write_text("name,n\nfive,5\nsix,6.5\n")
    day.convex("import", "--table", "people", str(sheet))
    assert [(row["name"], row["n"]) for row in day.rows("people")] == [("five", 5), ("six", 6.5)]


def evening(day: Day) -> None:
    """What happened; the tables; the deploy with its build."""
    with day.convex.start("logs", "--history", "50", "--success") as logs:
        logs.wait_for("M(messages:send)] [LOG] 'sending as' 'ada'")
    assert "_system" not in logs.text, "what the command line itself asks is nobody's history"
    assert {"messages", "people", "rooms"} <= set(day.convex("data").stdout.split())
    assert "six" in day.convex("data", "people", "--format", "jsonLines", "--order", "asc").stdout
    built = day.app / "built"
    done = day.convex("deploy", "-y", "--typecheck", "disable", "--cmd", f'echo "$CONVEX_URL" > {built}')
    assert "Deployed Convex functions to" in done.stderr
    assert built.read_text().strip() == day.backend.url
    assert [m["author"] for m in day.convex("run", "messages:list").json][-1] == "ada"
