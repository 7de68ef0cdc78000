"""A function that loops, fills memory or kills its process fails alone; nothing stays behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from cvx.backend.config import Limits
from cvx.backend.runner import CodeBundle, FunctionOutcome, IsolatePool, Syscall, SyscallResult
from cvx.backend.runner.deno import child_arguments, cpu_seconds, find_deno, resident_bytes
from cvx.errors import CvxError
from tests.processes import still_alive
from tests.runner.host import Host, Runner, bundle_of, processes_of
from tests.runner.test_isolation import value_of
from tests.waiting import happens

pytestmark = pytest.mark.deno
WithPool = Callable[..., None]


class PatientHost(Host):
    """Its first attempts wait until `Gate.opened`, so that their call is under way when the child dies."""

    def __init__(self, gate: asyncio.Event) -> None:
        super().__init__()
        self.gate = gate
        self.begun = False

    def syscalls(self, batch: list[Syscall]) -> Awaitable[list[SyscallResult]]:
        self.begun = True

        async def later() -> list[SyscallResult]:
            await self.gate.wait()
            return [self.answer(syscall) for syscall in batch]

        return later()


async def survive(runner: Runner, culprit: Awaitable[FunctionOutcome], kind: str) -> None:
    """Run a culprit among innocents: some wait for their host until it is over, others come in all the time."""
    over = asyncio.Event()
    hosts: list[PatientHost] = []

    def host() -> Host:
        hosts.append(PatientHost(over))
        return hosts[-1]

    async def steady() -> None:
        while not over.is_set():
            assert value_of(await runner.query("faults:fine")) == "fine"
            await asyncio.sleep(0.02)

    patient = [asyncio.create_task(runner.mutation("faults:waits", host=host)) for _ in range(6)]
    others = asyncio.create_task(steady())
    await happens(lambda: sum(each.begun for each in hosts) == 6, "all six being under way")
    outcome = await culprit
    over.set()
    assert outcome.error is not None and outcome.error.kind == kind
    assert [value_of(await task) for task in patient] == [3] * 6
    await others
    assert len(hosts) == 12  # Each was started again, once, on a fresh host.


@pytest.mark.parametrize(
    "path", ["query faults:loop", "mutation faults:loopAfterAwait", "query faults:microtaskLoop"]
)
def test_an_endless_loop_fails_alone(with_pool: WithPool, path: str) -> None:
    kind, path = path.split()

    async def body(runner: Runner) -> None:
        culprit = runner.pool.run(runner.call(path, kind=kind), Host)  # type: ignore[arg-type]
        await survive(runner, culprit, "timeout")
        if path != "faults:loop":
            return
        alone = await runner.pool.run(runner.call(path, kind=kind), Host)  # type: ignore[arg-type]
        assert alone.error is not None
        assert alone.error.message == "Function execution timed out (maximum duration: 1s)"
        assert alone.error.kind == "timeout"

    with_pool(body)


@pytest.mark.parametrize(
    "path", ["query faults:memory", "query faults:memoryAtOnce", "mutation faults:memoryAcrossAwait"]
)
def test_a_full_heap_fails_alone(with_pool: WithPool, path: str) -> None:
    kind, path = path.split()

    async def body(runner: Runner) -> None:
        call = runner.call(path, kind=kind, deadline_ms=20_000.0)  # type: ignore[arg-type]
        await survive(runner, runner.pool.run(call, Host), "memory")
        if path != "faults:memory":
            return
        outcome = await runner.pool.run(call, Host)
        assert outcome.error is not None
        assert "ran out of memory (maximum memory usage: 64 MB)" in outcome.error.message

    with_pool(body)


def test_buffers_outside_the_heap_are_limited(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        outcome = await runner.query("faults:buffers", deadline_ms=20_000.0)
        assert outcome.error is not None
        assert "Array buffer allocation failed" in outcome.error.message or outcome.error.kind == "memory"
        assert value_of(await runner.query("faults:fine")) == "fine"

    with_pool(body)


def test_calls_survive_a_killed_child(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        gate = asyncio.Event()
        patient = partial(PatientHost, gate)
        calls = [asyncio.create_task(runner.mutation("faults:waits", host=patient)) for _ in range(30)]
        for _ in range(2):
            await asyncio.sleep(0.2)
            for pid in processes_of():
                os.kill(pid, signal.SIGKILL)
        gate.set()
        assert [value_of(await call) for call in calls] == [3] * 30

    with_pool(body, children=2)


def test_a_hanging_child_is_ended(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        (pid,) = processes_of()
        os.kill(pid, signal.SIGSTOP)
        outcomes = await asyncio.gather(*(runner.query("faults:fine", deadline_ms=1_000.0) for _ in range(5)))
        assert [value_of(outcome) for outcome in outcomes] == ["fine"] * 5
        assert pid not in processes_of()

    with_pool(body)


def test_time_that_others_have_the_cpu_is_not_a_functions_own(with_pool: WithPool) -> None:
    """A child stopped while it computes is what a busy machine is: time passes, and it has none of it."""

    async def body(runner: Runner) -> None:
        (pid,) = processes_of()
        before = cpu_seconds(pid)
        assert before is not None
        call = asyncio.create_task(runner.query("faults:computes", deadline_ms=2_500.0))
        await happens(lambda: (cpu_seconds(pid) or 0) > before + 0.03, "the function computes")
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(4)
        assert not call.done()
        os.kill(pid, signal.SIGCONT)
        outcome = await call
        assert outcome.error is None, outcome.error
        assert outcome.user_time_ms < 2_500
        assert processes_of() == [pid]

    with_pool(body, children=1)


def test_a_push_that_loops_is_refused(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        outcome = await runner.query("loops:x")
        assert outcome.error is not None and outcome.error.kind == "timeout"
        assert value_of(await runner.query("faults:fine")) == "fine"

    with_pool(body)


def test_closing_leaves_no_process(bundle: CodeBundle) -> None:
    async def main() -> None:
        pool = IsolatePool(Limits(), 2)
        await pool.start()
        runner = Runner(pool, bundle)
        stuck = asyncio.create_task(runner.query("faults:loop"))
        patient = partial(PatientHost, asyncio.Event())
        waiting = asyncio.create_task(runner.mutation("faults:waits", host=patient))
        await asyncio.sleep(0.1)
        await pool.close()
        for task in (stuck, waiting):
            with pytest.raises(CvxError) as caught:
                await task
            assert caught.value.kind == "unavailable"
        assert processes_of() == []
        with pytest.raises(CvxError):
            await runner.query("faults:fine")

    asyncio.run(main())


PARENT = """
import asyncio, sys
from cvx.backend.config import Limits
from cvx.backend.runner import IsolatePool
from tests.runner.host import Host, Runner, bundle_of, processes_of
from dataclasses import replace

