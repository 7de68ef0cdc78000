"""`cvx jobs`: functions that are scheduled to run."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from cvx.cli.command import command, group
from cvx.cli.context import CommandContext
from cvx.errors import CvxError

app = group("See and cancel scheduled functions.")

FunctionOption = Annotated[
    str | None,
    typer.Option("--function", metavar="PATH", help="Only of this function, such as posts:publish."),
]

ComponentOption = Annotated[
    str | None, typer.Option("--component", metavar="PATH", help="Of this component, not of the app.")
]


@command(app, "list", talks=True, examples=["cvx jobs list", "cvx jobs list --function posts:publish --json"])
def list_jobs(
    context: CommandContext,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="Jobs at most.", min=1)] = 100,
    function: FunctionOption = None,
    component: ComponentOption = None,
) -> None:
    """List the jobs that have not finished, the one due first before the others."""

    async def go(client: Any) -> list[dict[str, Any]]:
        from cvx.toolchain.client import schedules

        return await schedules.scheduled_jobs(client, limit + 1, function=function, component=component)

    jobs = context.with_client(go)
    more, jobs = len(jobs) > limit, jobs[:limit]
    if more:
        context.output.say(f"There are more jobs than {limit}; --limit shows more of them.")
    if not jobs:
        context.output.say("Nothing is scheduled. What has run: cvx data show _scheduled_functions")
    context.output.result({"jobs": jobs, "more": more}, lambda: _table(context, jobs) if jobs else "")


@command(
    app,
    "cancel",
    talks=True,
    examples=[
        "cvx jobs cancel kc2ah8mk1xtg35g7zyexyc96e96yr74f",
        "cvx jobs cancel --all --function posts:publish",
    ],
)
def cancel_jobs(
    context: CommandContext,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID...]")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Cancel every job that has not finished.")] = False,
    function: FunctionOption = None,
    component: ComponentOption = None,
) -> None:
    """Cancel jobs: those that wait never run; a running action goes on, but what it schedules does not."""
    wanted = list(ids or [])
    if bool(wanted) == all_ or (function is not None and not all_):
        raise CvxError(
            "UsageError",
            "Say which jobs to cancel: either their ids, or --all (with --function: all of that function).",
            hint="`cvx jobs list` shows the ids.",
        )
    if all_:
        _cancel_all(context, function, component)
        return

    async def go(client: Any) -> dict[str, bool]:
        from cvx.toolchain.client import schedules

        return {id: await schedules.cancel_job(client, id, component=component) for id in wanted}

    canceled = context.with_client(go)
    done = [id for id, was_open in canceled.items() if was_open]
    over = [id for id, was_open in canceled.items() if not was_open]
    for id in over:
        context.output.say(f"{id} had finished already.")
    if done:
        context.output.done(f"Canceled {done[0] if len(done) == 1 else f'{len(done)} jobs'}.")
    context.output.result({"canceled": done, "finished": over})


def _cancel_all(context: CommandContext, function: str | None, component: str | None) -> None:
    async def go(client: Any) -> int | None:
        from cvx.toolchain.client import schedules

        return await schedules.cancel_all_jobs(client, function=function, component=component)

    count = context.with_client(go)
    what = "all jobs" if function is None else f"all jobs of {function}"
    context.output.done(f"Canceled {what}{'' if count is None else f' ({count})'}.")
    context.output.result({"canceled": count})


def _table(context: CommandContext, jobs: list[dict[str, Any]]) -> str:
    from cvx.toolchain.client import schedules

    now_ms = time.time() * 1000.0
    rows = [
        (
            job["id"],
            job["function"],
            "running" if job["state"] == "inProgress" else _waiting(job),
            "" if job["dueMs"] is None else schedules.moment(job["dueMs"], now_ms),
        )
        for job in jobs
    ]
    return context.output.table(("id", "function", "state", "due"), rows)


def _waiting(job: dict[str, Any]) -> str:
    return f"waits, tried {job['attempts']}×" if job["attempts"] else "waits"
