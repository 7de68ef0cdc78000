"""Many calls at once on a child that knows no source yet: each source comes once, and the child lives."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from cvx.backend.config import Limits
from cvx.backend.runner import messages
from cvx.backend.runner.child_memory import ChildMemory
from tests.runner.host import Host, Runner, bundle_of, processes_of
from tests.runner.test_isolation import value_of


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the source of each path was sent to a child."""
    times: Counter[str] = Counter()
    real = messages.source_message

    def counted(sha256: str, path: str, source: bytes, source_map: bytes | None) -> bytes:
        times[path] += 1
        return real(sha256, path, source, source_map)

    monkeypatch.setattr(messages, "source_message", counted)
    return times


@pytest.mark.deno
@pytest.mark.parametrize("calls", [32, 64])
def test_a_burst_on_a_fresh_child(with_pool: Callable[..., None], sent: Counter[str], calls: int) -> None:
    async def body(runner: Runner) -> None:
        (isolate,) = runner.pool._isolates
        before = processes_of()
        outcomes = await asyncio.gather(
            *(runner.mutation("plain:send", b'{"body":"x"}') for _ in range(calls - 8)),
            *(runner.query("faults:fine") for _ in range(8)),
        )
        assert [value_of(outcome) for outcome in outcomes[calls - 8 :]] == ["fine"] * 8
        assert all(outcome.error is None for outcome in outcomes)
        assert processes_of() == before
        assert isolate.started_calls == calls  # None was started again.
        assert {"plain.js", "faults.js"} < set(sent)
        assert set(sent.values()) == {1}

    with_pool(body)


@pytest.mark.deno
def test_calls_that_waited_together_are_not_taken_for_a_loop(with_pool: Callable[..., None]) -> None:
    export = "Object.assign(async () => 0, {isQuery: true, isPublic: true, invokeQuery: async () => '1'})"
    slow = "let x = 0; for (let i = 0; i < 1e8; i++) x ^= i;"  # Some 40 ms, by each call.

    async def body(runner: Runner) -> None:
        before = processes_of()
        runner.bundle = bundle_of(slow=f"{slow} var f = {export}; export {{ f }};")
        outcomes = await asyncio.gather(*(runner.query("slow:f") for _ in range(60)))
        assert [value_of(outcome) for outcome in outcomes] == [1] * 60
        assert processes_of() == before

    with_pool(body)


@pytest.mark.deno
def test_bundles_that_share_a_source(with_pool: Callable[..., None], sent: Counter[str]) -> None:
    async def body(runner: Runner) -> None:
        first = runner.bundle
        second = replace(first, key="another push")
        calls = [replace(runner.call("faults:fine"), bundle=b) for b in [first, second] * 16]
        outcomes = await asyncio.gather(*(runner.pool.run(call, Host) for call in calls))
        assert [value_of(outcome) for outcome in outcomes] == ["fine"] * 32
        assert max(sent.values()) <= 2  # Once for each bundle.

    with_pool(body)


def test_sources_of_a_forgotten_bundle_are_not_sent() -> None:
    out: list[bytes] = []
    memory = ChildMemory(replace(Limits(), runner_bundles_per_child_max=1), out.append)
    old, new = bundle_of(a="export {};"), bundle_of(b="export {};")
    memory.know_bundle(old, lambda: ())
    memory.know_bundle(new, lambda: ())
    out.clear()
    memory.send_sources(messages.SourcesNeeded(1, old.key, ["a.js"]))
    assert out == []
    memory.send_sources(messages.SourcesNeeded(2, new.key, ["b.js"]))
    assert len(out) == 2
