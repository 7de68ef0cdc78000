"""`cvx crons`: functions that run again and again, as crons.ts declares them."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from cvx.cli.command import command, group
from cvx.cli.context import CommandContext

app = group("See crons and how they run.")


@command(app, "list", talks=True, examples=["cvx crons list", "cvx crons list --prod --json"])
def list_crons(
    context: CommandContext,
    component: Annotated[
        str | None, typer.Option("--component", metavar="PATH", help="Of this component, not of the app.")
    ] = None,
) -> None:
    """List the crons with their next and their last run."""

    async def go(client: Any) -> list[dict[str, Any]]:
        from cvx.toolchain.client import schedules

        return await schedules.crons(client, component=component)

    crons = context.with_client(go)
    if not crons:
        context.output.say("There are no crons. Declare them in convex/crons.ts.")
    context.output.result({"crons": crons}, lambda: _table(context, crons) if crons else "")


def _table(context: CommandContext, crons: list[dict[str, Any]]) -> str:
    from cvx.toolchain.client import schedules

    now_ms = time.time() * 1000.0
    rows = []
    for cron in crons:
        coming = "" if cron["nextMs"] is None else schedules.moment(cron["nextMs"], now_ms)
        if cron["state"] == "inProgress":
            coming = "running"
        rows.append((cron["name"], cron["when"], cron["function"], coming, _last(cron["lastRun"], now_ms)))
    return context.output.table(("name", "schedule", "function", "next run", "last run"), rows)


def _last(run: dict[str, Any] | None, now_ms: float) -> str:
    from cvx.toolchain.client import schedules

    if run is None:
        return "never"
    if run["state"] == "skipped":
        return f"skipped {run['skipped']}, {schedules.moment(run['atMs'], now_ms)}"
    first_line = (run["error"] or "").partition("\n")[0][:60]
    return f"{run['state']}, {schedules.moment(run['atMs'], now_ms)}{': ' + first_line if first_line else ''}"
