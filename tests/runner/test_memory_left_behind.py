"""Memory that earlier calls left in a child is no fault of the call that finds it full."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.runner.host import Runner, bundle_of, processes_of
from tests.runner.test_isolation import value_of

pytestmark = pytest.mark.deno
MIB = 1 << 20


def test_a_call_that_fits_alone_is_run_alone(with_pool: Callable[..., None]) -> None:
    text = "x" * (8 * MIB)
    source = """
      const text = "TEXT";
      const run = async () => JSON.stringify(text.length);
      export const size = Object.assign(() => {}, { isQuery: true, isPublic: true, invokeQuery: run });
    """

    async def body(runner: Runner) -> None:
        children = set(processes_of())
        for n in range(8):  # Code of all of them together is more than a heap holds.
            bundle = bundle_of(big=f"// {n}\n" + source.replace("TEXT", text))
            assert value_of(await runner.query("big:size", bundle=bundle)) == 8 * MIB
        assert children != set(processes_of()), "no child ran out of memory: the test proves nothing"

    with_pool(body, runner_heap_bytes_max=48 * MIB)
