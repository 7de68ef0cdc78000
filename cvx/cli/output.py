"""Everything that reaches the terminal.

Data goes to standard output, talk goes to standard error. In JSON mode standard output carries exactly one
envelope (`{"v":1,"ok":…}`), or one a line for streams. Colour and status lines appear only on a terminal that
wants them.

Rule: no other file of cvx prints.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TextIO

from cvx.errors import CvxError
from cvx.toolchain.progress import Diagnostic, Event, Finished, Notice, Started, Step, diagnostics_of

ENVELOPE_VERSION = 1
"""The `v` of every JSON envelope; docs/json-schema.json describes version 1."""

ColorChoice = Literal["auto", "always", "never"]
Style = Literal["red", "green", "yellow", "cyan", "bold", "dim"]

_CODES: dict[str, str] = {"red": "31", "green": "32", "yellow": "33", "cyan": "36", "bold": "1", "dim": "2"}
_COLUMNS_UNKNOWN = 1_000
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def encode_json(value: Any) -> str:
    """One line of JSON. msgspec is imported on first use: help and version never need it."""
    import msgspec

    return msgspec.json.encode(value).decode()


def pretty_json(value: Any) -> str:
    """JSON for people: two spaces, as the official CLI prints values."""
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def wants_color(choice: ColorChoice, stream: TextIO, env: dict[str, str] | None = None) -> bool:
    """`--color` first, then NO_COLOR, FORCE_COLOR and TERM=dumb, then whether it is a terminal."""
    environ = os.environ if env is None else env
    if choice != "auto":
        return choice == "always"
    if environ.get("NO_COLOR") or environ.get("TERM") == "dumb":
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return stream.isatty()


@dataclass
class Output:
    """Where a command's answer and talk go. Made once a run by `context.py`."""

    json_mode: bool = False
    quiet: bool = False
    verbose: bool = False
    color: ColorChoice = "auto"
    stdout: TextIO = field(default_factory=lambda: sys.stdout)
    stderr: TextIO = field(default_factory=lambda: sys.stderr)
    _status: str = ""
    sign_shown: ClassVar[bool] = False
    """Does the line that `cvx/__main__.py` showed at once still stand there?"""

    # ---- data: standard output -------------------------------------------------------------------

    def result(self, data: Any, text: str | Callable[[], str] | None = None) -> None:
        """The one answer of a command: an envelope in JSON mode, else `text` (nothing when None)."""
        if self.json_mode:
            self._write(self.stdout, encode_json({"v": ENVELOPE_VERSION, "ok": True, "data": data}) + "\n")
            return
        shown = text() if callable(text) else text
        self._clear_status()
        if shown is not None:
            self._write(self.stdout, shown if shown.endswith("\n") or not shown else shown + "\n")

    def item(self, data: Any, text: str | None = None) -> None:
        """One element of a stream: an envelope a line in JSON mode, else a line of text."""
        self.result(data, text)

    def envelope(self, envelope: dict[str, Any]) -> None:
        """A ready envelope: a failure in the middle of a stream."""
        self._write(self.stdout, encode_json(envelope) + "\n")

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
        """A table: by Rich on a terminal; elsewhere plain aligned columns, `a | b`, with a rule under the heading."""
        body = [[_CONTROL.sub(" ", str(cell)).replace("\n", "\\n") for cell in row] for row in rows]
        if self.stdout.isatty() and os.environ.get("TERM") != "dumb":
            from cvx.cli.rich_text import table_text

            return table_text(columns, body, color=wants_color(self.color, self.stdout))
        widths = [max([len(name), *(len(row[i]) for row in body)]) for i, name in enumerate(columns)]
        lines = [" | ".join(name.ljust(width) for name, width in zip(columns, widths, strict=True)).rstrip()]
        lines.append("-|-".join("-" * width for width in widths))
        for row in body:
            lines.append(
                " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            )
        return "\n".join(lines)

    def tree(self, title: str, groups: Iterable[tuple[str, Sequence[tuple[str, str, str]]]]) -> str:
        """Groups of marked entries (`+`, `-` or `~`, name, detail): by Rich on a terminal, indented lines elsewhere."""
        if self.stderr.isatty() and os.environ.get("TERM") != "dumb":
            from cvx.cli.rich_text import tree_text

            return tree_text(title, groups, color=wants_color(self.color, self.stderr))
        lines = [title]
        for name, entries in groups:
            lines.append(f"  {name}")
            lines += [f"    {mark} {entry}  {detail}".rstrip() for mark, entry, detail in entries]
        return "\n".join(lines)

    def stream(self, piece: bytes) -> None:
        """Data as it comes: a file, or lines that are complete already."""
        self._clear_status()
        try:
            self.stdout.flush()
            self.stdout.buffer.write(piece)
            self.stdout.buffer.flush()
        except BrokenPipeError:
            raise ReaderGone from None
        except OSError as error:
            raise cannot_print(error) from error

    # ---- talk: standard error --------------------------------------------------------------------

    def say(self, text: str, *, style: Style | None = None) -> None:
        """A line of talk; `--quiet` silences it."""
        if not self.quiet:
            self._line(self.paint(text, style))

    def done(self, text: str) -> None:
        """A line that says something was achieved."""
        if not self.quiet:
            self._line(f"{self.paint('✔', 'green')} {text}")

    def warn(self, text: str) -> None:
        """A line the user should not miss; `--quiet` does not silence it."""
        self._line(f"{self.paint('warning:', 'yellow')} {text}")

    def detail(self, text: str) -> None:
        """A line only `--verbose` shows."""
        if self.verbose:
            self._line(self.paint(text, "dim"))

    def raw(self, text: str) -> None:
        """Text that is already laid out (help, a code frame, another program's output)."""
        self._line(text.rstrip("\n"))

    def help(self, text: str) -> None:
        """Help was asked for, so it is data."""
        self._clear_status()
        self._write(self.stdout, text if text.endswith("\n") else text + "\n")

    def status(self, text: str) -> None:
        """What is going on now: one line that the next one replaces on a terminal, a plain line elsewhere."""
        if self.quiet or self.json_mode:
            return
        if not self.live:
            self._line(f"- {text}")
            return
        self._clear_status()
        self._status = text
        line = f"… {text.splitlines()[0] if text else ''}"
        columns = self._columns()  # A line that wraps could not be taken back.
        line = line if len(line) < columns else f"{line[: columns - 2]}…"
        self._write(self.stderr, self.paint(line, "dim"))

    def clear_status(self) -> None:
        """Remove the status line, if one is shown."""
        self._clear_status()

    # ---- errors ----------------------------------------------------------------------------------

    def error(self, error: CvxError) -> None:
        """What, where, why, and the one thing that fixes it."""
        if self.json_mode:
            self._write(self.stdout, encode_json(error_envelope(error)) + "\n")
        else:
            self._line(self.render_error(error))

    def render_error(self, error: CvxError) -> str:
        """The text form of an error; the development loop shows the same without ending."""
        diagnostics = diagnostics_of(error)
        heading = self.paint(f"error[{error.code}]:", "red")
        if len(diagnostics) > 1:
            complaints = sum(1 for d in diagnostics if d.severity == "error")
            lines = [f"{heading} {complaints} problem{'s' if complaints != 1 else ''}"]
            lines += [self.render_diagnostic(d) for d in diagnostics]
        else:
            lines = [f"{heading} {error.message}"]
            for diagnostic in diagnostics:
                if diagnostic.text not in error.message:
                    lines.append(self.render_diagnostic(diagnostic))
                    continue
                lines += self._frame(diagnostic) + [f"  note: {note}" for note in diagnostic.notes]
        if error.hint:
            lines.append(f"  {self.paint('fix:', 'green')} {error.hint}")
        return "\n".join(lines)

    def render_diagnostic(self, diagnostic: Diagnostic) -> str:
        """One complaint: place, text, code frame, notes, fix."""
        style: Style = "red" if diagnostic.severity == "error" else "yellow"
        code = f"[{diagnostic.code}]" if diagnostic.code else ""
        lines = [f"{self.paint(diagnostic.severity + code + ':', style)} {diagnostic.text}"]
        if diagnostic.location:
            lines.append(f"  {self.paint('-->', 'cyan')} {diagnostic.location}")
        lines += self._frame(diagnostic)
        lines += [f"  note: {note}" for note in diagnostic.notes]
        if diagnostic.hint:
            lines.append(f"  {self.paint('fix:', 'green')} {diagnostic.hint}")
        return "\n".join(lines)

    def _frame(self, diagnostic: Diagnostic) -> list[str]:
        if not diagnostic.frame:
            return []
        width = len(str(diagnostic.frame[-1].number))
        lines = []
        for line in diagnostic.frame:
            lines.append(f"  {self.paint(str(line.number).rjust(width) + ' |', 'dim')} {line.text}")
            if line.mark is not None:
                start, end = line.mark
                indent = "".join("\t" if ch == "\t" else " " for ch in line.text[:start]).ljust(start)
                carets = self.paint("^" * max(1, end - start), "red")
                lines.append(f"  {' ' * width} {self.paint('|', 'dim')} {indent}{carets}")
        return lines

    # ---- plumbing --------------------------------------------------------------------------------

    @property
    def live(self) -> bool:
        """May lines be rewritten in place?"""
        return self.stderr.isatty() and os.environ.get("TERM") != "dumb" and self.color != "never"

    def paint(self, text: str, style: Style | None) -> str:
        """`text` in a colour, where colour is wanted."""
        if style is None or not wants_color(self.color, self.stderr):
            return text
        return f"\x1b[{_CODES[style]}m{text}\x1b[0m"

    def clock(self) -> str:
        """The local time of day, as the success line shows it."""
        return time.strftime("%H:%M:%S")

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self.stderr.fileno()).columns or _COLUMNS_UNKNOWN
        except (OSError, ValueError):
            return _COLUMNS_UNKNOWN

    def _line(self, text: str) -> None:
        self._clear_status()
        self._write(self.stderr, text + "\n")

    def _clear_status(self) -> None:
        if self._status or Output.sign_shown:
            self._status, Output.sign_shown = "", False
            self._write(self.stderr, "\r\x1b[2K")

    def _write(self, stream: TextIO, text: str) -> None:
        try:
            stream.write(text)
            stream.flush()
        except UnicodeEncodeError:
            encoding = stream.encoding or "ascii"
            stream.write(text.encode(encoding, "replace").decode(encoding))
            stream.flush()
        except BrokenPipeError:
            raise ReaderGone from None
        except OSError as error:
            raise cannot_print(error) from error


