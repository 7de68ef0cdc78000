"""Runs scheduled functions: mutations exactly once, actions at most once.

A mutation's job begins and ends in the transaction of the mutation itself, so it is done exactly when its writes are
there, whenever the process dies. An action's job is noted as begun, on disk, before the action starts; one that
is found so at the next start has failed, and is not run again.

Rules:
- A function that throws has had its run. Only failures of the system are tried again, later and later.
- Jobs run as nobody: `ctx.auth.getUserIdentity()` is null, internal functions are allowed.

Source: reference/runtime-and-database.md §6.3.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from cvx.backend.auth import SYSTEM
from cvx.backend.config import Limits
from cvx.backend.database import Database, Transaction
from cvx.backend.functions import Errand, ErrandOver, FunctionError, FunctionExecutor, LoggedLine, Origin
from cvx.backend.jobs.supervisor import Due, DueLoop, Release, retry_delay_s
from cvx.backend.model import scheduled_jobs
from cvx.backend.model.scheduled_jobs import Job, JobRef, Queue
from cvx.errors import DETERMINISTIC_KINDS, CvxError
from cvx.values import encode

_log = logging.getLogger("cvx.jobs")

CALLER = "Scheduler"
LOST_ACTION = (
    "Transient error while executing action: the backend stopped while this action was running. "
    "Actions are not run again, because they may have had effects outside of the database."
)


class ScheduledFunctions:
    """All scheduled functions of a deployment."""

    def __init__(self, db: Database, executor: FunctionExecutor, limits: Limits) -> None:
        self._db = db
        self._executor = executor
        self._limits = limits
        places: dict[Queue, Callable[[], int]] = {
            "mutation": self._places_of_mutations,
            "action": lambda: limits.scheduled_actions_running_max,
        }
        self._loops = [DueLoop(db, limits, free, _finder(queue), self._run) for queue, free in places.items()]

    def _places_of_mutations(self) -> int:
        """Fewer while clients are calling: each call waits for the steps of whatever else runs."""
        limits = self._limits
        if self._executor.demand.is_there:
            return min(limits.scheduled_mutations_beside_clients_max, limits.scheduled_mutations_running_max)
        return limits.scheduled_mutations_running_max

    async def start(self) -> None:
        """Settle what the last process left behind, then begin."""
        await self._fail_lost_actions()
        for loop in self._loops:
            loop.start()

    async def stop(self) -> None:
        for loop in self._loops:
            await loop.stop()

    async def _fail_lost_actions(self) -> None:
        def body(tx: Transaction) -> int:
            lost = [
                job
                for queue in scheduled_jobs.QUEUES
                for job in scheduled_jobs.running(tx, queue, self._limits.job_sweep_rows)
            ]
            for job in lost:
                scheduled_jobs.fail(tx, job.ref, LOST_ACTION)
            return len(lost)

        while (await self._db.run(SYSTEM, body, write_source=CALLER))[0]:
            pass

    async def _run(self, job: Job, release: Release) -> None:
        try:
            with self._db.snapshot() as snapshot:
                function = self._executor.registry(snapshot, job.path.component).find(job.path)
                tx = self._db.begin(SYSTEM, snapshot=snapshot, read_only=True)
                args = scheduled_jobs.args_of(tx, job.ref)
            if args is None:
                return
            if function is not None and function.kind == "action":
                await self._run_action(job, encode(args))
            else:
                # Also what is no function any more, or a query: the call says what is wrong with it.
                await self._run_mutation(job, encode(args), release)
        except ErrandOver:
            return  # Canceled.
        except CvxError as error:
            if error.code == "ComponentPathNotFound":
                await self._wait_for_component(job)
            elif error.kind in DETERMINISTIC_KINDS:
                await self._end(job.ref, FunctionError(error.message))
            else:
                await self._postpone(job, error)

    async def _wait_for_component(self, job: Job) -> None:
        """The function's component is not part of the app now. It may be again: a push then brings the job forward."""
        due_ms = self._db.clock.now_ns() / 1e6 + self._limits.job_unmounted_retry_s * 1000.0
        await self._db.run(SYSTEM, lambda tx: scheduled_jobs.postpone(tx, job, due_ms), write_source=CALLER)

    async def _run_mutation(self, job: Job, args_json: bytes, release: Release) -> None:
        result = await self._executor.mutation(
            job.path, args_json, SYSTEM, caller=CALLER, public=False,
            origin=Origin(scheduled_job=job.ref), errand=JobErrand(job),
            on_commit=lambda ts: release(),  # The disk is waited for while the next one runs.
        )  # fmt: skip
        if result.error is not None:
            await self._end(job.ref, result.error)

    async def _run_action(self, job: Job, args_json: bytes) -> None:
        begun, _ = await self._db.run(
            SYSTEM, lambda tx: scheduled_jobs.begin(tx, job.ref, lasting=True), write_source=CALLER
        )
        if not begun:
            return
        try:
            result = await self._executor.action(
                job.path, args_json, SYSTEM, caller=CALLER, public=False, origin=Origin(scheduled_job=job.ref)
            )
            error = result.error
        except CvxError as failure:
            if failure.code == "TooManyConcurrentRequests":  # It has not begun.
                await self._postpone(job, failure, scheduled_jobs.put_back)
                return
            error = FunctionError(failure.message)
        await self._end(job.ref, error)

    async def _end(self, ref: JobRef, error: FunctionError | None) -> None:
        def body(tx: Transaction) -> None:
            if error is None:
                scheduled_jobs.succeed(tx, ref)
            else:
                scheduled_jobs.fail(tx, ref, error.message.rstrip("\n"))

        failures = 0
        while True:
            try:
                await self._db.run(SYSTEM, body, write_source=CALLER)
                return
            except CvxError as trouble:  # An action has run, and must not be left as running.
                failures += 1
                delay_s = retry_delay_s(self._limits, failures, self._limits.cron_retry_s_max)
                _log.warning("the end of job %s is noted again in %.1f s: %s", ref.id, delay_s, trouble)
                await asyncio.sleep(delay_s)

    async def _postpone(
        self,
        job: Job,
        error: CvxError,
        postpone: Callable[[Transaction, Job, float], None] = scheduled_jobs.postpone,
    ) -> None:
        delay_s = retry_delay_s(self._limits, job.attempts + 1, self._limits.job_retry_s_max)
        _log.warning("%s (job %s) is tried again in %.1f s: %s", job.path, job.ref.id, delay_s, error)
        due_ms = self._db.clock.now_ns() / 1e6 + delay_s * 1000.0
        await self._db.run(SYSTEM, lambda tx: postpone(tx, job, due_ms), write_source=CALLER)


