"""`_system/frontend/…` functions about scheduled functions and crons: what dashboards and `cvx jobs`, `cvx crons` ask.

Times are int64 nanoseconds. Each is a query like any other, so a subscriber sees jobs come and go.

Source: reference/runtime-and-database.md §6.2–§6.4.
"""

from __future__ import annotations

from typing import Any

import msgspec

from cvx.backend.functions.system_cli import page_options
from cvx.backend.functions.system_functions import SystemContext, system_query
from cvx.backend.model import components, crons
from cvx.backend.model.crons import Cron, NextRun
from cvx.backend.model.scheduled_jobs import JOBS
from cvx.errors import CvxError
from cvx.protocol.push import Schedule
from cvx.values import FunctionPath, Value, decode

_ANY = {"type": "any"}
_STRING = {"type": "string"}
_ROWS_READ_MAX = 8_000
_BYTES_READ_MAX = 8 * 1024 * 1024


@system_query(
    "_system/frontend/paginatedScheduledJobs",
    {"paginationOpts": _ANY, "udfPath?": _ANY, "componentId?": _ANY},
)
def paginated_scheduled_jobs(context: SystemContext, args: dict[str, Any]) -> Value:
    """Jobs that have not finished, the one due first before the others; of one function if `udfPath` is given."""
    cursor, end_cursor, page_size = page_options(args["paginationOpts"])
    conditions = [{"type": "Eq", "fieldPath": "component", "value": _component(context, args)}]
    index, path = "by_component", args.get("udfPath")
    if isinstance(path, str):
        index = "by_path"
        conditions.append({"type": "Eq", "fieldPath": "path", "value": FunctionPath.parse(path).canonical})
    query = {
        "source": {"type": "IndexRange", "indexName": f"{JOBS}.{index}", "order": "asc", "range": conditions},
        "operators": [],
    }
    page = context.tx.paginate(
        query, cursor, end_cursor, page_size, _ROWS_READ_MAX, _BYTES_READ_MAX, privileged=True
    )
    rows = [decode(raw) for raw in page.documents]
    return {
        "page": [_job(row) for row in rows if isinstance(row, dict)],
        "isDone": page.is_done,
        "continueCursor": page.continue_cursor,
        "splitCursor": page.split_cursor,
        "pageStatus": page.page_status,
    }


def _component(context: SystemContext, args: dict[str, Any]) -> str:
    """The path of the component that is asked about: by its id in the arguments, else where the call is made."""
    id = args.get("componentId")
    if not isinstance(id, str):
        return context.component
    found = components.by_id(context.tx, id)
    if found is None:
        raise CvxError("ComponentPathNotFound", f"There is no component with the id '{id[:64]}'.")
    return found.path


def _job(row: dict[str, Any]) -> Value:
    return {
        "_id": row["job"],
        "_creationTime": row["_creationTime"],
        "component": row["targetComponent"],
        "udfPath": row["path"],
        "state": {"type": "inProgress" if row["state"] == "running" else "pending"},
        "nextTs": int(row["due"] * 1e6),
        "completedTs": None,
        "attempts": {"systemErrors": int(row["attempts"]), "occErrors": 0},
    }


@system_query("_system/frontend/listCronJobs", {"componentId?": _ANY})
def list_cron_jobs(context: SystemContext, args: dict[str, Any]) -> Value:
    """All crons in the order of their names, with their next and their last run."""
    tx = context.tx
    found: list[Value] = []
    for cron in crons.crons(tx, _component(context, args)):
        logs = crons.logs(tx, cron.id)
        found.append(
            {
                "_id": cron.id,
                "_creationTime": cron.creation_time,
                "name": cron.name,
                "cronSpec": _spec(cron),
                "nextRun": _next(crons.next_run(tx, cron.id)),
                "lastRun": _log(logs[-1]) if logs else None,
            }
        )
    return found


@system_query("_system/frontend/listCronJobRuns", {"componentId?": _ANY, "name?": _ANY})
def list_cron_job_runs(context: SystemContext, args: dict[str, Any]) -> Value:
    """The last runs of all crons (of one: `name`), the latest first."""
    tx, name = context.tx, args.get("name")
    runs = [
        _log(row)
        for cron in crons.crons(tx, _component(context, args))
        if name is None or cron.name == name
        for row in crons.logs(tx, cron.id)
    ]
    return sorted(runs, key=lambda run: -int(run["ts"]))


def _spec(cron: Cron) -> Value:
    return {
        "udfPath": cron.path.canonical,
        "udfArgs": cron.args_json,
        "cronSchedule": _schedule(cron.schedule),
    }


def _schedule(schedule: Schedule) -> Value:
    # Numbers of schedules are int64s.
    fields: dict[str, Value] = msgspec.to_builtins(schedule)
    return fields


def _next(run: NextRun | None) -> Value:
    if run is None:
        return None
    return {
        "cronJobId": run.cron_id,
        "state": {"type": "inProgress" if run.running else "pending"},
        "prevTs": run.previous_ts,
        "nextTs": run.ts,
    }


def _log(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "cronJobId"}
