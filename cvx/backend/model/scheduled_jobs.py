"""Functions due later and what became of them.

A job is two documents. The one in `_scheduled_functions` is what user code sees (name, arguments, state) and stays
until its retention is over; its id is the job's. The one in `_scheduled_jobs` exists only while the job is
outstanding and is what the scheduler works from: an index on queue, state and due time. Every change of a job
writes both in one transaction. Jobs belong to the component whose code scheduled them.

Rule: functions over a Transaction. A job is scheduled exactly when the transaction commits.

Source: reference/runtime-and-database.md §6.1–§6.3; values-and-sync.md §2.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from cvx.backend.config import Limits
from cvx.backend.database import ROOT, Transaction
from cvx.errors import CvxError
from cvx.values import DocumentId, FunctionPath, Value

FUNCTIONS = "_scheduled_functions"
FUNCTIONS_NUMBER = 539
JOBS = "_scheduled_jobs"
_BY_DUE = "by_due"
_BY_JOB = "by_job"
_BY_COMPONENT = "by_component"
_BY_PATH = "by_path"
_BY_COMPLETED = "by_completed"

Queue = Literal["mutation", "action"]
"""Jobs wait in one of two lines, so that slow actions do not hold up mutations."""
QUEUES: tuple[Queue, ...] = ("mutation", "action")

FIVE_YEARS_MS = 5 * 365.25 * 86_400_000.0


@dataclass(frozen=True, slots=True)
class JobRef:
    """A job, and whose it is."""

    component: str
    id: str


@dataclass(frozen=True, slots=True)
class NewJob:
    """What to run, and when. `due_ms` is wall-clock time; `component` is that of the code that schedules it."""

    component: str
    path: FunctionPath
    queue: Queue
    args: dict[str, Value]
    args_bytes: int
    due_ms: float


@dataclass(frozen=True, slots=True)
class Job:
    """An outstanding job. `due_ms` is when it is tried next; `attempts` are those the system failed at."""

    row: str
    ref: JobRef
    path: FunctionPath
    due_ms: float
    attempts: int
    running: bool


# ------------------------------------------------------------------------------------------------- scheduling


def schedule(tx: Transaction, new: NewJob, limits: Limits, parent: JobRef | None) -> DocumentId:
    """Add a job; its id. With a `parent` that was canceled it is canceled from the start.

    Raises CvxError: InvalidScheduledFunctionDelay, TooManyFunctionsScheduled, ScheduledFunctionsArgumentsTooLarge,
    TooManyOutstandingFunctions.
    """
    now_ms = tx.begin_time / 1e6
    if abs(new.due_ms - now_ms) > FIVE_YEARS_MS:
        raise CvxError(
            "InvalidScheduledFunctionDelay",
            f"{new.path.display} cannot be scheduled for more than five years "
            f"{'from now' if new.due_ms > now_ms else 'in the past'}.",
            hint="Pass milliseconds: a delay to runAfter, a time since 1970 to runAt.",
        )
    _count(tx, new, limits)
    canceled = parent is not None and is_canceled(tx, parent)
    document: dict[str, Value] = {
        "name": new.path.canonical,
        "args": [new.args],
        "scheduledTime": new.due_ms,
        "state": {"kind": "canceled" if canceled else "pending"},
    }
    if canceled:
        document["completedTime"] = now_ms
    id = tx.insert(FUNCTIONS, document, component=new.component, privileged=True)
    if not canceled:
        tx.insert(
            JOBS,
            {
                "component": new.component,
                "job": str(id),
                "targetComponent": new.path.component,
                "path": new.path.canonical,
                "queue": new.queue,
                "state": "pending",
                "due": new.due_ms,
                "attempts": 0.0,
            },
            privileged=True,
        )
    return id


def _count(tx: Transaction, new: NewJob, limits: Limits) -> None:
    usage = tx.usage
    usage.functions_scheduled += 1
    usage.scheduled_args_bytes += new.args_bytes
    if usage.functions_scheduled > limits.functions_scheduled_max:
        raise CvxError(
            "TooManyFunctionsScheduled",
            f"Too many functions scheduled by a single mutation (limit: {limits.functions_scheduled_max}).",
            hint="Schedule one function that schedules the others in parts.",
        )
    if usage.scheduled_args_bytes > limits.scheduled_args_bytes_max:
        raise CvxError(
            "ScheduledFunctionsArgumentsTooLarge",
            f"The arguments of the functions scheduled by a single mutation are too large "
            f"(actual: {usage.scheduled_args_bytes} bytes, limit: {limits.scheduled_args_bytes_max} bytes).",
            hint="Store large values in documents and pass their ids.",
        )
    with tx.unrecorded():  # Or any two mutations that schedule something would conflict.
        outstanding = tx.count(JOBS, privileged=True)
    if outstanding >= limits.scheduled_jobs_outstanding_max:
        raise CvxError(
            "TooManyOutstandingFunctions",
            f"There are {outstanding} scheduled functions that have not run yet, and no more are taken.",
            kind="overloaded",
            hint="Wait until some have run, or cancel them: cvx jobs cancel --all",
            retry_when="time",
        )


def is_canceled(tx: Transaction, job: JobRef) -> bool:
    document = tx.get_value(job.id, component=job.component, privileged=True)
    return document is not None and document["state"]["kind"] == "canceled"


# --------------------------------------------------------------------------------------------------- canceling


def parse_job_id(text: str) -> DocumentId:
    """The id of a scheduled function. Raises CvxError "InvalidArgument" for anything else."""
    id = DocumentId.try_parse(text)
    if id is None or id.table != FUNCTIONS_NUMBER:
        what = "is not a document id" if id is None else "is the id of a document in another table"
        raise CvxError(
            "InvalidArgument",
            f'Invalid argument `id` for `scheduler.cancel`: expected to be an Id<"{FUNCTIONS}">, '
            f"but '{text[:64]}' {what}.",
        )
    return id


def cancel(tx: Transaction, ref: JobRef) -> bool:
    """Cancel a job that has not finished; whether there was anything to cancel.

    A pending one never runs. One that runs goes on, but what it schedules from now on is canceled from the start.
    Raises CvxError "InvalidArgument" in the transaction of a mutation that cancels the job it is.
    """
    document = tx.get_value(ref.id, component=ref.component, privileged=True)
    if document is None or document["state"]["kind"] not in ("pending", "inProgress"):
        return False
    row = _row(tx, ref)
    if document["state"]["kind"] == "inProgress" and row is not None and row["state"] == "pending":
        raise CvxError(
            "InvalidArgument",
            "A scheduled mutation cannot cancel itself: it is running already.",
            hint="Throw an error to undo what it did, or just return.",
        )
    _finish(tx, ref, {"kind": "canceled"})
    return True


def cancel_some(
    tx: Transaction, jobs_max: int, *, component: str = ROOT, path: FunctionPath | None = None
) -> int:
    """Cancel up to `jobs_max` of the outstanding jobs of a component (and of one function); how many there were."""
    return sum(cancel(tx, job.ref) for job in outstanding(tx, jobs_max, component=component, path=path))


# ------------------------------------------------------------------------------------------ looking, in order


def pending(tx: Transaction, queue: Queue, jobs_max: int) -> list[Job]:
    """The jobs of a queue that wait, the one due first before the others."""
    return _in_order(tx, queue, "pending", jobs_max)


def running(tx: Transaction, queue: Queue, jobs_max: int) -> list[Job]:
    """The jobs that were noted as begun: actions."""
    return _in_order(tx, queue, "running", jobs_max)


def _in_order(tx: Transaction, queue: Queue, state: str, jobs_max: int) -> list[Job]:
    conditions = [
        {"type": "Eq", "fieldPath": "queue", "value": queue},
        {"type": "Eq", "fieldPath": "state", "value": state},
    ]
    return _listed(tx, _BY_DUE, conditions, jobs_max)


def outstanding(
    tx: Transaction, jobs_max: int, *, component: str = ROOT, path: FunctionPath | None = None
) -> list[Job]:
    """Jobs of a component (and of one function) that have not finished, the one due first before the others."""
    conditions = [{"type": "Eq", "fieldPath": "component", "value": component}]
    if path is not None:
        conditions.append({"type": "Eq", "fieldPath": "path", "value": path.canonical})
    index = _BY_COMPONENT if path is None else _BY_PATH
    return _listed(tx, index, conditions, jobs_max)


def _listed(tx: Transaction, index: str, conditions: list[dict[str, Any]], jobs_max: int) -> list[Job]:
    query = {
        "source": {"type": "IndexRange", "indexName": f"{JOBS}.{index}", "order": "asc", "range": conditions},
        "operators": [{"limit": jobs_max}],
    }
    return [_job(row) for row in tx.collect(query, privileged=True)]


def _job(row: dict[str, Any]) -> Job:
    path = FunctionPath.parse(row["path"], row["targetComponent"])
    ref = JobRef(row["component"], row["job"])
    return Job(row["_id"], ref, path, row["due"], int(row["attempts"]), row["state"] == "running")


# ----------------------------------------------------------------------------------------------------- running


def args_of(tx: Transaction, ref: JobRef) -> dict[str, Any] | None:
    """The arguments of a job, as an object; None when it is gone."""
    document = tx.get_value(ref.id, component=ref.component, privileged=True)
    if document is None:
        return None
    found: dict[str, Any] = document["args"][0]
    return found


def begin(tx: Transaction, ref: JobRef, *, lasting: bool) -> bool:
    """Note that a pending job begins; False when it is pending no more.

    `lasting`: it is to be known as begun after a restart. Otherwise the transaction that begins it ends it, too.
    """
    document = tx.get_value(ref.id, component=ref.component, privileged=True)
    if document is None or document["state"]["kind"] != "pending":
        return False
    _set_state(tx, ref, {"kind": "inProgress"})
    if lasting:
        row = _row(tx, ref)
        assert row is not None, "a pending job is outstanding"
        tx.patch(row["_id"], {"state": "running"}, privileged=True)
    return True


def succeed(tx: Transaction, ref: JobRef, *, row: str | None = None) -> None:
    """Note that a job has run. One that was canceled meanwhile stays canceled. `row`: its own, if it is known."""
    _end(tx, ref, {"kind": "success"}, row)


def fail(tx: Transaction, ref: JobRef, error: str) -> None:
    """Note that a job's function threw, and what. One that was canceled meanwhile stays canceled."""
    _end(tx, ref, {"kind": "failed", "error": error})


