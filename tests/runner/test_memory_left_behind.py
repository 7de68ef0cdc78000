"""Memory that earlier calls left in a child is no fault of the call that finds it full."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.runner.host import Runner
from tests.runner.test_faults import PatientHost
from tests.runner.test_isolation import value_of
from tests.waiting import happens

pytestmark = pytest.mark.deno


@pytest.mark.parametrize("earlier_calls", [0, 1])
def test_only_the_first_call_of_a_child_filled_it(with_pool: Callable[..., None], earlier_calls: int) -> None:
    async def body(runner: Runner) -> None:
        for _ in range(earlier_calls):
            assert value_of(await runner.query("faults:fine")) == "fine"
        gate = asyncio.Event()
        hosts: list[PatientHost] = []

        def host() -> PatientHost:
            hosts.append(PatientHost(gate))
            return hosts[-1]

        call = asyncio.create_task(runner.mutation("faults:waits", host=host))
        await happens(lambda: hosts and hosts[0].begun, "its waiting for the host")
        runner.pool._isolates[0].kill("memory")
        gate.set()
        outcome = await call
        if earlier_calls:
            assert value_of(outcome) == 3
            assert len(hosts) == 2
        else:
            assert outcome.error is not None and outcome.error.kind == "memory"

    with_pool(body)
