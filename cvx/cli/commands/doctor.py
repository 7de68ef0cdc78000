"""`cvx doctor`: what is wrong around this project, and the one command that puts each thing right.

What a data folder is like only the backend can say; with `cvx backend` this is the command that asks it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cvx.cli.command import command
from cvx.cli.context import CommandContext
from cvx.cli.output import Style
from cvx.errors import CvxError

if TYPE_CHECKING:
    from cvx.toolchain.dev import DataFolder

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_MARKS: dict[str, tuple[str, Style]] = {
    "ok": ("✔", "green"),
    "warning": ("!", "yellow"),
    "failed": ("✘", "red"),
    "skipped": ("-", "dim"),
}


@command(app, "doctor", examples=["cvx doctor", "cvx doctor --project ../shop --json"])
def doctor(context: CommandContext) -> None:
    """Look for what is wrong here, each with its fix.

    Changes nothing and needs no network. Exit code 8 when something is wrong.
    """
    context.output.status("Looking")
    from cvx.toolchain.dev import examine

    findings = examine(context.folder, os.environ, _data_folder)
    lines = []
    for finding in findings:
        mark, style = _MARKS[finding.status]
        lines.append(f"{context.output.paint(mark, style)} {finding.check.ljust(11)} {finding.message}")
        if finding.fix and finding.status != "ok":
            lines.append(f"  {context.output.paint('fix:', 'green')} {finding.fix}")
    failed = [finding for finding in findings if finding.status == "failed"]
    context.output.clear_status()
    if failed and context.output.json_mode:
        raise CvxError(
            "ChecksDiffer", _summary(len(failed)), hint=failed[0].fix, data=_rows(findings), has_data=True
        )
    context.output.result({"findings": _rows(findings)}, "\n".join(lines))
    if failed:
        raise CvxError("ChecksDiffer", _summary(len(failed)), hint=failed[0].fix)
    context.output.done("Nothing is wrong.")


def _rows(findings: tuple[object, ...]) -> list[dict[str, object]]:
    return [
        {name: getattr(finding, name) for name in ("check", "status", "message", "fix")}
        for finding in findings
    ]


def _summary(count: int) -> str:
    return "One thing is wrong." if count == 1 else f"{count} things are wrong."


def _data_folder(folder: Path) -> DataFolder:
    from cvx.backend.store import examine_folder
    from cvx.toolchain.dev import DataFolder

    report = examine_folder(folder)
    latest = None if report.latest_ts is None else report.latest_ts / 1e9
    return DataFolder(report.format, report.format_max, latest, report.held_by)