class ReaderGone(Exception):
    """Who read our output has seen enough. Not an OSError: Typer would end the process at one of those."""


def cannot_print(error: OSError) -> CvxError:
    """Standard output or error has no room: a full disk, say."""
    return CvxError(
        "CannotPrint",
        f"What was to be printed cannot be written: {error.strerror}.",
        hint="Make room, or send it elsewhere.",
    )


class TerminalReporter:
    """Shows the toolchain's progress as talk; diagnostics with their code frames."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._titles: dict[str, str] = {}
        self._began_at: dict[str, float] = {}
        self._shown_at = 0.0

    def report(self, event: Event) -> None:
        """One event, one line at most; steps are throttled to ten a second on a terminal, else to one, and to
        ever fewer the longer it takes: a log wants to know, not to be filled."""
        output = self._output
        if isinstance(event, Started):
            self._titles[event.task] = event.title
            self._began_at[event.task] = time.monotonic()
            self._shown_at = 0.0  # The first step of each task shows, however soon it comes.
            output.status(event.title)
        elif isinstance(event, Step):
            self._step(event)
        elif isinstance(event, Finished):
            if event.ok:
                output.detail(f"{event.title} ({event.seconds * 1000:.0f} ms)")
            output.clear_status()
        elif isinstance(event, Diagnostic):
            output.raw(output.render_diagnostic(event))
        elif isinstance(event, Notice):
            self._notice(event)

    def _notice(self, event: Notice) -> None:
        text = event.message if event.hint is None else f"{event.message} ({event.hint})"
        if event.level == "verbose":
            self._output.detail(text)
        elif event.level == "warning":
            self._output.warn(text)
        elif event.level == "error":
            self._output.raw(f"{self._output.paint('error:', 'red')} {text}")
        else:
            self._output.say(text)

    def _step(self, event: Step) -> None:
        now = time.monotonic()
        pause = 0.1 if self._output.live else max(1.0, (now - self._began_at.get(event.task, now)) / 20)
        if now - self._shown_at < pause:
            return
        title = self._titles.get(event.task, event.task)
        if event.done is None and event.detail in ("", title):
            return  # Nothing that is not there already.
        self._shown_at = now
        count = (
            "" if event.done is None else f" {event.done:,}" + (f"/{event.total:,}" if event.total else "")
        )
        self._output.status(f"{title}{count} {event.detail}".rstrip())


def error_envelope(error: CvxError) -> dict[str, Any]:
    """`{"v":1,"ok":false,"error":{code,message,hint[,diagnostics][,logLines][,data]}}`."""
    body: dict[str, Any] = {"code": error.code, "message": error.message, "hint": error.hint}
    diagnostics = diagnostics_of(error)
    if diagnostics:
        body["diagnostics"] = [diagnostic.to_json() for diagnostic in diagnostics]
    if "log_lines" in error.details:
        body["logLines"] = error.details["log_lines"]
    if error.has_data:
        body["data"] = error.data
    return {"v": ENVELOPE_VERSION, "ok": False, "error": body}