def put_back(tx: Transaction, job: Job, due_ms: float) -> None:
    """Let a job that was noted as begun, and has not begun, wait again."""
    document = tx.get_value(job.ref.id, component=job.ref.component, privileged=True)
    row = _row(tx, job.ref)
    if row is not None and document is not None and document["state"]["kind"] == "inProgress":
        _set_state(tx, job.ref, {"kind": "pending"})
        fields = {"state": "pending", "due": due_ms, "attempts": row["attempts"] + 1.0}
        tx.patch(row["_id"], fields, privileged=True)


def postpone(tx: Transaction, job: Job, due_ms: float) -> None:
    """Try a pending job again at another time, because the system failed."""
    row = _row(tx, job.ref)
    if row is not None and row["state"] == "pending":
        fields = {"due": due_ms, "attempts": row["attempts"] + 1.0}
        tx.patch(row["_id"], fields, privileged=True)


def bring_forward(tx: Transaction, target: str, jobs_max: int) -> None:
    """Let jobs of a component's functions that were put off while it was not mounted be due at once: up to `jobs_max`
    of those it scheduled itself, and of those its parent did."""
    now_ms = tx.begin_time / 1e6
    for component in {target, target.rpartition("/")[0]}:
        for job in outstanding(tx, jobs_max, component=component):
            if job.path.component == target and job.attempts and not job.running and job.due_ms > now_ms:
                tx.patch(job.row, {"due": now_ms}, privileged=True)


