"""A pool that is closed leaves no process, whatever was under way: also what was only just being started.

Deno is slow to start here (a script that sleeps first), and so is starting it (a thread that sleeps before and after), and
the pool is closed at moments that a seed decides.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import stat
import subprocess
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from cvx.backend.config import Limits
from cvx.backend.runner import (
    ActionPool,
    AnalyzeRequest,
    CodeBundle,
    FunctionOutcome,
    IsolatePool,
    NodePool,
    deno,
)
from cvx.backend.runner.action_pool import isolate_profile
from cvx.errors import CvxError
from tests.processes import children_of, still_alive
from tests.runner import test_node_pool
from tests.runner.action_host import Acting, ActingHost
from tests.runner.host import IMPORT_MS, SEED, Runner, bundle_of

pytestmark = pytest.mark.deno
PATIENCE_S = 60.0

QUERY = "Object.assign(async () => 0, {isQuery: true, isPublic: true, invokeQuery: async () => { %s }})"
MUTATION = (
    "Object.assign(async () => 0, {isMutation: true, isPublic: true, invokeMutation: async () => { %s }})"
)
ACTION = "Object.assign(async () => 0, {isAction: true, isPublic: true, invokeAction: async () => { %s }})"
_ASK = """await Convex.asyncSyscall("1.0/insert", '{"table":"t","value":{}}'); return "1";"""


def functions(template: str) -> CodeBundle:
    """`fine:f`, `loop:f` and `patch:f` of one kind; `ask:f` is a mutation that asks for something."""
    bodies = {"fine": 'return "1"', "loop": "for (;;);", "patch": 'Array.prototype.mine = 1; return "1"'}
    texts = {name: template % body for name, body in bodies.items()} | {"ask": MUTATION % _ASK}
    return bundle_of(**{name: f"var f = {text}; export {{ f }};" for name, text in texts.items()})


class Machine:
    """Where starting a process is slow; it knows every process that was started."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.groups: list[int] = []
        self.random = random.Random(0)
        self._before = children_of(os.getpid())
        self._script = folder / "slow-deno"
        self._real = deno.find_deno()
        monkeypatch.setattr(deno, "find_deno", lambda: self._script)
        for name in ("start_child", "start_action_child", "start_node_child"):
            monkeypatch.setattr(deno, name, self._slowly(getattr(deno, name)))

    def be(self, seed: int) -> None:
        """As slow as `seed` says, and as it was before with that seed."""
        self.random = random.Random(seed)
        pause = f"sleep {self.random.uniform(0.0, 0.3):.3f}"
        install = '[ "$1" = install ] && sleep 600'
        self._script.write_text(f'#!/bin/sh\n{install}\n{pause}\nexec "{self._real}" "$@"\n')
        self._script.chmod(self._script.stat().st_mode | stat.S_IXUSR)

    def _slowly(self, start: Callable[..., subprocess.Popen[bytes]]) -> Callable[..., Any]:
        def slow(*arguments: Any, **named: Any) -> subprocess.Popen[bytes]:
            time.sleep(self.random.uniform(0.0, 0.1))
            process = start(*arguments, **named)
            self.groups.append(process.pid)
            time.sleep(self.random.uniform(0.0, 0.1))
            return process

        return slow

    def left(self) -> set[int]:
        """Processes of any group that was started here, and whatever else this process started meanwhile."""
        found = children_of(os.getpid()) - self._before
        for entry in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = entry.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z" and int(fields[2]) in self.groups:
                found.add(int(entry.parent.name))
        return found


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


