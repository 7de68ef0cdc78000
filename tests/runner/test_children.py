"""What becomes of calls when children die, wear out or cannot be started: none waits for ever, none pays for another."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from cvx.backend.config import Limits
from cvx.backend.runner import ActionPool, FunctionOutcome, IsolatePool, NodePool, deno
from cvx.errors import CvxError
from tests.processes import alive
from tests.runner import test_node_pool
from tests.runner.action_host import Acting
from tests.runner.host import Host, Runner
from tests.runner.test_closing import ACTION, QUERY, functions
from tests.runner.test_faults import PatientHost

pytestmark = pytest.mark.deno
CODE = functions(QUERY)


def run(body: Callable[[Runner], Awaitable[None]], children: int = 1, **limits: Any) -> None:
    async def main() -> None:
        pool = IsolatePool(Limits(**limits), children)
        await pool.start()
        try:
            await body(Runner(pool, CODE))
        finally:
            await pool.close()

    asyncio.run(main())


async def soon(work: Awaitable[Any]) -> Any:
    """The result, which must come."""
    task = asyncio.ensure_future(work)
    await asyncio.wait({task}, timeout=60)
    assert task.done(), "it waits for ever"
    return task.result()


async def until(condition: Callable[[], bool]) -> None:
    async def watch() -> None:
        while not condition():
            await asyncio.sleep(0.01)

    await soon(watch())


def fine(outcome: FunctionOutcome) -> bool:
    assert outcome.error is None, outcome.error
    return outcome.value_json == b"1"


async def hold(runner: Runner, gate: asyncio.Event) -> asyncio.Future[Any]:
    """A call that is under way in its child until the gate opens."""
    entered = asyncio.Event()

    class Holding(PatientHost):
        def syscalls(self, batch: Any) -> Any:
            entered.set()
            return super().syscalls(batch)

    task = asyncio.ensure_future(runner.mutation("ask:f", host=lambda: Holding(gate)))
    await soon(entered.wait())
    return task


# ------------------------------------------------------------------------------- queries and mutations


def test_children_that_died_with_nothing_to_do() -> None:
    async def body(runner: Runner) -> None:
        await until(lambda: len(runner.pool._isolates) == 2)
        children = list(runner.pool._isolates)
        for isolate in children:
            os.kill(isolate.pid, signal.SIGKILL)
        await until(lambda: all(isolate.dead for isolate in children))
        assert fine(await soon(runner.query("fine:f")))
        await until(lambda: len(runner.pool._isolates) == 2)

    run(body, children=2)


def test_a_child_that_is_being_killed_takes_no_call() -> None:
    async def body(runner: Runner) -> None:
        runner.pool._isolates[0].kill("timeout")
        assert fine(await soon(runner.query("fine:f")))

    run(body)


def test_a_worn_child_is_watched_until_its_last_call_is_over() -> None:
    async def body(runner: Runner) -> None:
        gate = asyncio.Event()
        held = await hold(runner, gate)
        (worn,) = runner.pool._isolates
        looping = asyncio.ensure_future(runner.query("loop:f", deadline_ms=200.0))
        assert fine(await soon(runner.query("fine:f")))
        assert worn not in runner.pool._isolates, "it had its three calls"
        outcome = await soon(looping)
        assert outcome.error is not None and outcome.error.kind == "timeout"
        gate.set()
        assert fine(await soon(held))
        await until(lambda: not alive(worn.pid) and not runner.pool._leaving)

    run(body, runner_calls_per_child_life=3)


def test_closing_ends_calls_in_a_worn_child() -> None:
    async def body(runner: Runner) -> None:
        held = await hold(runner, asyncio.Event())
        (worn,) = runner.pool._isolates
        assert fine(await soon(runner.query("fine:f")))
        await until(lambda: worn not in runner.pool._isolates)
        await soon(runner.pool.close())
        with pytest.raises(CvxError) as caught:
            await soon(held)
        assert caught.value.code == "BackendStopping" and not alive(worn.pid)

    run(body, runner_calls_per_child_life=2)


def test_closing_ends_a_call_whose_child_died_and_whose_host_is_at_work() -> None:
    async def body(runner: Runner) -> None:
        held = await hold(runner, asyncio.Event())
        (dead,) = runner.pool._isolates
        os.kill(dead.pid, signal.SIGKILL)
        await until(lambda: dead not in runner.pool._isolates and bool(runner.pool._isolates))
        assert fine(await soon(runner.query("fine:f"))), "another has taken its place"
        await soon(runner.pool.close())
        with pytest.raises(CvxError) as caught:
            await soon(held)
        assert caught.value.code == "BackendStopping"

    run(body)


def test_a_place_is_not_lost_with_the_one_it_was_given_to() -> None:
    async def body(runner: Runner) -> None:
        gate = asyncio.Event()
        held = await hold(runner, gate)
        first, second = (asyncio.ensure_future(runner.query("fine:f")) for _ in range(2))
        await until(lambda: len(runner.pool._waiting) == 2)
        waiter, give = runner.pool._waiting[0], runner.pool._isolates_changed

        def give_and_cancel() -> None:
            give()
            if waiter.done():
                first.cancel()  # Before it can take what it was given.

        runner.pool._isolates_changed = give_and_cancel  # type: ignore[method-assign]
        gate.set()
        assert fine(await soon(held))
        assert fine(await soon(second))
        assert first.cancelled() and runner.pool._isolates[0].reserved == 0

    run(body, runner_calls_per_child_max=1)


def test_who_has_given_up_does_not_wait_any_more() -> None:
    async def body(runner: Runner) -> None:
        gate = asyncio.Event()
        held = await hold(runner, gate)
        for _ in range(5):
            waiting = asyncio.ensure_future(runner.query("fine:f"))
            await until(lambda: len(runner.pool._waiting) == 1)
            waiting.cancel()
            await asyncio.wait({waiting})
            assert waiting.cancelled()
        gate.set()
        assert fine(await soon(held))

    run(body, runner_calls_per_child_max=1, runner_calls_waiting_max=1)


def test_calls_run_in_turn() -> None:
    """One that comes when a place has become free does not take it from those that wait."""

    async def body(runner: Runner) -> None:
        gate = asyncio.Event()
        held = await hold(runner, gate)
        order: list[str] = []

        def host(name: str) -> Host:
            order.append(name)
            return Host()

        async def call(name: str) -> None:
            assert fine(await runner.mutation("ask:f", host=lambda: host(name)))

        late: list[asyncio.Future[None]] = []
        early = [asyncio.ensure_future(call(f"early {n}")) for n in range(3)]
        await until(lambda: len(runner.pool._waiting) == 3)
        give_back = runner.pool._give_back

        def come_late(isolate: Any) -> None:
            late.append(asyncio.ensure_future(call("late")))  # It runs before those that are woken now.
            runner.pool._give_back = give_back  # type: ignore[method-assign]
            give_back(isolate)

        runner.pool._give_back = come_late  # type: ignore[method-assign]
        gate.set()
        await soon(asyncio.gather(held, *early))
        await soon(late[0])
        assert order == ["early 0", "early 1", "early 2", "late"]

    run(body, runner_calls_per_child_max=1)


def test_an_open_realm_that_died_is_replaced_once() -> None:
    async def body(runner: Runner) -> None:
        assert fine(await soon(runner.query("patch:f")))
        (first,) = runner.pool._apart
        os.kill(first.pid, signal.SIGKILL)
        await until(lambda: first.dead)
        assert fine(await soon(runner.query("patch:f")))
        second = runner.pool._apart[-1]
        for _ in range(3):
            assert fine(await soon(runner.query("patch:f")))
            assert runner.pool._apart[-1] is second and not second.dead

    run(body)


def test_a_watch_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that cannot be looked at is one thing; the next that loops must still be ended."""
    real, failures = deno.resident_bytes, iter(range(3))

    def unlucky(pid: int) -> int | None:
        if next(failures, None) is not None:
            raise ValueError("no such file has ever been seen")
        return real(pid)

    monkeypatch.setattr(deno, "resident_bytes", unlucky)

    async def body(runner: Runner) -> None:
        outcome = await soon(runner.query("loop:f", deadline_ms=200.0))
        assert outcome.error is not None and outcome.error.kind == "timeout"
        assert next(failures, None) is None

    run(body)


