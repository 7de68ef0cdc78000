"""Everything of a deployment that runs by the clock: scheduled functions, crons, and forgetting finished jobs.

Source: reference/runtime-and-database.md §6.
"""

from __future__ import annotations

import asyncio
import logging

from cvx.backend.config import Limits
from cvx.backend.database import Database
from cvx.backend.functions import FunctionExecutor
from cvx.backend.jobs.crons import Crons
from cvx.backend.jobs.scheduled import ScheduledFunctions, drop_finished
from cvx.errors import CvxError

_log = logging.getLogger("cvx.jobs")


class Scheduler:
    """`start` once the deployment can run functions; `stop` before its executor and its database are closed."""

    def __init__(self, db: Database, executor: FunctionExecutor, limits: Limits) -> None:
        self._db = db
        self._limits = limits
        self._functions = ScheduledFunctions(db, executor, limits)
        self._crons = Crons(db, executor, limits)
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._functions.start()
        await self._crons.start()
        self._sweeper = asyncio.get_running_loop().create_task(self._keep_sweeping())

    async def stop(self) -> None:
        """Cancel what runs. An action that was running is noted as failed at the next start."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        await self._crons.stop()
        await self._functions.stop()

    async def _keep_sweeping(self) -> None:
        while True:
            await asyncio.sleep(self._limits.job_sweep_s)
            try:
                await drop_finished(self._db, self._limits)
            except CvxError as error:
                _log.warning("finished jobs could not be forgotten, and will be later: %s", error)