async def closed(machine: Machine, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
    closing = asyncio.ensure_future(close())
    await asyncio.wait({closing}, timeout=PATIENCE_S)
    assert closing.done(), "closing does not end"
    closing.result()
    assert machine.left() & set(machine.groups) == set()
    # What only such a script has started is killed with it, but it is the system that buries it.
    assert await asyncio.to_thread(still_alive, machine.left()) == set()


async def ended(calls: Sequence[asyncio.Future[Any]], failures: set[str]) -> None:
    """Every call ends, and when it fails, then because the backend stops (or as `failures` says)."""
    if calls:
        await asyncio.wait(calls, timeout=PATIENCE_S)
    for call in calls:
        assert call.done(), "a call waits for ever"
        if call.cancelled():
            continue
        error = call.exception()
        if error is not None:
            assert isinstance(error, CvxError) and error.code == "BackendStopping", repr(error)
        elif getattr(call.result(), "error", None) is not None:
            assert call.result().error.kind in failures, call.result().error


def seeds(quick: int, thorough: int) -> list[Any]:
    return [*range(quick), *(pytest.param(n, marks=pytest.mark.long) for n in range(quick, thorough))]


@pytest.mark.parametrize("seed", seeds(6, 150))
def test_functions(slow: Machine, seed: int) -> None:
    slow.be(seed)
    code = functions(QUERY)

    async def main() -> None:
        pool = IsolatePool(Limits(runner_calls_per_child_life=8, runner_calls_per_child_max=4), 2)
        runner, choose = Runner(pool, code), random.Random(seed)
        starting: asyncio.Future[Any] = asyncio.ensure_future(pool.start())
        calls: list[asyncio.Future[Any]] = [starting]
        if seed % 3:
            await asyncio.wait({starting})
            for _ in range(30):
                path = choose.choice(["fine:f", "fine:f", "loop:f", "patch:f"])
                calls.append(asyncio.ensure_future(runner.query(path, deadline_ms=100.0)))
            await asyncio.sleep(choose.uniform(0, 0.5))
            if seed % 2:
                kill_one(slow, choose)
            choose.choice(calls).cancel()
        await asyncio.sleep(choose.uniform(0, 0.5))
        await closed(slow, pool.close)
        await ended(calls, {"timeout"})
        with pytest.raises(CvxError) as caught:
            await runner.query("fine:f")
        assert caught.value.code == "BackendStopping"

    asyncio.run(main())
    assert still_alive(slow.left()) == set()


def kill_one(machine: Machine, choose: random.Random) -> None:
    """One that is to be replaced then."""
    try:
        os.kill(choose.choice(machine.groups), signal.SIGKILL)
    except ProcessLookupError:
        return


@pytest.mark.parametrize("seed", seeds(5, 150))
def test_actions(slow: Machine, seed: int) -> None:
    slow.be(seed)
    code = functions(ACTION)

    async def main() -> None:
        limits = Limits(action_child_life_calls=4, actions_per_child_max=2)
        pool = ActionPool(limits, isolate_profile(limits, deno.find_deno()))
        await pool.start()
        acting, choose = Acting(pool, code), random.Random(seed)
        calls: list[asyncio.Future[Any]] = []
        for _ in range(8):
            path = choose.choice(["fine:f", "fine:f", "loop:f", "patch:f"])
            calls.append(asyncio.ensure_future(acting.outcome(path, deadline_s=0.3)))
            await asyncio.sleep(choose.choice([0.0, 0.0, 0.1]))
        await asyncio.sleep(choose.uniform(0, 0.6))
        if seed % 2:
            for call in calls:  # Nobody waits any more for what is being started.
                call.cancel()
            await asyncio.sleep(choose.uniform(0, 0.05))
        await closed(slow, pool.close)
        await ended(calls, {"timeout", "crash"})
        with pytest.raises(CvxError) as caught:
            await acting.outcome("fine:f")
        assert caught.value.code == "BackendStopping"

    asyncio.run(main())
    assert still_alive(slow.left()) == set()


@pytest.mark.parametrize("seed", seeds(5, 150))
def test_use_node(slow: Machine, seed: int, tmp_path: Path) -> None:
    slow.be(seed)

    async def main() -> None:
        pool = NodePool(Limits(node_children_max=2), tmp_path / "node")
        await pool.start()
        nodes, choose = (
            test_node_pool.Nodes(pool, test_node_pool.bundle(), tmp_path / "node"),
            random.Random(seed),
        )
        request = AnalyzeRequest(nodes.bundle, ("m.js",), {}, IMPORT_MS, SEED)
        begin: list[Callable[[], Awaitable[Any]]] = [
            lambda: nodes.outcome("m:pid"),
            lambda: nodes.outcome("m:spin", deadline_s=0.2),
            lambda: nodes.outcome("m:pid", env={"A": str(choose.random())}),
            lambda: pool.analyze(request),
            lambda: pool.prepare((("left-pad", f"1.{choose.randrange(9)}.0"),)),
        ]
        calls = [asyncio.ensure_future(choose.choice(begin)()) for _ in range(6)]
        await asyncio.sleep(choose.uniform(0, 0.8))
        if seed % 2:
            for call in choose.sample(calls, 3):
                call.cancel()
        await closed(slow, pool.close)
        assert list((tmp_path / "node").glob("tmp/*")) == []
        assert list((tmp_path / "node").glob("packages/.*-*")) == [], "drafts of packages"
        await ended(calls, {"timeout"})
        for late in begin:
            with pytest.raises(CvxError) as caught:
                await late()
            assert caught.value.code == "BackendStopping"

    asyncio.run(main())
    assert still_alive(slow.left()) == set()


def test_a_start_that_is_cancelled(slow: Machine) -> None:
    """Nobody has been told of a process then that a thread is only just starting."""
    slow.be(1)

    async def main() -> None:
        pool = IsolatePool(Limits(), 2)
        starting = asyncio.ensure_future(pool.start())
        await asyncio.sleep(0.01)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await closed(slow, pool.close)

    asyncio.run(main())
    assert len(slow.groups) == 2 and still_alive(slow.left()) == set()


def test_closing_that_is_cancelled(slow: Machine) -> None:
    """Who is in a hurry leaves processes that are dying, and none that lives."""
    slow.be(1)

    async def main() -> None:
        pool = IsolatePool(Limits(), 2)
        await pool.start()
        closing = asyncio.ensure_future(pool.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait({closing}, timeout=PATIENCE_S)
        await closed(slow, pool.close)

    asyncio.run(main())


def test_outcomes_are_outcomes(slow: Machine) -> None:
    """The functions of this file do run where processes are slow to start."""
    slow.be(2)

    async def main() -> None:
        pool = IsolatePool(Limits(), 1)
        await pool.start()
        runner = Runner(pool, functions(QUERY))
        kinds = {
            path: await runner.query(path, deadline_ms=500.0) for path in ("fine:f", "patch:f", "loop:f")
        }
        assert all(isinstance(outcome, FunctionOutcome) for outcome in kinds.values())
        assert kinds["fine:f"].value_json == kinds["patch:f"].value_json == b"1"
        assert kinds["loop:f"].error is not None and kinds["loop:f"].error.kind == "timeout"
        await closed(slow, pool.close)
        actions = ActionPool(Limits())
        await actions.start()
        acting = Acting(actions, functions(ACTION))
        for path in ("fine:f", "patch:f"):
            assert await acting.value(path, host=ActingHost()) == 1
        await closed(slow, actions.close)

    asyncio.run(main())
