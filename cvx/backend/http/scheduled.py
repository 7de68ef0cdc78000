"""What admins do to scheduled functions: cancel one, or all.

Source: reference/runtime-and-database.md §6.3 (cancel).
"""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from cvx.backend.auth import SYSTEM
from cvx.backend.database import Transaction
from cvx.backend.http.middleware import Call, JsonResponse
from cvx.backend.model import components, scheduled_jobs
from cvx.backend.model.scheduled_jobs import JobRef
from cvx.errors import CvxError
from cvx.protocol.admin import CancelAllJobsRequest, CancelJobRequest
from cvx.values import FunctionPath


async def cancel_job(call: Call) -> Response:
    """POST /api/cancel_job: one job, pending or running; {"canceled": 0 or 1}. 404 for an id that is none."""
    await call.admin(write=True)
    body = await call.json(CancelJobRequest)
    id = str(scheduled_jobs.parse_job_id(body.id))

    def cancel(tx: Transaction) -> bool:
        ref = JobRef(_component(tx, body), id)
        if tx.get(ref.id, component=ref.component, privileged=True) is None:
            raise CvxError(
                "ScheduledFunctionNotFound", f"There is no scheduled function {ref.id}.", kind="not_found",
                hint="Finished ones are forgotten after a week; `cvx jobs list` shows those still to run.",
            )  # fmt: skip
        return scheduled_jobs.cancel(tx, ref)

    canceled, _ = await call.services.db.run(SYSTEM, cancel, write_source="cancel_job")
    return _canceled(int(canceled))


async def cancel_all_jobs(call: Call) -> Response:
    """POST /api/cancel_all_jobs: every job, or every one of a function; {"canceled": how many}."""
    await call.admin(write=True)
    body = await call.json(CancelAllJobsRequest)
    rows_max = call.services.config.limits.job_sweep_rows
    path = None if body.udf_path is None else FunctionPath.parse(body.udf_path)

    def cancel_some(tx: Transaction) -> int:
        return scheduled_jobs.cancel_some(tx, rows_max, component=_component(tx, body), path=path)

    total = 0
    while True:  # Small commits, so that nobody waits for all of it.
        canceled, _ = await call.services.db.run(SYSTEM, cancel_some, write_source="cancel_all_jobs")
        total += canceled
        call.goes_on()
        if canceled < rows_max:
            return _canceled(total)


def _component(tx: Transaction, body: CancelJobRequest | CancelAllJobsRequest) -> str:
    """Whose jobs are meant: a component named by its id or its path, else the app."""
    if body.component_id is None:
        return body.component_path or ""
    found = components.by_id(tx, body.component_id)
    if found is None:
        raise CvxError(
            "ComponentPathNotFound", f"There is no component with the id '{body.component_id[:64]}'.",
            kind="not_found", hint="`_system/frontend/components:list` lists them.",
        )  # fmt: skip
    return found.path


def _canceled(count: int) -> Response:
    return JsonResponse(msgspec.json.encode({"canceled": count}))
