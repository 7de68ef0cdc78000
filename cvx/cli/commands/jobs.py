"""`cvx jobs`: functions that are scheduled to run."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

import typer

from cvx.cli.command import command, group
from cvx.cli.context import CommandContext
from cvx.errors import CvxError

_RISK = "cancel-jobs"

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
        "cvx jobs cancel --all --function posts:publish --dry-run",
        f"cvx jobs cancel --all --prod --yes={_RISK}",
    ],
)
def cancel_jobs(
    context: CommandContext,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID...]")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Cancel every job that has not finished.")] = False,
    function: FunctionOption = None,
    component: ComponentOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; cancel nothing.")] = False,
    yes: Annotated[
        str | None,
        typer.Option(
            "--yes", metavar="[RISK]", help=f"Do not ask; on production, --yes={_RISK}.", show_default=False
        ),
    ] = None,
) -> None:
    """Cancel jobs: those that wait never run; a running action goes on, but what it schedules does not."""
    wanted = list(dict.fromkeys(ids or []))
    if bool(wanted) == all_ or (function is not None and not all_):
        raise CvxError(
            "UsageError",
            "Say which jobs to cancel: either their ids, or --all (with --function: all of that function).",
            hint="`cvx jobs list` shows the ids.",
        )

    async def go(client: Any) -> dict[str, Any]:
        from cvx.toolchain.client import schedules

        if dry_run or context.selection.kind == "prod":
            unfinished = await schedules.unfinished_jobs(client, function=function, component=component)
            present = [id for id in schedules.job_ids(wanted) if id in unfinished] if wanted else unfinished
            if dry_run:
                return {"canceled": present if wanted else len(present), "finished": _rest(wanted, present)}
            if present:
                question = f"Cancel {_jobs(len(present), function)} of {context.selection.name}?"
                await asyncio.to_thread(
                    context.agree_on_production,
                    question, risk=_RISK, yes=yes, outcome="Nothing was canceled.",
                )  # fmt: skip
        if all_:
            count = await schedules.cancel_all_jobs(client, function=function, component=component)
            return {"canceled": count, "finished": []}
        done = [id for id in wanted if await schedules.cancel_job(client, id, component=component)]
        return {"canceled": done, "finished": _rest(wanted, done)}

    answer = context.with_client(go)
    for id in answer["finished"]:
        context.output.say(f"{id} had finished already.")
    canceled = answer["canceled"]
    count = len(canceled) if isinstance(canceled, list) else canceled
    if count == 0:
        context.output.done("Nothing to do: none of these is waiting." if wanted else "Nothing is scheduled.")
    else:
        verb = "Would cancel" if dry_run else "Canceled"
        one = canceled[0] if isinstance(canceled, list) and count == 1 else _jobs(count, function)
        context.output.done(f"{verb} {one}.")
    context.output.result({**answer, "dryRun": dry_run})


def _rest(wanted: list[str], present: list[str]) -> list[str]:
    return [id for id in wanted if id not in present]


def _jobs(count: int | None, function: str | None) -> str:
    """`3 jobs of posts:publish`; a deployment need not say how many."""
    many = "all jobs" if count is None else f"{count:,} job{'s' if count != 1 else ''}"
    return many if function is None else f"{many} of {function}"


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
