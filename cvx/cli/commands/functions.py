"""`cvx functions`: the specification of the deployed functions, as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cvx.cli.command import command
from cvx.cli.context import CommandContext
from cvx.cli.output import pretty_json

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@command(app, "functions", talks=True, examples=["cvx functions", "cvx functions --file spec.json"])
def functions(
    context: CommandContext,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="F", help="Write it to this file instead.")
    ] = None,
) -> None:
    """Print the specification of the deployed functions."""

    async def go(client: Any) -> dict[str, Any]:
        spec = await client.system_query("_system/cli/modules:apiSpec", {}, list[dict[str, Any]])
        url = await client.system_query("_system/cli/convexUrl:cloudUrl", {}, str)
        return {"url": url, "functions": spec}

    spec = context.with_client(go)
    if file is None:
        context.output.result(spec, lambda: pretty_json(spec))
        return
    file.write_text(pretty_json(spec) + "\n", encoding="utf-8")
    context.output.done(f"Wrote {len(spec['functions'])} functions to {file}.")
    context.output.result({"file": str(file), "functions": len(spec["functions"])})