class JobErrand(Errand):
    """A mutation that is a job notes in its own transaction that the job is done."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def begin(self, tx: Transaction) -> None:
        if not scheduled_jobs.begin(tx, self._job.ref, lasting=False):
            raise ErrandOver

    def end(self, tx: Transaction, value_json: bytes, lines: Sequence[LoggedLine]) -> None:
        scheduled_jobs.succeed(tx, self._job.ref, row=self._job.row)


def _finder(queue: Queue) -> Callable[[Transaction, int], list[Due[Job]]]:
    def find(tx: Transaction, jobs_max: int) -> list[Due[Job]]:
        return [
            Due(job.ref.component + "/" + job.ref.id, job.due_ms, job)
            for job in scheduled_jobs.pending(tx, queue, jobs_max)
        ]

    return find


async def drop_finished(db: Database, limits: Limits) -> int:
    """Forget every job whose retention is over, in small commits; how many."""
    before_ms = db.clock.now_ns() / 1e6 - limits.job_retention_s * 1000.0
    total = 0
    for component in db.catalog.components:
        while True:
            dropped = await _drop_some(db, component, before_ms, limits.job_sweep_rows)
            total += dropped
            if dropped < limits.job_sweep_rows:
                break
    return total


async def _drop_some(db: Database, component: str, before_ms: float, rows_max: int) -> int:
    with db.snapshot() as snapshot:  # Most of the time there is nothing to be written.
        tx = db.begin(SYSTEM, snapshot=snapshot, read_only=True)
        if not scheduled_jobs.any_finished(tx, component, before_ms):
            return 0
    dropped, _ = await db.run(
        SYSTEM,
        lambda tx: scheduled_jobs.drop_finished(tx, component, before_ms, rows_max),
        write_source=CALLER,
    )
    return dropped
