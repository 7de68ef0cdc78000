"""What the toolchain says while it works: events as data, and the Reporter that receives them.

Rule: nothing in `toolchain` prints. A long operation takes a `Reporter` and hands it `Event`s; the command
line renders them for a person or as JSON, the tests collect them.

`Diagnostic` is one complaint about the user's files with everything a renderer needs: place, text and code
frame. Several of them travel inside one `CvxError` (`failed`, `diagnostics_of`), so a person fixes them all
at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from cvx.errors import CvxError

__all__ = [
    "Diagnostic",
    "Event",
    "Finished",
    "FrameLine",
    "Notice",
    "Reporter",
    "SilentReporter",
    "Started",
    "Step",
    "code_frame",
    "diagnostics_of",
    "duration_text",
    "failed",
    "pace",
    "task",
    "watched_files_of",
]

Severity = Literal["error", "warning"]
Level = Literal["verbose", "info", "warning", "error"]

FRAME_LINES_BEFORE = 2
FRAME_LINES_AFTER = 1
FRAME_WIDTH_MAX = 200
"""Characters of one source line kept in a frame: a minified file must not flood the terminal."""


@dataclass(frozen=True)
class FrameLine:
    """One source line of a code frame. `mark` is a half-open range of 0-based columns to underline."""

    number: int
    text: str
    mark: tuple[int, int] | None = None


@dataclass(frozen=True)
class Diagnostic:
    """One complaint about a file. `line` and `column` count from 1; `file` is relative to the project."""

    text: str
    severity: Severity = "error"
    source: str = "cvx"
    code: str | None = None
    file: str | None = None
    line: int | None = None
    column: int | None = None
    frame: tuple[FrameLine, ...] = ()
    notes: tuple[str, ...] = ()
    hint: str | None = None

    @property
    def location(self) -> str:
        """`convex/messages.ts:3:5`, as far as it is known; empty for a complaint about no file."""
        parts = [self.file or "", *(str(n) for n in (self.line, self.column) if n is not None)]
        return ":".join(parts) if self.file else ""

    def to_json(self) -> dict[str, Any]:
        """The shape shown under `--json`; the frame is left out because the file is at hand."""
        return {
            "severity": self.severity,
            "source": self.source,
            "code": self.code,
            "message": self.text,
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "notes": list(self.notes),
            "hint": self.hint,
        }


@dataclass(frozen=True)
class Started:
    """A task began. `task` names it in later events; `total` is in `unit`s when known beforehand."""

    task: str
    title: str
    total: int | None = None
    unit: str = ""


@dataclass(frozen=True)
class Step:
    """A task moved on: `done` of `total` units, and what it is at."""

    task: str
    done: int | None = None
    total: int | None = None
    detail: str = ""


@dataclass(frozen=True)
class Finished:
    """A task ended after `seconds`. `title` says the outcome, not the intention."""

    task: str
    title: str
    seconds: float
    ok: bool = True


@dataclass(frozen=True)
class Notice:
    """Something worth a line that belongs to no task."""

    message: str
    level: Level = "info"
    hint: str | None = None


Event = Started | Step | Finished | Notice | Diagnostic


class Reporter(Protocol):
    """Receives events, from any thread, in the order they happen. Never raises."""

    def report(self, event: Event) -> None: ...


class SilentReporter:
    """Receives and forgets."""

    def report(self, event: Event) -> None:
        return None


@contextmanager
def task(reporter: Reporter, name: str, title: str, done: str) -> Iterator[None]:
    """Report `Started`, run the block, report `Finished` (not ok when the block raises)."""
    begin = time.monotonic()
    reporter.report(Started(name, title))
    try:
        yield
    except BaseException:
        reporter.report(Finished(name, title, time.monotonic() - begin, ok=False))
        raise
    reporter.report(Finished(name, done, time.monotonic() - begin))


def duration_text(seconds: float) -> str:
    """A time left, as people say it: "4 s", "2 min 5 s", "1 h 3 min"."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"


def pace(done: float, left: float, seconds: float) -> str:
    """`, 41,000/s, 4 s left` after `done` units in `seconds`; empty while nothing can be said."""
    if done <= 0 or seconds <= 0:
        return ""
    rate = done / seconds
    return f", {rate:,.0f}/s" + (f", {duration_text(left / rate)} left" if left > 0 else "")


def code_frame(source: str, line: int, column: int | None = None, length: int = 1) -> tuple[FrameLine, ...]:
    """The lines around `line` (from 1) with `length` characters from `column` (from 1) marked.

    A place outside the source gives an empty frame: the file may have changed since it was complained about.
    The line after the last one is where an unexpected end is.
    """
    lines = source.splitlines()
    if lines and line == len(lines) + 1:
        lines.append("")
    if not 1 <= line <= len(lines):
        return ()
    first = max(1, line - FRAME_LINES_BEFORE)
    last = min(len(lines), line + FRAME_LINES_AFTER)
    return tuple(
        FrameLine(
            number,
            lines[number - 1][:FRAME_WIDTH_MAX],
            _mark(lines[number - 1], column, length) if number == line else None,
        )
        for number in range(first, last + 1)
    )


def _mark(text: str, column: int | None, length: int) -> tuple[int, int] | None:
    if column is None or column > FRAME_WIDTH_MAX:
        return None
    start = min(column - 1, len(text))
    return start, min(max(start + 1, start + length), FRAME_WIDTH_MAX)


def failed(
    code: str,
    diagnostics: Sequence[Diagnostic],
    *,
    what: str,
    hint: str | None = None,
    watched_files: Iterable[Path] = (),
) -> CvxError:
    """One error that carries several diagnostics and the files whose change may cure them."""
    first = diagnostics[0]
    place = f"{first.location}: " if first.location else ""
    more = f" (and {len(diagnostics) - 1} more)" if len(diagnostics) > 1 else ""
    return CvxError(
        code,
        f"{what} {place}{first.text}{more}",
        hint=hint or first.hint,
        retry_when="files",
        details={"diagnostics": tuple(diagnostics), "watched_files": frozenset(watched_files)},
    )


def diagnostics_of(error: CvxError) -> tuple[Diagnostic, ...]:
    """The diagnostics inside an error made by `failed`; empty for any other error."""
    return tuple(error.details.get("diagnostics", ()))


def watched_files_of(error: CvxError) -> frozenset[Path]:
    """The files whose change may cure an error made by `failed`; empty when it named none."""
    return frozenset(error.details.get("watched_files", ()))
