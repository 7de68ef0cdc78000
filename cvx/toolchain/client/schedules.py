"""Scheduled functions and crons as a deployment tells of them, and as people read them.

Source: reference/runtime-and-database.md §6.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import msgspec

from cvx.errors import CvxError
from cvx.toolchain.client.http import DeploymentClient
from cvx.values import DocumentId, from_json

_PAGE_ROWS = 200
_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")


class _Canceled(msgspec.Struct):
    canceled: int | None = None


async def scheduled_jobs(
    client: DeploymentClient, count: int, *, function: str | None = None, component: str | None = None
) -> list[dict[str, Any]]:
    """Up to `count` jobs that have not finished, the one due first before the others: id, function, state, dueMs,
    attempts."""
    found: list[dict[str, Any]] = []
    id = await component_id(client, component)
    cursor: str | None = None
    while len(found) < count:
        options = {"cursor": cursor, "numItems": min(_PAGE_ROWS, count - len(found))}
        args: dict[str, Any] = {"paginationOpts": options, "componentId": id}
        if function is not None:
            args["udfPath"] = function
        page = await client.system_query(
            "_system/frontend/paginatedScheduledJobs:default", args, dict[str, Any]
        )
        found += [_job(from_json(row)) for row in page["page"]]
        if page["isDone"]:
            break
        cursor = page["continueCursor"]
    return found


def _job(row: Any) -> dict[str, Any]:
    attempts = row.get("attempts") or {}
    due = row.get("nextTs")
    return {
        "id": row["_id"],
        "function": shown_path(row["udfPath"]),
        "state": row["state"]["type"],
        "dueMs": None if due is None else due / 1e6,
        "attempts": sum(int(attempts.get(name, 0)) for name in ("systemErrors", "occErrors")),
    }


async def unfinished_jobs(
    client: DeploymentClient, *, function: str | None = None, component: str | None = None
) -> list[str]:
    """The ids of all jobs that have not finished, as `cancel_all_jobs` would meet them now."""
    jobs = await scheduled_jobs(client, sys.maxsize, function=function, component=component)
    return [job["id"] for job in jobs]


def job_ids(texts: Sequence[str]) -> list[str]:
    """The same, once they are all ids. Raises what the deployment would: CvxError "InvalidId"."""
    for text in texts:
        DocumentId.parse(text)
    return list(texts)


async def cancel_job(client: DeploymentClient, id: str, *, component: str | None = None) -> bool:
    """Cancel one job; whether it had not finished. Raises the deployment's refusal of an id that is none."""
    body = {"id": id, "componentId": await component_id(client, component)}
    answer = msgspec.json.decode(await client.post("/api/cancel_job", body) or b"{}", type=_Canceled)
    return answer.canceled != 0


async def cancel_all_jobs(
    client: DeploymentClient, *, function: str | None = None, component: str | None = None
) -> int | None:
    """Cancel every job, or every one of a function; how many, where the deployment says so."""
    body = {"componentId": await component_id(client, component)}
    if function is not None:
        body["udfPath"] = function
    answer = msgspec.json.decode(await client.post("/api/cancel_all_jobs", body) or b"{}", type=_Canceled)
    return answer.canceled


async def crons(client: DeploymentClient, *, component: str | None = None) -> list[dict[str, Any]]:
    """All crons by name: name, schedule (as data and as text), function, nextMs, state, lastRun."""
    args = {"componentId": await component_id(client, component)}
    rows = await client.system_query("_system/frontend/listCronJobs:default", args, list[Any])
    return [_cron(from_json(row)) for row in rows]


async def component_id(client: DeploymentClient, path: str | None) -> str | None:
    """The id of the component at a path; None for the app. Raises CvxError "ComponentNotFound"."""
    if not path:
        return None
    rows = await client.system_query("_system/frontend/components:list", {}, list[dict[str, Any]])
    for row in rows:
        if row.get("path") == path:
            return str(row["id"])
    paths = [str(row["path"]) for row in rows if row.get("path")]
    raise CvxError(
        "ComponentNotFound", f"There is no component {path!r}.", kind="not_found",
        hint=f"There are: {', '.join(paths) or 'none'}.",
    )  # fmt: skip


def _cron(row: Any) -> dict[str, Any]:
    spec, run = row["cronSpec"], row.get("nextRun") or {}
    schedule = spec["cronSchedule"]
    next_ts = run.get("nextTs")
    return {
        "name": row["name"],
        "schedule": schedule,
        "when": describe(schedule),
        "function": shown_path(spec["udfPath"]),
        "state": (run.get("state") or {}).get("type"),
        "nextMs": None if next_ts is None else next_ts / 1e6,
        "lastRun": _run(row.get("lastRun")),
    }


def _run(row: Any) -> dict[str, Any] | None:
    if row is None:
        return None
    status = row["status"]
    kind = {"success": "success", "err": "failed", "canceled": "skipped"}.get(status["type"], status["type"])
    return {
        "atMs": row["ts"] / 1e6,
        "state": kind,
        "error": status.get("error"),
        "skipped": status.get("num_canceled"),
        "seconds": row.get("executionTime"),
    }


def describe(schedule: Mapping[str, Any]) -> str:
    """A schedule as people read it: `every 5 min`, `daily at 04:05 UTC`."""
    kind = schedule["type"]
    if kind == "interval":
        seconds = int(schedule["seconds"])
        for unit, length in (("h", 3600), ("min", 60)):
            if seconds % length == 0:
                return f"every {seconds // length} {unit}"
        return f"every {seconds} s"
    if kind == "cron":
        return f"{schedule['cronExpr']} (UTC)"
    minute = int(schedule.get("minuteUTC") or 0)
    if kind == "hourly":
        return f"hourly at :{minute:02}"
    at = f"{int(schedule['hourUTC']):02}:{minute:02} UTC"
    if kind == "daily":
        return f"daily at {at}"
    if kind == "weekly":
        return f"weekly on {_DAYS[int(schedule['dayOfWeek'])]} at {at}"
    return f"monthly on day {int(schedule['day'])} at {at}"


def shown_path(path: str) -> str:
    """`messages.js:send` → `messages:send`."""
    module, _, export = path.rpartition(":")
    return f"{module.removesuffix('.js')}:{export}"


def moment(ms: float, now_ms: float) -> str:
    """A time, and how far it is from now: `2026-11-21 04:05:00Z (in 3 h)`."""
    text = datetime.fromtimestamp(ms / 1000.0, timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
    return f"{text} ({_distance((ms - now_ms) / 1000.0)})"


def _distance(seconds: float) -> str:
    far = abs(seconds)
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if far >= 2 * length:
            text = f"{int(far // length)} {unit}"
            break
    else:
        text = f"{int(far)} s"
    return f"in {text}" if seconds >= 0 else f"{text} ago"
