"""Jobs and crons as rows: what each step writes, with a clock that is set by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cvx.backend.config import Limits
from cvx.backend.database import Database, Transaction, Usage
from cvx.backend.functions.near_limits import near_limits
from cvx.backend.jobs.scheduled import drop_finished
from cvx.backend.model import SYSTEM_TABLES, crons, scheduled_jobs
from cvx.backend.model.crons import Ended, NextRun
from cvx.backend.model.scheduled_jobs import JobRef, NewJob
from cvx.errors import CvxError
from cvx.protocol.push import (
    CronDiff,
    CronSpecJson,
    DailySchedule,
    IntervalSchedule,
    NamedCronSpecJson,
    Schedule,
)
from cvx.values import FunctionPath

LIMITS = Limits(functions_scheduled_max=5, scheduled_args_bytes_max=100, scheduled_jobs_outstanding_max=8)
NS = 10**9
DAY = 86_400 * NS
START = 20_000 * DAY


class SetClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.ns = START

    def now_ns(self) -> int:
        return self.ns

    def forward(self, seconds: float) -> None:
        self.ns += int(seconds * NS)


class Model:
    def __init__(self, db: Database, clock: SetClock) -> None:
        self.db = db
        self.clock = clock

    async def run(self, body: Callable[[Transaction], Any]) -> Any:
        return (await self.db.run(None, body))[0]

    async def schedule(
        self, due_s: float = 0.0, path: str = "m:f", queue: Any = "mutation", **args: Any
    ) -> JobRef:
        def body(tx: Transaction) -> str:
            due_ms = self.clock.ns / 1e6 + due_s * 1000
            new = NewJob("", FunctionPath.parse(path), queue, args, 10, due_ms)
            return str(scheduled_jobs.schedule(tx, new, LIMITS, None))

        return JobRef("", await self.run(body))

    async def state(self, ref: JobRef) -> Any:
        document = await self.run(lambda tx: tx.get_value(ref.id, privileged=True))
        return None if document is None else document["state"]

    async def pending(self, queue: Any = "mutation") -> list[str]:
        return [job.ref.id for job in await self.run(lambda tx: scheduled_jobs.pending(tx, queue, 100))]

    async def crons(self, **specs: Schedule | tuple[Schedule, str]) -> CronDiff:
        named = [
            NamedCronSpecJson(
                identifier=name,
                spec=CronSpecJson(
                    udf_path=spec[1] if isinstance(spec, tuple) else "m:f",
                    udf_args=[{}],
                    cron_schedule=spec[0] if isinstance(spec, tuple) else spec,
                ),
            )
            for name, spec in specs.items()
        ]
        diff: CronDiff = await self.run(lambda tx: crons.replace_crons(tx, named, self.clock.ns))
        return diff

    async def next(self, name: str) -> NextRun:
        def body(tx: Transaction) -> NextRun | None:
            (found,) = [cron for cron in crons.crons(tx) if cron.name == name]
            return crons.next_run(tx, found.id)

        run = await self.run(body)
        assert isinstance(run, NextRun)
        return run

    async def end(self, run: NextRun, error: str | None = None, lines: tuple[str, ...] = ()) -> None:
        ended = Ended(None if error else b'"fine"', error, lines, 0.25)
        await self.run(lambda tx: crons.end(tx, run, ended, self.clock.ns, Limits()))

    async def logs(self, run: NextRun) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self.run(lambda tx: crons.logs(tx, run.cron_id))
        return found


def with_model(folder: Path, body: Callable[[Model], Awaitable[None]]) -> None:
    async def main() -> None:
        clock = SetClock()
        async with await Database.open(folder / "data", clock=clock, system_tables=SYSTEM_TABLES) as db:
            await body(Model(db, clock))

    asyncio.run(asyncio.wait_for(main(), 120))


# ------------------------------------------------------------------------------------------------------- jobs


def test_jobs_wait_in_the_order_in_which_they_are_due(tmp_path: Path) -> None:
    async def body(m: Model) -> None:
        late, early, action = await m.schedule(60), await m.schedule(-60), await m.schedule(0, queue="action")
        assert await m.pending() == [early.id, late.id]
        assert await m.pending("action") == [action.id]
        document = await m.run(lambda tx: tx.get_value(early.id, privileged=True))
        assert document["name"] == "m.js:f"
        assert document["scheduledTime"] == START / 1e6 - 60_000
        assert "completedTime" not in document

    with_model(tmp_path, body)


def test_a_job_ends_once(tmp_path: Path) -> None:
    ends: list[tuple[Callable[[Transaction, JobRef], object], dict[str, str]]] = [
        (scheduled_jobs.succeed, {"kind": "success"}),
        (lambda tx, ref: scheduled_jobs.fail(tx, ref, "no"), {"kind": "failed", "error": "no"}),
        (scheduled_jobs.cancel, {"kind": "canceled"}),
    ]

    async def ends_once(
        m: Model, end: Callable[[Transaction, JobRef], object], state: dict[str, str]
    ) -> None:
        ref = await m.schedule()
        await m.run(lambda tx: end(tx, ref))
        assert await m.state(ref) == state
        assert await m.pending() == []
        assert await m.run(lambda tx: scheduled_jobs.begin(tx, ref, lasting=True)) is False
        assert await m.run(lambda tx: scheduled_jobs.cancel(tx, ref)) is False
        await m.run(lambda tx: scheduled_jobs.fail(tx, ref, "later"))
        assert await m.state(ref) == state

    async def body(m: Model) -> None:
        for end, state in ends:
            await ends_once(m, end, state)

    with_model(tmp_path, body)


def test_an_action_s_job_runs_waits_again_or_is_canceled_while_it_runs(tmp_path: Path) -> None:
    async def body(m: Model) -> None:
        ref = await m.schedule(queue="action")
        assert await m.run(lambda tx: scheduled_jobs.begin(tx, ref, lasting=True)) is True
        assert await m.state(ref) == {"kind": "inProgress"}
        assert await m.pending("action") == []
        (job,) = await m.run(lambda tx: scheduled_jobs.running(tx, "action", 10))
        assert job.running and job.ref == ref
        await m.run(lambda tx: scheduled_jobs.put_back(tx, job, START / 1e6 + 5))
        (job,) = await m.run(lambda tx: scheduled_jobs.pending(tx, "action", 10))
        assert (job.attempts, job.due_ms, job.running) == (1, START / 1e6 + 5, False)
        await m.run(lambda tx: scheduled_jobs.begin(tx, ref, lasting=True))
        assert await m.run(lambda tx: scheduled_jobs.cancel(tx, ref)) is True
        # What a canceled one schedules is canceled from the start.
        new = NewJob("", FunctionPath.parse("m:f"), "mutation", {}, 10, 0.0 + START / 1e6)
        child = str(await m.run(lambda tx: scheduled_jobs.schedule(tx, new, LIMITS, ref)))
        assert await m.state(JobRef("", child)) == {"kind": "canceled"}
        await m.run(lambda tx: scheduled_jobs.succeed(tx, ref))
        assert await m.state(ref) == {"kind": "canceled"}
        assert await m.pending() == await m.pending("action") == []

    with_model(tmp_path, body)


def test_postponed_jobs_are_due_later_and_count(tmp_path: Path) -> None:
    async def body(m: Model) -> None:
        ref, other = await m.schedule(), await m.schedule(10)
        (job, _) = await m.run(lambda tx: scheduled_jobs.pending(tx, "mutation", 10))
        await m.run(lambda tx: scheduled_jobs.postpone(tx, job, START / 1e6 + 60_000))
        assert await m.pending() == [other.id, ref.id]
        document = await m.run(lambda tx: tx.get_value(ref.id, privileged=True))
        assert document["scheduledTime"] == START / 1e6  # As it was asked for.
        await m.run(lambda tx: scheduled_jobs.cancel(tx, ref))
        await m.run(lambda tx: scheduled_jobs.postpone(tx, job, 0.0))
        assert await m.pending() == [other.id]

    with_model(tmp_path, body)


def test_the_limits_of_scheduling(tmp_path: Path) -> None:
    async def body(m: Model) -> None:
        new = NewJob("", FunctionPath.parse("m:f"), "mutation", {}, 10, START / 1e6)
        big = NewJob("", FunctionPath.parse("m:f"), "mutation", {}, 51, START / 1e6)

        async def refused(times: int, job: NewJob) -> str:
            def body(tx: Transaction) -> None:
                for _ in range(times):
                    scheduled_jobs.schedule(tx, job, LIMITS, None)

            with pytest.raises(CvxError) as raised:
                await m.run(body)
            return raised.value.code

        assert await refused(6, new) == "TooManyFunctionsScheduled"
        assert await refused(2, big) == "ScheduledFunctionsArgumentsTooLarge"
        for _ in range(8):
            await m.schedule()
        assert await refused(1, new) == "TooManyOutstandingFunctions"
        assert len(await m.pending()) == 8
        for sign in (1, -1):
            far = NewJob("", FunctionPath.parse("m:f"), "mutation", {}, 10, START / 1e6 + sign * 1.6e11)
            assert await refused(1, far) == "InvalidScheduledFunctionDelay"

    with_model(tmp_path, body)


def test_a_warning_comes_before_the_limits() -> None:
    def codes(**used: int) -> list[str | None]:
        return [line.system_code for line in near_limits(Usage(**used), Limits(), 0.0)]

    assert codes(functions_scheduled=800, scheduled_args_bytes=12 * 1024 * 1024) == []
    assert codes(functions_scheduled=801) == ["warning:TooManyFunctionsScheduled"]
    assert codes(scheduled_args_bytes=14 * 1024 * 1024) == ["warning:ScheduledFunctionsArgumentsTooLarge"]


def test_two_that_schedule_at_the_same_time_do_not_conflict(tmp_path: Path) -> None:
    async def body(m: Model) -> None:
        new = NewJob("", FunctionPath.parse("m:f"), "mutation", {}, 10, START / 1e6)
        one, other = m.db.begin(None), m.db.begin(None)
        for tx in (one, other):
            scheduled_jobs.schedule(tx, new, LIMITS, None)
        await m.db.commit(one)
        await m.db.commit(other)
        assert len(await m.pending()) == 2

    with_model(tmp_path, body)


def test_all_jobs_of_a_function_are_canceled_and_finished_ones_forgotten_in_time(tmp_path: Path) -> None:
    async def body(m: Model) -> None:
        kept = await m.schedule(5, path="m:g")
        gone = [await m.schedule(n) for n in range(4)]
        path = FunctionPath.parse("m:f")
        assert await m.run(lambda tx: scheduled_jobs.cancel_some(tx, 3, path=path)) == 3
        assert await m.run(lambda tx: scheduled_jobs.cancel_some(tx, 3, path=path)) == 1
        assert await m.pending() == [kept.id]
        limits = Limits(job_sweep_rows=3)
        assert await drop_finished(m.db, limits) == 0
        m.clock.forward(limits.job_retention_s + 1)
        assert await drop_finished(m.db, limits) == 4
        assert [await m.state(ref) for ref in gone] == [None] * 4
        assert await m.pending() == [kept.id]
        assert await m.run(lambda tx: scheduled_jobs.cancel_some(tx, 3)) == 1

    with_model(tmp_path, body)


# ------------------------------------------------------------------------------------------------------ crons

DAILY = DailySchedule(hour=4, minute=0)


def test_a_push_adds_keeps_changes_and_removes(tmp_path: Path) -> None:
    async def body(m: Model) -> None:
        diff = await m.crons(a=IntervalSchedule(seconds=60), b=DAILY, c=DAILY)
        assert (diff.added, diff.updated, diff.deleted) == (["a", "b", "c"], [], [])
        assert (await m.next("a")).ts == START  # At once.
        assert (await m.next("b")).ts == START + 4 * 3600 * NS
        m.clock.forward(10)
        before = await m.next("b")
        diff = await m.crons(
            a=IntervalSchedule(seconds=60), b=(DAILY, "m:other"), d=DailySchedule(hour=5, minute=0)
        )
        assert (diff.added, diff.updated, diff.deleted) == (["d"], ["b"], ["c"])
        assert await m.next("b") == before  # Another function, the same schedule.
        assert (await m.next("a")).ts == START
        diff = await m.crons(b=DailySchedule(hour=6, minute=30))
        assert (diff.added, diff.updated, diff.deleted) == ([], ["b"], ["a", "d"])
        assert (await m.next("b")).ts == START + (6 * 3600 + 1800) * NS
        assert len(await m.run(lambda tx: tx.all("_cron_jobs", privileged=True))) == 1
        assert len(await m.run(lambda tx: tx.all("_cron_next_run", privileged=True))) == 1

    with_model(tmp_path, body)


def test_a_run_that_is_close_or_under_way_is_not_moved_by_a_push(tmp_path: Path) -> None:
    async def body(m: Model) -> None:
        await m.crons(a=DAILY)
        due = await m.next("a")
        m.clock.ns = due.ts - 29 * NS
        assert (await m.crons(a=DailySchedule(hour=9, minute=0))).updated == ["a"]
        assert await m.next("a") == due
        m.clock.ns = due.ts
        assert await m.run(lambda tx: crons.begin(tx, due)) is True
        assert await m.run(lambda tx: crons.begin(tx, due)) is False
        await m.crons(a=DailySchedule(hour=10, minute=0))
        assert (await m.next("a")).ts == due.ts and (await m.next("a")).running
        await m.end(due)
        assert (await m.next("a")).ts == START + 10 * 3600 * NS
        await m.end(due)  # A second end of the same run is nobody's.
        assert len(await m.logs(due)) == 1

    with_model(tmp_path, body)


def test_runs_are_logged_and_missed_ones_noted(tmp_path: Path) -> None:
    async def body(m: Model) -> None:
        await m.crons(a=IntervalSchedule(seconds=60))
        first = await m.next("a")
        await m.end(first, lines=("[LOG] 'hello'",))
        second = await m.next("a")
        assert (second.previous_ts, second.ts) == (START, START + 60 * NS)
        m.clock.forward(3600)
        await m.end(second, error="Uncaught Error: no")
        third = await m.next("a")
        assert third.ts == START + 3600 * NS
        ok, failed, skipped = await m.logs(first)
        assert ok["status"] == {"type": "success", "result": {"type": "default", "value": '"fine"'}}
        assert (ok["ts"], ok["udfPath"], ok["executionTime"]) == (START, "m.js:f", 0.25)
        assert ok["logLines"] == {"logLines": ["[LOG] 'hello'"], "isTruncated": False}
        assert msgspec.json.decode(ok["udfArgs"]) == [{}]
        assert failed["status"] == {"type": "err", "error": "Uncaught Error: no"}
        assert skipped["status"] == {"type": "canceled", "num_canceled": 58}
        for _ in range(5):
            run = await m.next("a")
            m.clock.ns = run.ts
            await m.end(run, lines=("x" * 900, "y" * 900))
        logs = await m.logs(first)
        assert [log["ts"] for log in logs] == [third.ts + n * 60 * NS for n in range(5)]
        assert logs[0]["logLines"] == {"logLines": ["x" * 900], "isTruncated": True}
        assert (await m.crons()).deleted == ["a"]
        assert await m.logs(first) == []
        await m.end(third)  # The cron is gone: nothing to note.

    with_model(tmp_path, body)
