"""Runs crons: one run of each at a time, a mutation exactly once for its slot, an action at most once.

As with scheduled functions (scheduled.py), a mutation's slot moves on in the mutation's own transaction; an action's
slot is noted as begun before the action starts, and counts as failed when it is found so at the next start.

Source: reference/runtime-and-database.md §6.4.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from cvx.backend.auth import SYSTEM
from cvx.backend.config import Limits
from cvx.backend.database import Database, Transaction
from cvx.backend.functions import (
    ActionResult,
    Errand,
    ErrandOver,
    FunctionExecutor,
    LoggedLine,
    MutationResult,
)
from cvx.backend.jobs.scheduled import LOST_ACTION
from cvx.backend.jobs.supervisor import Due, DueLoop, Release, retry_delay_s
from cvx.backend.model import crons
from cvx.backend.model.crons import Cron, Ended, NextRun
from cvx.errors import DETERMINISTIC_KINDS, CvxError

_log = logging.getLogger("cvx.jobs")

CALLER = "Cron"


class Crons:
    """All crons of a deployment."""

    def __init__(self, db: Database, executor: FunctionExecutor, limits: Limits) -> None:
        self._db = db
        self._executor = executor
        self._limits = limits
        self._loop = DueLoop(db, limits, lambda: limits.crons_running_max, _find, self._run)

    async def start(self) -> None:
        """Settle what the last process left behind, then begin."""
        await self._db.run(SYSTEM, self._fail_lost, write_source=CALLER)
        self._loop.start()

    async def stop(self) -> None:
        await self._loop.stop()

    def _fail_lost(self, tx: Transaction) -> None:
        for run in crons.runs_begun(tx, self._limits.job_sweep_rows):
            self._move_on(tx, run, Ended(None, LOST_ACTION, (), 0.0))

    async def _run(self, run: NextRun, release: Release) -> None:
        failures = 0
        while True:
            try:
                await self._attempt(run)
                return
            except ErrandOver:
                return  # A push changed it.
            except CvxError as error:
                if error.kind in DETERMINISTIC_KINDS:
                    await self._end(run, Ended(None, error.message, (), 0.0))
                    return
                failures += 1
                delay_s = retry_delay_s(self._limits, failures, self._limits.cron_retry_s_max)
                _log.warning("a cron is tried again in %.1f s: %s", delay_s, error)
                await asyncio.sleep(delay_s)

    async def _attempt(self, run: NextRun) -> None:
        with self._db.snapshot() as snapshot:
            tx = self._db.begin(SYSTEM, snapshot=snapshot, read_only=True)
            cron = crons.still_due(tx, run)
            if cron is None:
                return
            function = self._executor.registry(snapshot, cron.component).find(cron.path)
        if function is not None and function.kind == "action":
            await self._run_action(cron, run)
        else:
            await self._run_mutation(cron, run)

    async def _run_mutation(self, cron: Cron, run: NextRun) -> None:
        started = time.perf_counter()
        result = await self._executor.mutation(
            cron.path, cron.args_json, SYSTEM, caller=CALLER, public=False, errand=_CronErrand(self, run)
        )
        if result.error is not None:
            await self._end(run, _ended(result, started))

    async def _run_action(self, cron: Cron, run: NextRun) -> None:
        begun, _ = await self._db.run(SYSTEM, lambda tx: crons.begin(tx, run), write_source=CALLER)
        if not begun:
            return
        started = time.perf_counter()
        try:
            result = await self._executor.action(
                cron.path, cron.args_json, SYSTEM, caller=CALLER, public=False
            )
            ended = _ended(result, started)
        except CvxError as failure:
            ended = Ended(None, failure.message, (), time.perf_counter() - started)
        await self._end(run, ended)

    async def _end(self, run: NextRun, ended: Ended) -> None:
        await self._db.run(SYSTEM, lambda tx: self._move_on(tx, run, ended), write_source=CALLER)

    def _move_on(self, tx: Transaction, run: NextRun, ended: Ended) -> None:
        crons.end(tx, run, ended, self._db.clock.now_ns(), self._limits)

    def succeeded(
        self, tx: Transaction, run: NextRun, value_json: bytes, lines: Sequence[LoggedLine], seconds: float
    ) -> None:
        """Note in a mutation's transaction that it has run."""
        texts = tuple(line.pretty() for line in lines)
        self._move_on(tx, run, Ended(value_json, None, texts, seconds))


class _CronErrand(Errand):
    """A mutation that is a cron's run moves the cron on to its next slot."""

    def __init__(self, owner: Crons, run: NextRun) -> None:
        self._owner = owner
        self._run = run
        self._started = time.perf_counter()

    def begin(self, tx: Transaction) -> None:
        self._started = time.perf_counter()
        if crons.still_due(tx, self._run) is None:
            raise ErrandOver

    def end(self, tx: Transaction, value_json: bytes, lines: Sequence[LoggedLine]) -> None:
        self._owner.succeeded(tx, self._run, value_json, lines, time.perf_counter() - self._started)


def _ended(result: MutationResult | ActionResult, started: float) -> Ended:
    error = None if result.error is None else result.error.message.rstrip("\n")
    return Ended(result.value_json, error, tuple(result.log_lines), time.perf_counter() - started)


def _find(tx: Transaction, runs_max: int) -> list[Due[NextRun]]:
    return [Due(run.cron_id, run.ts / 1e6, run) for run in crons.pending_runs(tx, runs_max)]
