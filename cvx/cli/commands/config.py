"""`cvx config`: the settings in force and where each comes from."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from cvx.cli.command import command, group
from cvx.cli.context import CommandContext

app = group("Show the settings in force and where they come from.")


@command(
    app,
    "show",
    talks=True,
    examples=["cvx config show", "cvx config show --origin", "cvx config show --json"],
)
def show(
    context: CommandContext,
    origin: Annotated[
        bool, typer.Option("--origin", help="Also show where each value stands, overridden ones too.")
    ] = False,
) -> None:
    """Show the settings that choose the deployment; secrets are hidden."""
    from cvx.toolchain.project import settings_with_origin

    settings = settings_with_origin(context.project_or_bare(), context.flags, os.environ)
    shown = settings if origin else [s for s in settings if not s.overridden]
    rows = [
        (s.name, "(hidden)" if s.secret else s.value, s.origin, "" if s.overridden else "yes") for s in shown
    ]
    columns = ("name", "value", "origin", "in force")
    if not origin:
        rows, columns = [row[:2] for row in rows], columns[:2]  # type: ignore[misc, assignment]
    context.output.result(
        {"settings": [s.to_json() for s in shown]}, lambda: context.output.table(columns, rows)
    )
