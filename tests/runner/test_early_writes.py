"""Writes settled before they are sent: fewer frames, the same order, and never another outcome."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cvx.backend.runner import FunctionOutcome, Syscall, SyscallFailure, SyscallResult
from cvx.backend.runner.isolate import Isolate
from cvx.backend.runner.messages import Done, SyscallsIssued
from tests.runner.host import Host, Runner
from tests.runner.test_isolation import value_of

pytestmark = pytest.mark.deno
WithPool = Callable[..., None]
WRITES = ("1.0/shallowMerge", "1.0/replace", "1.0/remove")
EARLY = 16


class Conflict(Exception):
    pass


class WritableHost(Host):
    """Takes writes, but refuses those that say so."""

    def answer(self, syscall: Syscall) -> SyscallResult:
        if syscall.op not in WRITES:
            return super().answer(syscall)
        self.asked.append((syscall.op, syscall.args))
        if b'"raises"' in syscall.args:
            raise Conflict
        return SyscallFailure("this write is refused") if b'"refused"' in syscall.args else b"null"


class SlowWritableHost(WritableHost):
    def syscalls(self, batch: list[Syscall]) -> Awaitable[list[SyscallResult]]:
        async def later() -> list[SyscallResult]:
            await asyncio.sleep(0)
            return [self.answer(syscall) for syscall in batch]

        return later()


@pytest.fixture
def frames(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What children ask or say for executions, in order: "s" and "d"."""
    seen: list[str] = []
    handle = Isolate._handle

    def noting(self: Isolate, message: Any, payload: list[bytes]) -> None:
        if isinstance(message, (SyscallsIssued, Done)):
            seen.append("s" if isinstance(message, SyscallsIssued) else "d")
        handle(self, message, payload)

    monkeypatch.setattr(Isolate, "_handle", noting)
    return seen


async def run(
    runner: Runner, path: str, args: Any = None, early: int = EARLY, host: type[WritableHost] = WritableHost
) -> tuple[FunctionOutcome, list[WritableHost]]:
    """The outcome, and the hosts of all attempts."""
    hosts: list[WritableHost] = []

    def factory() -> WritableHost:
        hosts.append(host())
        return hosts[-1]

    raw = json.dumps(args or {}).encode()
    outcome = await runner.mutation(f"writes:{path}", raw, factory, early_writes_max=early)
    return outcome, hosts


def told(outcome: FunctionOutcome) -> Any:
    lines = [(line.level, line.messages) for line in outcome.log_lines]
    observed = outcome.observed_time, outcome.observed_random, outcome.env_read
    return outcome.value_json, outcome.error, lines, observed


@pytest.mark.parametrize(
    ("path", "args", "attempts"),
    [
        ("plainWrites", {"count": 3}, 1),
        ("plainWrites", {"count": 100}, 1),
        ("together", {"count": 5}, 1),
        ("together", {"count": 40}, 1),
        ("mixed", {}, 1),
        ("logsAndLooks", {}, 2),
        ("writesAfterDigest", {}, 1),
        ("patchesWhatItReads", {}, 1),
        ("neverSettlesAfterWrite", {}, 1),
        ("refusedThenRaises", {}, 2),
    ],
)
def test_the_outcome_and_what_the_host_was_asked_are_the_same(
    with_pool: WithPool, path: str, args: Any, attempts: int
) -> None:
    async def body(runner: Runner) -> None:
        strict, (asked,) = await run(runner, path, args, early=0)
        early, hosts = await run(runner, path, args)
        assert told(early) == told(strict)
        assert len(hosts) == attempts
        assert (hosts[-1].asked, hosts[-1].read) == (asked.asked, asked.read)
        slow, _ = await run(runner, path, args, host=SlowWritableHost)
        assert told(slow) == told(strict)

    with_pool(body)


def test_writes_travel_in_front_of_what_must_be_sent(with_pool: WithPool, frames: list[str]) -> None:
    async def body(runner: Runner) -> None:
        await run(runner, "mixed", early=0)
        assert "".join(frames) == "sssssssd"
        frames.clear()
        _, (host,) = await run(runner, "mixed")
        assert "".join(frames) == "sssd"
        assert host.ops == ["get", "shallowMerge", "replace", "get", "remove", "insert", "shallowMerge"]

    with_pool(body)


def test_not_too_many_are_outstanding(with_pool: WithPool, frames: list[str]) -> None:
    async def body(runner: Runner) -> None:
        await run(runner, "plainWrites", {"count": EARLY})
        assert "".join(frames) == "d"
        frames.clear()
        await run(runner, "plainWrites", {"count": 2 * (EARLY + 1)})
        assert "".join(frames) == "ssd"
        frames.clear()
        await run(runner, "together", {"count": EARLY + 1})
        assert "".join(frames) == "sd"

    with_pool(body)


def test_a_refused_write_runs_the_call_again_and_leaves_no_trace(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        outcome, hosts = await run(runner, "logsAndLooks")
        assert [line.messages for line in outcome.log_lines] == [("'before'",), ("'after'",)]
        assert (outcome.observed_time, outcome.observed_random, outcome.env_read) == (
            False,
            False,
            frozenset(),
        )
        assert [host.ops for host in hosts] == [["shallowMerge"]] * 2

    with_pool(body)


def test_what_kills_a_child_behind_a_refused_write_does_not_decide(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        for path in ("caughtThenLoops", "caughtThenFills"):
            outcome, _ = await run(runner, path)
            assert value_of(outcome) == "this write is refused"
        outcome, _ = await run(runner, "endlessWrites")
        assert outcome.error is not None and outcome.error.kind == "timeout"
        assert value_of(await runner.query("faults:fine")) == "fine"

    with_pool(body)


def test_queries_are_told_what_became_of_it(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        outcome = await runner.pool.run(runner.call("writes:patchesInAQuery"), WritableHost)
        assert value_of(outcome) == "this write is refused"

    with_pool(body)
