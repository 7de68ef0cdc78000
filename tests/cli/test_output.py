"""What reaches the terminal, and what does not."""

from __future__ import annotations

import io
import json
import os
from typing import Any

import pytest

from cvx.cli.json5 import parse_json5
from cvx.cli.output import Output, TerminalReporter, wants_color
from cvx.cli.prompts import Prompts
from cvx.errors import CvxError
from cvx.toolchain.progress import Diagnostic, Notice, code_frame, failed


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def output(**options: Any) -> Output:
    return Output(stdout=io.StringIO(), stderr=io.StringIO(), **options)


@pytest.mark.parametrize(
    ("choice", "env", "expected"),
    [
        ("auto", {}, True),
        ("auto", {"NO_COLOR": "1"}, False),
        ("auto", {"TERM": "dumb"}, False),
        ("always", {"NO_COLOR": "1"}, True),
        ("never", {"FORCE_COLOR": "1"}, False),
    ],
)
def test_colour_on_a_terminal(choice: str, env: dict[str, str], expected: bool) -> None:
    assert wants_color(choice, Terminal(), env) is expected  # type: ignore[arg-type]


def test_no_colour_off_a_terminal_unless_forced() -> None:
    assert wants_color("auto", io.StringIO(), {}) is False
    assert wants_color("auto", io.StringIO(), {"FORCE_COLOR": "1"}) is True


def test_data_and_talk_go_apart() -> None:
    shown = output()
    shown.say("talk")
    shown.result({"a": 1}, "data")
    assert shown.stdout.getvalue() == "data\n"  # type: ignore[attr-defined]
    assert shown.stderr.getvalue() == "talk\n"  # type: ignore[attr-defined]


def test_quiet_silences_talk_but_not_warnings() -> None:
    shown = output(quiet=True)
    shown.say("talk")
    shown.done("done")
    shown.warn("look out")
    assert shown.stderr.getvalue() == "warning: look out\n"  # type: ignore[attr-defined]


def test_status_is_a_plain_line_off_a_terminal_and_one_line_on_it() -> None:
    shown = output()
    shown.status("working")
    assert shown.stderr.getvalue() == "- working\n"  # type: ignore[attr-defined]
    on_terminal = Output(stdout=io.StringIO(), stderr=Terminal())
    on_terminal.status("working")
    on_terminal.say("done")
    assert "\n" not in on_terminal.stderr.getvalue().partition("done")[0]  # type: ignore[attr-defined]


def test_a_status_never_wraps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What wraps cannot be taken back, and would stay on the screen."""
    size = os.terminal_size((60, 24))
    monkeypatch.setattr(os, "get_terminal_size", lambda number: size)
    screen = Terminal()
    monkeypatch.setattr(screen, "fileno", lambda: 2)
    shown = Output(stdout=io.StringIO(), stderr=screen, color="auto")
    monkeypatch.setenv("NO_COLOR", "1")
    shown.status("x" * 59 + "\nmore")
    assert screen.getvalue() == "… " + "x" * 56 + "…"
    shown.status("short")
    assert screen.getvalue().endswith("… short")


def test_table_is_aligned_and_cannot_be_broken_by_a_cell() -> None:
    text = output().table(("a", "long name"), [("x", "1\n2"), ("yyy", "\x1b[31mred")])
    lines = text.splitlines()
    assert lines[0] == "a   | long name"
    assert lines[2] == "x   | 1\\n2"
    assert "\x1b" not in text


def test_error_shows_place_frame_and_fix() -> None:
    source = "const a = 1;\nconst b = ;\n"
    diagnostic = Diagnostic(
        "Unexpected ;", file="convex/a.ts", line=2, column=11, frame=code_frame(source, 2, 11)
    )
    error = failed("BundleFailed", [diagnostic], what="Cannot bundle:", hint="Correct line 2.")
    text = output().render_error(error)
    assert "convex/a.ts:2:11" in text
    assert "2 | const b = ;" in text
    assert text.splitlines()[-2].rstrip().endswith("^")
    assert "fix: Correct line 2." in text
    shown = output(json_mode=True)
    shown.error(error)
    body = json.loads(shown.stdout.getvalue())["error"]  # type: ignore[attr-defined]
    assert body["diagnostics"][0]["line"] == 2


def test_several_diagnostics_are_all_shown() -> None:
    problems = [Diagnostic("first", file="a.ts"), Diagnostic("second", file="b.ts")]
    text = output().render_error(failed("BundleFailed", problems, what="Cannot bundle:"))
    assert "2 problems" in text and "first" in text and "second" in text


def test_verbose_notices_need_verbose() -> None:
    for verbose in (False, True):
        shown = output(verbose=verbose)
        TerminalReporter(shown).report(Notice("detail", "verbose"))
        assert ("detail" in shown.stderr.getvalue()) is verbose  # type: ignore[attr-defined]


def test_a_question_nobody_can_answer_names_the_flag() -> None:
    with pytest.raises(CvxError) as refused:
        Prompts(allowed=False).confirm("Really?", default=False, flag="--yes")
    assert refused.value.code == "InputNeeded"
    assert refused.value.hint == "Pass --yes."


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{}", {}),
        ('{"a": [1, 2.5, "x", null, true]}', {"a": [1, 2.5, "x", None, True]}),
        ("{a: 'it\\'s', $b_1: .5,}", {"a": "it's", "$b_1": 0.5}),
        ("[1, /* two */ 2, // three\n 3,]", [1, 2, 3]),
        ("0x1F", 31.0),
        ("-1e3", -1000.0),
        ('"\\u00e9\\ud83d\\ude00"', "é😀"),
        ("+7", 7),
    ],
)
def test_json5(text: str, value: object) -> None:
    assert parse_json5(text, "ARGS") == value


@pytest.mark.parametrize(
    "text", ["", "{", "{a}", "[1 2]", "{a: 1} x", "'abc", "{a:: 1}", "nul", '"\\uZZ"', "[,]"]
)
def test_json5_refuses(text: str) -> None:
    with pytest.raises(CvxError) as refused:
        parse_json5(text, "ARGS")
    assert refused.value.code == "UsageError"
