"""What is learnt from conflicts, and what is not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cvx.backend.functions.conflict_memory import ConflictMemory
from cvx.values import FunctionPath
from tests.functions.deployment import App, Deployment
from tests.functions.test_calls import run

TRANSFER = FunctionPath.parse("bank:transfer")
OTHER = FunctionPath.parse("bank:other")
HOT, COLD = (7, b"hot"), (7, b"cold")


def transfer(source: str, target: str) -> dict[str, Any]:
    return {"from": source, "to": target, "amount": 1.0, "note": None, "tags": ["x"]}


def test_conflicts_that_agree_are_expected_again() -> None:
    memory = ConflictMemory(100)
    for number in range(3):
        memory.learn(TRANSFER, transfer("a", f"other{number}"), [HOT, (7, b"%d" % number)])
        assert memory.expect(TRANSFER, transfer("a", "z")) == set()  # Too few to go by.
    memory.learn(TRANSFER, transfer("a", "b"), [HOT, COLD])
    assert HOT in memory.expect(TRANSFER, transfer("a", "z"))
    assert COLD not in memory.expect(TRANSFER, transfer("a", "z"))
    assert memory.expect(OTHER, transfer("a", "z")) == set()


def test_conflicts_that_disagree_are_not() -> None:
    memory = ConflictMemory(100)
    for number in range(20):
        memory.learn(TRANSFER, {"from": "a"}, [HOT] if number % 2 else [COLD])
    assert memory.expect(TRANSFER, {"from": "a"}) == set()
    assert memory.expect(TRANSFER, {"from": "b"}) == set()


def test_a_function_without_plain_arguments_has_one_memory() -> None:
    memory = ConflictMemory(100)
    for _ in range(4):
        memory.learn(TRANSFER, {}, [HOT])
    assert memory.expect(TRANSFER, {}) == {HOT}
    assert memory.expect(TRANSFER, {"nested": {"a": 1.0}}) == {HOT}
    assert memory.expect(TRANSFER, {"from": "a"}) == set()


def test_old_conflicts_lose_weight() -> None:
    memory = ConflictMemory(100)
    for _ in range(60):
        memory.learn(TRANSFER, {"from": "a"}, [COLD])
    for _ in range(300):
        memory.learn(TRANSFER, {"from": "a"}, [HOT])
    assert memory.expect(TRANSFER, {"from": "a"}) == {HOT}


def test_it_is_bounded() -> None:
    memory = ConflictMemory(10)
    for number in range(1000):
        for _ in range(4):
            memory.learn(TRANSFER, {"from": float(number)}, [(7, b"%d" % number)])
    assert memory.expect(TRANSFER, {"from": 999.0}) == {(7, b"999")}
    assert memory.expect(TRANSFER, {"from": 0.0}) == set()
    assert memory.expect(OTHER, {"from": 999.0}) == set()


@pytest.mark.deno
def test_a_hot_row_stops_causing_conflicts(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        def conflicts() -> int:
            calls, _ = d.executor.log.calls(0)
            return sum(1 for call in calls if call.conflict is not None)

        async def burst(size: int) -> None:
            await asyncio.gather(*(d.mutation("bank:increment", {"name": "hot"}) for _ in range(size)))

        await burst(16)
        learnt = conflicts()
        assert learnt >= 8  # They all ran at once, knowing nothing.
        await burst(48)
        assert conflicts() - learnt <= 8
        assert await d.mutation("bank:increment", {"name": "hot"}) == 65.0

    run(tmp_path, app, body)
