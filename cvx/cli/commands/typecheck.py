"""`cvx typecheck`: the functions' type errors, with code frames."""

from __future__ import annotations

import typer

from cvx.cli.command import command
from cvx.cli.context import CommandContext

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@command(app, "typecheck", examples=["cvx typecheck", "cvx typecheck --json"])
def typecheck(context: CommandContext) -> None:
    """Check the functions' types."""
    context.output.status("Checking types")
    from cvx.toolchain.build import typecheck as check
    from cvx.toolchain.dev import check_types_passed

    result = check(context.project)
    check_types_passed(result, "enable")
    context.output.done(f"No type errors ({result.compiler}, {result.seconds:.2f} s).")
    context.output.result({"errors": 0, "compiler": result.compiler, "seconds": round(result.seconds, 3)})