SOURCE = (
    "var f = Object.assign(async () => 0, {isQuery: true, isPublic: true, invokeQuery: async () => { for (;;); }});"
    "export { f };"
)

async def main():
    pool = IsolatePool(replace(Limits(), runner_cpu_lease_s=1.0), 2)
    await pool.start()
    runner = Runner(pool, bundle_of(loop=SOURCE))
    calls = [asyncio.create_task(runner.query("loop:f", deadline_ms=60_000.0)) for _ in range(2)]
    await asyncio.sleep(0.3)
    print(*processes_of(), flush=True)
    await asyncio.gather(*calls)

asyncio.run(main())
"""


def test_children_end_when_their_parent_is_killed() -> None:
    root = Path(__file__).parent.parent.parent
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, cwd=root, env={**os.environ}
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    left = still_alive(pids, 20)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == set()


def test_children_are_replaced_when_worn(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        before = processes_of()
        outcomes = await asyncio.gather(*(runner.query("faults:fine") for _ in range(300)))
        assert [value_of(outcome) for outcome in outcomes] == ["fine"] * 300
        assert value_of(await runner.query("faults:fine")) == "fine"
        assert await asyncio.to_thread(still_alive, before) == set()

    with_pool(body, runner_calls_per_child_life=100, runner_calls_per_child_max=8)


def test_many_pushes_leave_children_no_larger(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        plain = runner.bundle
        sizes = []
        for push in range(60):
            runner.bundle = CodeBundle(f"push-{push}", plain.modules)
            assert value_of(await runner.query("faults:fine")) == "fine"
            (isolate,) = runner.pool._isolates
            sizes.append(len(isolate._memory._bundles))
        assert max(sizes) <= Limits().runner_bundles_per_child_max

        def big(push: int) -> str:
            body = (
                "Object.assign(async () => 0, {isQuery: true, isPublic: true, invokeQuery: async () => '1'})"
            )
            return f"var pad = {json.dumps('x' * 500_000 + str(push))}; var f = {body}; export {{ f }};"

        for push in range(60):  # 30 MB of sources in all; a child keeps eight of them.
            runner.bundle = bundle_of(big=big(push))
            assert value_of(await runner.query("big:f")) == 1
        runner.bundle = plain
        await asyncio.gather(*(runner.query("faults:fine") for _ in range(200)))
        assert sum(resident_bytes(pid) or 0 for pid in processes_of()) < 300 << 20

    with_pool(body)


def test_a_child_may_do_nothing() -> None:
    arguments = child_arguments(find_deno(), Limits())
    assert not [argument for argument in arguments if argument.startswith(("--allow", "-A"))]
    assert {"--no-prompt", "--no-remote", "--no-npm", "--no-config", "--no-lock"} <= set(arguments)
    assert any("--disallow-code-generation-from-strings" in argument for argument in arguments)


def test_too_many_waiting_calls_are_refused(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        gate = asyncio.Event()
        patient = partial(PatientHost, gate)
        calls = [asyncio.create_task(runner.mutation("faults:waits", host=patient)) for _ in range(12)]
        await asyncio.sleep(0.2)
        gate.set()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        refused = [o for o in outcomes if isinstance(o, CvxError)]
        assert {error.kind for error in refused} == {"overloaded"} and len(refused) == 2
        assert len([o for o in outcomes if isinstance(o, FunctionOutcome)]) == 10

    with_pool(body, runner_calls_per_child_max=4, runner_calls_waiting_max=6)
