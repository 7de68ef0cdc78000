"""A mutation whose writes settle before they are sent ends exactly as one whose writes wait."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cvx.backend.config import Limits
from cvx.backend.runner.isolate import Isolate
from cvx.backend.runner.messages import Done, SyscallsIssued
from tests.functions.deployment import App, Deployment
from tests.functions.test_calls import run

pytestmark = pytest.mark.deno

Ending = tuple[Any, Any, Any, list[str], Any, Any]


def endings(tmp_path: Path, app: App, path: str, early: int, options: Any, **limits: Any) -> Ending:
    """All that anybody can see of one call: value, error, data, log lines, rows afterwards, usage."""
    found: list[Ending] = []

    async def body(d: Deployment) -> None:
        id = await d.mutation("early:make")
        result = await d.mutate(f"early:{path}", {"id": id, **options})
        message = None if result.error is None else result.error.message.replace(id, "ID")
        data = None if result.error is None else result.error.data_json
        entries, _ = d.executor.log.calls(0)
        rows = await d.query("early:rows")
        found.append((result.value_json, message, data, result.log_lines, rows, entries[-1].usage))
        assert (result.ts is None) == (result.error is not None)

    limited = replace(Limits(), runner_early_writes_max=early, **limits)
    run(tmp_path / str(early), app, body, limits=limited)
    return found[0]


UNTOUCHED = [["a", 1]]
CASES: list[tuple[str, dict[str, Any], dict[str, Any], str, list[Any]]] = [
    ("patchDeleted", {}, {}, '"Cannot patch on nonexistent document ID ID."', []),
    ("badReplace", {}, {}, '"Failed to insert or update a document', [["a", 7]]),
    ("readsItsWrites", {}, {}, '[[["b",6.0]],null]', []),
    ("thousand", {}, {}, "1000.0", [["a", 1000]]),
    ("unawaitedBad", {}, {}, "!Uncaught Error: Failed to insert or update a document", UNTOUCHED),
    ("throwsAfterGood", {}, {}, "!Uncaught ConvexError", UNTOUCHED),
    ("throwsAfterBad", {}, {}, "!Uncaught Error: Failed to insert or update a document", UNTOUCHED),
    ("tooManyWrites", {"caught": True}, {"documents_written_max": 20}, '[20.0,"Too many', [["a", 29]]),
    (
        "tooManyWrites",
        {"caught": False},
        {"documents_written_max": 20},
        "!Uncaught Error: Too many",
        UNTOUCHED,
    ),
    ("metrics", {}, {}, '{"bytesRead"', [["a", 9]]),
    ("nestedThenBad", {}, {}, '["Cannot patch on nonexistent', UNTOUCHED),
    ("asItWillBe", {}, {}, '[["a",2.0]]', [["a", 2]]),
]


@pytest.mark.parametrize(("path", "options", "limits", "begins", "rows"), CASES)
def test_both_ways_end_alike(
    tmp_path: Path,
    app: App,
    path: str,
    options: dict[str, Any],
    limits: dict[str, Any],
    begins: str,
    rows: list[Any],
) -> None:
    strict = endings(tmp_path, app, path, 0, options, **limits)
    early = endings(tmp_path, app, path, 16, options, **limits)
    assert early == strict
    value, message, data, lines, left, _ = early
    shown = "!" + message if message is not None else value.decode()
    assert shown.startswith(begins)
    assert left == rows
    if path == "throwsAfterGood":
        assert json.loads(data) == {"after": "good"}
    if path == "patchDeleted":
        assert lines == ["[LOG] 'start'", "[LOG] 'caught'"]


def test_a_transfer_is_three_frames(tmp_path: Path, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    handle = Isolate._handle

    def noting(self: Isolate, message: Any, payload: list[bytes]) -> None:
        if isinstance(message, (SyscallsIssued, Done)):
            seen.append(type(message).__name__)
        handle(self, message, payload)

    async def body(d: Deployment) -> None:
        for name in "ab":
            await d.mutation("bank:open", {"name": name, "balance": 10})
        monkeypatch.setattr(Isolate, "_handle", noting)
        assert await d.mutation("bank:transfer", {"from": "a", "to": "b", "amount": 3}) == 7
        assert seen == ["SyscallsIssued", "SyscallsIssued", "Done"]
        assert [await d.query("bank:balance", {"name": name}) for name in "ab"] == [7, 13]

    run(tmp_path, app, body)
