"""Nothing of one execution is seen by another; what user code may not have is not there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cvx.backend.runner import FunctionOutcome, Syscall, SyscallResult
from tests.runner.host import IMPORT_MS, NOW_MS, Host, Runner

pytestmark = pytest.mark.deno
WithPool = Callable[..., None]


def value_of(outcome: FunctionOutcome) -> Any:
    assert outcome.error is None, outcome.error
    assert outcome.value_json is not None
    return json.loads(outcome.value_json)


class SlowHost(Host):
    """Answers after a turn of the loop, so that executions of one child interleave."""

    def syscalls(self, batch: list[Syscall]) -> Awaitable[list[SyscallResult]]:
        async def later() -> list[SyscallResult]:
            await asyncio.sleep(0.002)
            return [self.answer(syscall) for syscall in batch]

        return later()


def test_module_state_is_fresh_each_time(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        outcomes = await asyncio.gather(*(runner.query("state:moduleState") for _ in range(20)))
        assert [value_of(outcome) for outcome in outcomes] == [[1, 1]] * 20
        # Also of shared chunks, and where real module records are needed.
        assert [value_of(await runner.query("shared:count")) for _ in range(3)] == [1, 1, 1]
        assert [value_of(await runner.query("live:bump")) for _ in range(3)] == [[1, 1]] * 3

    with_pool(body)


def test_globals_stay_with_their_execution_while_others_run(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        calls = [
            runner.mutation("state:globalState", json.dumps({"value": n}).encode(), SlowHost)
            for n in range(20)
        ]
        values = [value_of(outcome) for outcome in await asyncio.gather(*calls)]
        assert values == [[[None, "undefined"], n, n, n] for n in range(20)]
        assert value_of(await runner.mutation("state:globalState", b'{"value":1}'))[0] == [None, "undefined"]

    with_pool(body)


def test_replaced_web_globals_stay_with_their_execution(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        calls = [runner.mutation("state:replacedGlobal", host=SlowHost) for _ in range(5)]
        for outcome in await asyncio.gather(*calls):
            assert value_of(outcome) == [False, "mine", None]
            assert outcome.log_lines == []  # Its own console.log was replaced…
        outcome = await runner.query("consoles:lines")
        assert len(outcome.log_lines) > 5  # …and nobody else's.

    with_pool(body)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("state:prototypes", ["undefined", 1]),
        ("state:mathematics", [None, 4, "set"]),
        ("state:bigintJson", ["undefined", '{"a":"big"}']),
        ("state:regexpStatics", None),
        ("state:stackTraceLimit", [10, 50]),
        ("state:performanceMarks", [0, 1]),
        ("state:overrides", ["mine", "Old", "an old one", 9, 2, "list", True, "its own"]),
    ],
)
def test_changed_intrinsics_work_inside_and_are_gone_after(
    with_pool: WithPool, path: str, expected: object
) -> None:
    async def body(runner: Runner) -> None:
        for _ in range(3):
            assert value_of(await runner.query(path)) == expected
        values = await asyncio.gather(*(runner.query(path) for _ in range(6)))
        assert [value_of(value) for value in values] == [expected] * 6
        # Another function of the module, in the same children, sees the originals.
        assert value_of(await runner.query("state:overrides"))[0] == "mine"

    with_pool(body)


def test_every_shared_object_is_frozen(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        not_frozen = value_of(await runner.query("state:hiddenObjects"))
        # The last but one is what stands behind the global object: a Proxy that keeps nothing shared.
        assert not_frozen == [25]

    with_pool(body)


def test_only_documented_globals_are_there(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        assert value_of(await runner.query("surroundings:hiddenGlobals")) == [[], []]
        values = value_of(await runner.query("surroundings:presentGlobals"))
        assert values == [
            "1", 1, "chunk", 1, True, 5, "b", "hi", 1, "blob", "b", "https://x.y/", "é", "f", "AbortError", True,
        ]  # fmt: skip

    with_pool(body)


def test_what_only_actions_may_do_is_a_catchable_error(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        texts = value_of(await runner.query("surroundings:refusedCalls"))
        by_name = {text.partition(":")[0]: text for text in texts}
        assert "Can't use fetch() in queries and mutations" in by_name["fetch"]
        assert by_name["fetch"].endswith("NoFetchInQueriesOrMutations")
        assert by_name["setTimeout"].endswith("NoSetTimeoutInQueriesOrMutations")
        assert by_name["setInterval"].endswith("NoSetIntervalInQueriesOrMutations")
        assert by_name["generateKey"].endswith("NoCryptoRngInQueriesOrMutations")
        for name in ("eval", "Function", "constructor"):
            assert by_name[name].startswith(f"{name}: EvalError")
        for what in (b'{"what":"node:fs"}', b'{"what":"./plain.js"}'):
            assert (
                value_of(await runner.query("surroundings:dynamicImport", what))
                == "TypeError NoDynamicImport"
            )

    with_pool(body)


def test_the_clock_stands_and_is_noticed(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        outcome = await runner.query("surroundings:clock")
        assert value_of(outcome) == [
            NOW_MS, NOW_MS, 0, True, 0, IMPORT_MS, IMPORT_MS, "11/14/2023", 5, True, 0,
        ]  # fmt: skip
        assert outcome.observed_time and not outcome.observed_random
        still = await runner.query(
            "surroundings:still"
        )  # Its module looked at the clock while imported only.
        assert not still.observed_time and not still.observed_random
        assert value_of(await runner.mutation("surroundings:mutationClock")) is True

    with_pool(body)


def test_randomness_comes_from_the_seed(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        first = await runner.query("surroundings:random")
        again, other = await asyncio.gather(
            runner.query("surroundings:random"), runner.query("surroundings:random", seed=bytes(32))
        )
        assert first.observed_random and not first.observed_time
        assert value_of(first) == value_of(again)
        assert value_of(first)[:4] != value_of(other)[:4]
        assert value_of(first)[4] == value_of(other)[4]  # Imported with the push's seed.
        assert all(0 <= number < 1 for number in value_of(first)[:2])
        assert value_of(first)[2][14] == "4"

    with_pool(body)


def test_the_environment_is_the_calls_and_reads_are_reported(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        outcome = await runner.query("surroundings:environment")
        assert value_of(outcome) == ["yes", None, [], False]
        assert outcome.env_read == {"GIVEN", "MISSING"}
        changed = await runner.query("surroundings:environment", env={"MISSING": "now there"})
        assert value_of(changed)[:2] == [None, "now there"]
        for number in range(40):  # More environments than a child keeps.
            outcome = await runner.query("surroundings:environment", env={"GIVEN": str(number)})
            assert value_of(outcome)[0] == str(number)
        assert (await runner.query("surroundings:still")).env_read == frozenset()

    with_pool(body)


def test_native_work_ends_in_the_execution_that_began_it(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        texts = [json.dumps({"text": f"text {n}"}).encode() for n in range(10)]
        calls = [runner.query("surroundings:digest", text, now_ms=NOW_MS + n) for n, text in enumerate(texts)]
        values = [value_of(outcome) for outcome in await asyncio.gather(*calls)]
        assert [value[2] - NOW_MS for value in values] == list(range(10))
        assert len({tuple(value[:2]) for value in values}) == 10
        assert value_of(await runner.query("surroundings:wasm")) == [42, 42]

    with_pool(body)


def test_ids_are_checked_without_asking(with_pool: WithPool) -> None:
    vectors = [
        ("messages", "j57000820c20a1g7104gm2rc1m70ynr8", True),
        ("messages", "j97000820c20a1g7104gm2rc1m70yp0t", False),  # Table 10002.
        ("messages", "j57000820c20a1g7104gm2rc1m70ynr9", False),
        ("messages", "J57000820c20a1g7104gm2rc1m70ynr8", False),
        ("messages", "j5700000000000000000000000001qv0", True),
        ("messages", "j57", False),
        ("messages", "", False),
        ("messages", "j57000820c20a1g7104gm2rc1m70ynr8\n", False),
        ("_storage", "kg2000820c20a1g7104gm2rc1m70y674", True),
        ("absent", "j57000820c20a1g7104gm2rc1m70ynr8", False),
        ("one", "040020g30g2gc1r81450p30d1r7qke8", True),
        ("most", "zzzzzzrf000g40r40m30e209185gr38e1y1nj", True),
        ("other", "g2002001081g81860w40j2gb1g6gw3vs74", True),
    ]
    tables = {"messages": 10001, "_storage": 540, "one": 1, "most": 2**32 - 1, "other": 16384}

    async def body(runner: Runner) -> None:
        for table, id, valid in vectors:
            args = json.dumps({"table": table, "id": id}).encode()
            outcome = await runner.query("plain:normalize", args, tables=tables)
            assert value_of(outcome) == (id if valid else None), (table, id)

    with_pool(body)
