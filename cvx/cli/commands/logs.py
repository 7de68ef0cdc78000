"""`cvx logs`: what functions logged, as it happens."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from cvx.cli.command import command
from cvx.cli.context import CommandContext
from cvx.cli.following import while_read
from cvx.errors import CvxError

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@command(
    app,
    "logs",
    talks=True,
    examples=["cvx logs", "cvx logs --history 20 --no-follow", "cvx logs --success --json"],
)
def logs(
    context: CommandContext,
    history: Annotated[
        str | None,
        typer.Option("--history", metavar="[N]", help="Begin with the last N calls (alone: all kept)."),
    ] = None,
    success: Annotated[bool, typer.Option("--success", help="Also show calls that logged nothing.")] = False,
    no_follow: Annotated[bool, typer.Option("--no-follow", help="End after the history.")] = False,
) -> None:
    """Follow the functions' logs, through restarts of the deployment."""
    if history is not None and history != "all" and not history.isdigit():
        raise CvxError("UsageError", f"--history takes a number, not {history!r}.", hint="--history 20")
    count = None if history == "all" or (history is None and no_follow) else int(history or 0)
    asyncio.run(while_read(_follow(context, count, success, follow=not no_follow)))


async def _follow(context: CommandContext, history: int | None, success: bool, *, follow: bool) -> None:
    import msgspec

    from cvx.toolchain.client import follow_logs, render_log

    async with context.client() as client:
        if follow:
            context.output.say(f"▌ Showing logs of deployment:\n▌ └─ {client.deployment.url}")
        seen = False
        async for call in follow_logs(client, history=history, follow=follow):
            seen = True
            lines = render_log(call, success=success)
            if lines or success:
                context.output.item(msgspec.Raw(call.raw), "\n".join(lines))
        if not seen:
            context.output.say("No function has run since the deployment started.")