# ------------------------------------------------------------------------------------- starts that fail


def failing(
    monkeypatch: pytest.MonkeyPatch, fails: Callable[[int], bool], start_one: str = "start_child"
) -> list[int]:
    """Let the starts fail that `fails` says, by number; the list grows with each."""
    real: Any = getattr(deno, start_one)
    starts: list[int] = []

    def start(path: Path, limits: Limits, *arguments: Any, **named: Any) -> Any:
        starts.append(len(starts))
        return real(Path("/bin/false") if fails(starts[-1]) else path, limits, *arguments, **named)

    monkeypatch.setattr(deno, start_one, start)
    return starts


def test_one_that_starts_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of them it is; and those that are missing are started later."""
    broken = [True]
    failing(monkeypatch, lambda number: number == 0 or (broken[0] and number > 1))

    async def body(runner: Runner) -> None:
        assert fine(await soon(runner.query("fine:f")))
        await until(lambda: not runner.pool._starting)
        assert len(runner.pool._isolates) == 1
        broken[0] = False
        await until(lambda: len(runner.pool._isolates) == 2)

    run(body, children=2, runner_start_attempts_max=2)


def test_none_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = failing(monkeypatch, lambda number: True)

    async def main() -> None:
        pool = IsolatePool(Limits(runner_start_attempts_max=2), 2)
        with pytest.raises(CvxError) as caught:
            await soon(pool.start())
        assert (
            caught.value.code == "FunctionRunnerFailed" and "did not start: it ended" in caught.value.message
        )
        assert len(starts) == 4 and pool._watcher is None and not pool._processes.living
        await soon(pool.close())

    asyncio.run(main())


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_there_is_no_such_program() -> None:
    async def main() -> None:
        pool = IsolatePool(Limits(runner_start_attempts_max=1), 1, Path("/nowhere/deno"))
        with pytest.raises(CvxError, match=r"did not start: .*No such file") as caught:
            await soon(pool.start())
        assert caught.value.code == "FunctionRunnerFailed"

    before = open_files()
    asyncio.run(main())
    assert open_files() <= before, "no file stays open"


def test_calls_that_wait_for_a_child_are_told_that_none_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = [False]
    failing(monkeypatch, lambda number: broken[0])

    async def body(runner: Runner) -> None:
        broken[0] = True
        os.kill(runner.pool._isolates[0].pid, signal.SIGKILL)
        await until(lambda: not runner.pool._isolates)
        with pytest.raises(CvxError) as caught:
            await soon(runner.query("fine:f"))
        assert caught.value.code == "FunctionRunnerFailed"
        broken[0] = False
        await until(lambda: bool(runner.pool._isolates))
        assert fine(await soon(runner.query("fine:f")))

    run(body, runner_start_attempts_max=1)


# ---------------------------------------------------------------------------------------------- actions


def test_an_action_child_that_nobody_waits_for_any_more() -> None:
    async def main() -> None:
        pool = ActionPool(Limits(action_child_idle_s=0.2))
        await pool.start()
        acting = Acting(pool, functions(ACTION))
        call = asyncio.ensure_future(acting.outcome("fine:f"))
        await until(lambda: pool._starting is not None)
        call.cancel()
        await until(lambda: pool.children == 1)
        await until(lambda: pool.children == 0)  # It was idle for long enough.
        assert await soon(acting.value("fine:f")) == 1
        await soon(pool.close())
        assert not pool._processes.living

    asyncio.run(main())


def test_an_action_shares_a_child_when_no_other_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = failing(monkeypatch, lambda number: number > 0, "start_action_child")

    async def main() -> None:
        pool = ActionPool(Limits(runner_start_attempts_max=1))
        await pool.start()
        acting = Acting(pool, functions(ACTION))
        assert await soon(acting.value("fine:f")) == 1
        (child,) = pool._children
        os.kill(child.process.pid, signal.SIGSTOP)
        child._ping(time.monotonic())
        await until(lambda: child.silent_s(time.monotonic()) > 0.1)
        call = asyncio.ensure_future(acting.value("fine:f"))
        await until(lambda: len(starts) == 2 and bool(child.running))
        os.kill(child.process.pid, signal.SIGCONT)
        assert await soon(call) == 1
        await soon(pool.close())

    asyncio.run(main())


def test_a_child_that_is_cleared_away_had_died_of_something_else() -> None:
    """What ended it is what ended it, though it is closed before it is buried."""

    async def main() -> None:
        pool = ActionPool(Limits())
        await pool.start()
        acting = Acting(pool, functions(ACTION))
        call = asyncio.ensure_future(acting.outcome("loop:f"))
        await until(lambda: bool(pool._children) and bool(pool._children[0].running))
        (child,) = pool._children
        child.process._ended()  # What the end of its output does.
        pool._end(child)  # What the watcher does when it looks just then.
        outcome = await soon(call)
        assert outcome.error is not None
        assert outcome.error.message == "The process that ran this action crashed"
        await soon(pool.close())

    asyncio.run(main())


def test_no_action_is_blamed_for_what_came_before_it(tmp_path: Path) -> None:
    """One that comes when a child has just been killed is not given to it."""

    async def main() -> None:
        actions = ActionPool(Limits())
        nodes = NodePool(Limits(), tmp_path / "node")
        for pool, code, path in (
            (actions, functions(ACTION), "fine:f"),
            (nodes, test_node_pool.bundle(), "m:pid"),
        ):
            await pool.start()
            acting = Acting(pool, code)  # type: ignore[arg-type]
            await soon(acting.value(path))
            (child,) = pool._children
            child.process.kill("timeout")
            await soon(acting.value(path))
            await soon(pool.close())

    asyncio.run(main())