def _end(tx: Transaction, ref: JobRef, state: dict[str, Value], row: str | None = None) -> None:
    document = tx.get_value(ref.id, component=ref.component, privileged=True)
    if document is not None and document["state"]["kind"] in ("pending", "inProgress"):
        _finish(tx, ref, state, row)


def _finish(tx: Transaction, ref: JobRef, state: dict[str, Value], row_id: str | None = None) -> None:
    fields: dict[str, Value] = {"state": state, "completedTime": tx.begin_time / 1e6}
    tx.patch(ref.id, fields, component=ref.component, privileged=True)
    if row_id is None:
        row = _row(tx, ref)
        row_id = None if row is None else row["_id"]
    if row_id is not None:
        tx.delete(row_id, privileged=True)


def _set_state(tx: Transaction, ref: JobRef, state: dict[str, Value]) -> None:
    tx.patch(ref.id, {"state": state}, component=ref.component, privileged=True)


def _row(tx: Transaction, ref: JobRef) -> dict[str, Any] | None:
    return tx.first(JOBS, _BY_JOB, [ref.component, ref.id], privileged=True)


# --------------------------------------------------------------------------------------------------- retention


def any_finished(tx: Transaction, component: str, before_ms: float) -> bool:
    """Whether a job of a component finished before a time and is still kept."""
    return bool(_finished(tx, component, before_ms, 1))


def drop_finished(tx: Transaction, component: str, before_ms: float, jobs_max: int) -> int:
    """Delete up to `jobs_max` of the jobs of a component that finished before a time; how many."""
    rows = _finished(tx, component, before_ms, jobs_max)
    for row in rows:
        tx.delete(row["_id"], component=component, privileged=True)
    return len(rows)


def _finished(tx: Transaction, component: str, before_ms: float, jobs_max: int) -> list[dict[str, Any]]:
    query = {
        "source": {
            "type": "IndexRange",
            "indexName": f"{FUNCTIONS}.{_BY_COMPLETED}",
            "order": "asc",
            "range": [
                {"type": "Gt", "fieldPath": "completedTime", "value": 0.0},
                {"type": "Lt", "fieldPath": "completedTime", "value": before_ms},
            ],
        },
        "operators": [{"limit": jobs_max}],
    }
    return tx.collect(query, component=component, privileged=True)
