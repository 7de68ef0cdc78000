"""`cvx codegen`: write `_generated/` with no backend and no network."""

from __future__ import annotations

from typing import Annotated

import typer

from cvx.cli.command import command
from cvx.cli.context import CommandContext
from cvx.errors import CvxError

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@command(
    app,
    "codegen",
    examples=["cvx codegen", "cvx codegen --dry-run    # exit 8 when it would change something"],
)
def codegen(
    context: CommandContext,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing; exit 8 when something is stale.")
    ] = False,
    init: Annotated[
        bool, typer.Option("--init", help="Also make the functions folder and its tsconfig.json.")
    ] = False,
) -> None:
    """Write _generated/ without a backend."""
    context.output.status("Generating types")
    from cvx.toolchain.dev import generate_types

    result = generate_types(context.project, context.reporter, dry_run=dry_run, init=init)
    stale = [*result.written, *result.removed]
    if dry_run and stale:
        raise CvxError(
            "CodegenStale",
            f"Generated files are stale: {', '.join(stale)}.",
            hint="Run `cvx codegen`.",
            details={"stale": stale},
        )
    changed = f"{len(result.written)} written, {len(result.removed)} removed" if stale else "up to date"
    context.output.done(f"Generated files: {changed}.")
    context.output.result(
        {
            "written": list(result.written),
            "removed": list(result.removed),
            "unchanged": list(result.unchanged),
        }
    )
