"""One call from start to end: values, order, errors, log lines, streamed queries."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cvx.backend.runner import FunctionOutcome, QueryPage, Syscall, SyscallFailure, SyscallResult
from tests.runner.host import MESSAGE_ID, Host, Runner, bundle_of
from tests.runner.test_isolation import SlowHost, value_of

pytestmark = pytest.mark.deno
WithPool = Callable[..., None]


def failure_of(outcome: FunctionOutcome) -> tuple[str, str]:
    assert outcome.value_json is None and outcome.error is not None
    return outcome.error.kind, outcome.error.message


def test_a_value_comes_back_and_says_what_it_imported(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        outcome = await runner.query("plain:get", b'{"id":"%b"}' % MESSAGE_ID)
        assert value_of(outcome) == {"_creationTime": 1, "_id": MESSAGE_ID.decode(), "body": "hi"}
        assert "plain.js" in outcome.modules
        assert any(path.startswith("_deps/") for path in outcome.modules)
        assert "faults.js" not in outcome.modules
        text = json.dumps({"a": "line\nbreak \u2028 é \U0001f600 \\", "b": [1.5, None]})
        pretty = json.dumps(json.loads(text), indent=1).encode()
        assert value_of(await runner.query("plain:echo", pretty)) == json.loads(text)

    with_pool(body)


@pytest.mark.parametrize(
    ("path", "kind", "fragment"),
    [
        ("plain:absent", "query", "Couldn't find 'absent'"),
        ("absent:x", "query", "Couldn't find the module 'absent.js'"),
        ("plain:send", "query", "is registered as a mutation but is being run as a query"),
        ("plain:get", "mutation", "is registered as a query but is being run as a mutation"),
        ("live:current", "query", "is neither a query or mutation"),
        ("awaits:one", "query", "Top-level awaits in source files are unsupported"),
        ("usesDatabase:one", "query", "NoDbDuringImport"),
        ("throws:one", "query", "Uncaught TypeError: Cannot read properties of undefined"),
    ],
)
def test_what_cannot_be_run_says_why(with_pool: WithPool, path: str, kind: Any, fragment: str) -> None:
    async def body(runner: Runner) -> None:
        outcome = await runner.pool.run(runner.call(path, kind=kind), Host)
        assert failure_of(outcome)[0] == "user"
        assert fragment in failure_of(outcome)[1]
        assert value_of(await runner.query("faults:fine")) == "fine"

    with_pool(body)


def test_errors_point_to_what_the_user_wrote(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        error = (await runner.query("plain:mapped")).error
        assert error is not None
        assert error.message == "Uncaught RangeError: too deep"
        assert error.frames.splitlines()[0] == "    at deepest (../convex/plain.ts:30:9)"
        assert "(../convex/plain.ts:35:3)" in error.frames and error.frames.endswith("\n")
        record = (await runner.query("live:failing")).error  # Run as a real module record.
        assert record is not None and "(../convex/live.ts:13:9)" in record.frames

    with_pool(body)


def test_convex_errors_keep_their_data(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        error = (await runner.query("plain:convexError")).error
        assert error is not None and error.data_json is not None
        assert error.message.startswith("Uncaught ConvexError: ")
        assert json.loads(error.data_json) == {"code": {"$integer": "BwAAAAAAAAA="}, "why": ["a", None]}
        caught = value_of(await runner.mutation("plain:caught"))
        assert caught == {
            "message": "this table is refused",
            "data": {"reason": {"$integer": "AQAAAAAAAAA="}},
        }

    with_pool(body)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("faults:throwsText", "Uncaught just text"),
        ("faults:throwsObject", "Uncaught #<Object>"),
        ("faults:throwsNull", "Uncaught null"),
        ("faults:throwsHalfAnEmoji", "Uncaught Error: \ufffd"),
        ("faults:throwsHostile", "Uncaught an object that cannot be shown"),
        ("faults:hostileStack", "Uncaught Error: visible"),
        ("faults:stack", "Uncaught RangeError: Maximum call stack size exceeded"),
        ("faults:neverSettles", "Uncaught Error: Returned promise will never resolve"),
        ("faults:unhandled", "Uncaught Error: nobody listens"),
    ],
)
def test_any_way_to_fail_is_one_failed_call(with_pool: WithPool, path: str, message: str) -> None:
    async def body(runner: Runner) -> None:
        others = [runner.query("faults:fine") for _ in range(5)]
        outcome, *fine = await asyncio.gather(runner.query(path), *others)
        assert failure_of(outcome) == ("user", message)
        assert [value_of(each) for each in fine] == ["fine"] * 5

    with_pool(body)


def test_a_rejection_handled_in_time_is_none(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        assert value_of(await runner.query("faults:handledLater")) == 1
        assert value_of(await runner.query("faults:stackCaught")) == "RangeError"
        waiting = await runner.mutation("faults:unhandledWhileWaiting", host=SlowHost)
        assert failure_of(waiting) == ("user", "Uncaught Error: while waiting")
        uncatchable = await runner.query("faults:uncatchable")
        assert failure_of(uncatchable)[0] == "developer"

    with_pool(body)


def test_unawaited_writes_happen_but_not_after_a_throw(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        host = Host()
        outcome = await runner.pool.run(runner.call("faults:unawaited", kind="mutation"), lambda: host)
        assert value_of(outcome) == "done"
        assert [json.loads(args)["value"]["n"] for _, args in host.asked] == [1, 2, 3]
        host = Host()
        outcome = await runner.pool.run(
            runner.call("faults:throwsWithUnawaited", kind="mutation"), lambda: host
        )
        assert failure_of(outcome)[1] == "Uncaught Error: after issuing a write"
        assert host.asked == []

    with_pool(body)


def test_a_flood_of_syscalls_is_answered_in_order(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        host = Host()
        call = runner.call("faults:flood", b'{"count":5000}', "mutation", deadline_ms=20_000.0)
        outcome = await runner.pool.run(call, lambda: host)
        assert value_of(outcome) == 5000
        assert [json.loads(args)["value"]["n"] for _, args in host.asked] == list(range(5000))

    with_pool(body)


def test_malformed_syscalls_are_errors_in_user_code(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        texts = value_of(await runner.query("faults:wrongSyscalls"))
        assert texts[0] == "Unknown operation 1.0/nope"
        assert "SyscallArgsInvalidJson" in texts[1] and "SyscallArgsInvalidJson" in texts[4]
        assert texts[3] == "Unknown async operation 1.0/nope"
        assert texts[6] == "Unknown async operation a\nb"

    with_pool(body)


# ---- log lines


def test_console_lines(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        lines = (await runner.query("consoles:lines")).log_lines
        shown = [(line.level, line.messages) for line in lines]
        assert shown[0] == ("DEBUG", ("'d'",))
        assert shown[1] == ("INFO", ("'i'", "1", "true", "null", "undefined", "2n", "Symbol(s)"))
        assert shown[2] == ("LOG", ("{\n  a: 1,\n  b: 'x',\n  nested: {\n    c: [ 1, 'two' ]\n  }\n}",))
        assert shown[3][1] == ("[ 1, 2 ]", "Map (1) {\n  'k' => {\n    v: 1\n  }\n}", "Set (1) {\n  1\n}")
        assert shown[4] == (
            "ERROR",
            (
                "Point {\n  x: 1,\n  y: 2\n}",
                "[Function (anonymous)]",
                "[Function: named]",
                "-0",
                "/re/g",
                "Thu Jan 01 1970 00:00:00 GMT+0000 (Coordinated Universal Time)",
            ),
        )
        assert shown[5] == ("LOG", ("'%s is not replaced'", "'it'"))
        assert shown[6] == ("LOG", ("{\n  self: [Circular]\n}",))
        assert shown[7][0] == "INFO" and shown[7][1][0].startswith("t: ")
        assert shown[8] == ("WARN", ("Timer 't' does not exist",))
        assert "TypeError: shown\n    at <anonymous> (../convex/consoles.ts:" in shown[9][1][0]

    with_pool(body)


def test_log_lines_are_bounded(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        outcome = await runner.query("faults:logs", deadline_ms=20_000.0)
        assert value_of(outcome) == 1
        assert len(outcome.log_lines) == 256
        assert outcome.log_lines[255].level == "ERROR" and "256" in outcome.log_lines[255].messages[0]
        assert all(len(line.messages[0]) == 32768 and line.is_truncated for line in outcome.log_lines[:255])
        outcome = await runner.query("faults:endlessObject", deadline_ms=20_000.0)
        assert [line.messages for line in outcome.log_lines] == [
            ("[An object too large to print]",),
            ("[An object that cannot be printed]",),
        ]

    with_pool(body)


# ---- streamed queries


@pytest.mark.parametrize(
    ("path", "args", "pages", "read"),
    [
        ("streams:first", {}, [(0, 1)], (1, True)),
        ("streams:take", {"n": 5}, [(0, 5)], (5, True)),
        ("streams:take", {"n": 500}, [(0, 256), (0, 244)], (500, True)),
        ("streams:limitInValue", {}, [(0, 8)], (2, True)),  # Not taken for the query's own limit.
        ("streams:unique", {}, [(0, 2)], (2, True)),
        ("streams:collect", {}, [(0, 8), (0, 64), (0, 256), (0, 256), (0, 256), (0, 256)], (1000, True)),
        ("streams:firstFew", {"n": 3}, [(0, 8)], (3, False)),
        ("streams:firstFew", {"n": 8}, [(0, 8)], (8, False)),
        ("streams:firstFew", {"n": 9}, [(0, 8), (0, 64)], (9, False)),
        ("streams:abandoned", {"n": 4}, [(0, 8)], (4, False)),
        ("streams:interleaved", {}, [(0, 8), (0, 64)], (20, False)),
    ],
)
def test_reads_ahead_and_tells_what_was_really_read(
    with_pool: WithPool, path: str, args: dict[str, int], pages: list[tuple[int, int]], read: tuple[int, bool]
) -> None:
    async def body(runner: Runner) -> None:
        host = Host(rows=1000)
        await runner.pool.run(runner.call(path, json.dumps(args).encode()), lambda: host)
        assert host.read == {0: read}
        assert host.pages == pages[: len(host.pages)] and len(host.pages) >= len(pages) - 1

    with_pool(body)


def test_streams_side_by_side_keep_apart(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        host = Host(rows=30)
        outcome = await runner.pool.run(runner.call("streams:sideBySide"), lambda: host)
        lengths = [len(",".join(map(str, range(n)))) for n in (3, 30, 20)]
        assert value_of(outcome) == lengths
        assert host.read == {0: (3, True), 1: (30, True), 2: (20, True)}

    with_pool(body)


def test_the_end_is_read_only_when_user_code_got_there(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        host = Host(rows=3)
        await runner.pool.run(runner.call("streams:firstFew", b'{"n":3}'), lambda: host)
        assert host.read == {0: (3, False)}  # The page had said that there is no more; user code never asked.
        host = Host(rows=3)
        await runner.pool.run(runner.call("streams:firstFew", b'{"n":4}'), lambda: host)
        assert host.read == {0: (3, True)}

    with_pool(body)


class FailingPages(Host):
    def next_page(self, query_id: int, query_json: bytes | None, want: int) -> QueryPage | SyscallFailure:
        if query_json is None:
            return SyscallFailure("the second page fails")
        return super().next_page(query_id, query_json, want)


def test_a_failing_page_is_an_error_at_the_document_it_was_for(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        outcome = await runner.pool.run(runner.call("streams:collect"), FailingPages)
        assert failure_of(outcome) == ("user", "Uncaught Error: the second page fails")

    with_pool(body)


# ---- hosts


class Conflict(Exception):
    pass


class RaisingHost(Host):
    def syscalls(self, batch: list[Syscall]) -> list[SyscallResult]:
        raise Conflict


class RaisingLater(Host):
    def syscalls(self, batch: list[Syscall]) -> Awaitable[list[SyscallResult]]:
        async def later() -> list[SyscallResult]:
            await asyncio.sleep(0)
            raise Conflict

        return later()


class FatalHost(Host):
    def answer(self, syscall: Syscall) -> SyscallResult:
        return SyscallFailure("the stack is lost", fatal=True, kind="timeout")


def test_a_hosts_exception_ends_the_call_and_is_raised(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        for host in (RaisingHost, RaisingLater):
            with pytest.raises(Conflict):
                await runner.mutation("plain:caught", host=host)
        outcome = await runner.mutation("plain:caught", host=FatalHost)
        assert failure_of(outcome) == ("timeout", "the stack is lost")
        assert value_of(await runner.query("faults:fine")) == "fine"

    with_pool(body)


def test_a_cancelled_call_is_forgotten(with_pool: WithPool) -> None:
    class Stuck(Host):
        def syscalls(self, batch: list[Syscall]) -> Awaitable[list[SyscallResult]]:
            async def forever() -> list[SyscallResult]:
                await asyncio.Event().wait()
                return []

            return forever()

    async def body(runner: Runner) -> None:
        for _ in range(100):
            call = asyncio.ensure_future(runner.mutation("plain:caught", host=Stuck))
            await asyncio.sleep(0.005)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        assert value_of(await runner.query("faults:fine")) == "fine"

    with_pool(body, runner_calls_per_child_max=4)


class NestingHost(Host):
    """Answers runUdf by running the function it names, as the executor does."""

    def __init__(self, runner: Runner, depth: int = 0) -> None:
        super().__init__()
        self.runner = runner
        self.depth = depth

    def syscalls(self, batch: list[Syscall]) -> list[SyscallResult] | Awaitable[list[SyscallResult]]:
        async def nested() -> list[SyscallResult]:
            target = json.loads(batch[0].args)["name"]
            below = {"fn": target}
            path = "plain:nested" if self.depth < 6 else target
            outcome = await self.runner.pool.run(
                self.runner.call(path, json.dumps(below).encode(), "mutation"),
                lambda: NestingHost(self.runner, self.depth + 1),
            )
            if outcome.value_json is not None:
                return [outcome.value_json]
            assert outcome.error is not None
            fatal = outcome.error.kind in ("timeout", "memory")
            return [SyscallFailure(outcome.error.message, fatal=fatal, kind=outcome.error.kind)]

        return nested() if batch[0].op == "1.0/runUdf" else super().syscalls(batch)


def test_nested_calls_need_no_place_of_their_own(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        call = runner.call("plain:nested", b'{"fn":"plain:caught"}', "mutation")

        def host() -> NestingHost:
            return NestingHost(runner, depth=6)

        outcomes = await asyncio.gather(*(runner.pool.run(call, host) for _ in range(8)))
        assert [value_of(outcome)["message"] for outcome in outcomes] == ["this table is refused"] * 8
        deep = await runner.pool.run(call, lambda: NestingHost(runner, 2))
        assert value_of(deep)["message"] == "this table is refused"

    with_pool(body, runner_calls_per_child_max=2)


# ---- modules that are not esbuild's


def test_other_shapes_of_modules_keep_their_meaning(with_pool: WithPool) -> None:
    query = "Object.assign(async () => 0, {isQuery: true, isPublic: true, invokeQuery: async () => JSON.stringify(%s)})"
    shapes = {
        "default_": "export default " + query % "1",
        "cycle_a": f'import {{ b }} from "./cycle_b.js"; export const a = 1; export const f = {query % "[a, b()]"};',
        "cycle_b": 'import { a } from "./cycle_a.js"; export function b() { return a + 1; }',
        "star": f'export * from "./cycle_b.js"; import * as all from "./cycle_b.js"; '
        f"export const f = {query % 'Object.keys(all)'};",
        "regexes": f'const r = /[/"]`/.test("/"); if (r) {{}} const s = `${{`a${{1}}`}}`; var x = 4, g; x /= 2; '
        f"const f = {query % '[r, s, x / 2 / 1]'}; export {{ f, f as g2 }};",
        "hoisted": f"export {{ f, n }}; var n = 1; function set() {{ n = 5; }} set(); const f = {query % 'n'};",
        "namespace": f'import * as deep from "./folder/inner.js"; const f = {query % "deep.one"}; export {{ f }};',
        "folder__inner": 'import { two } from "../top.js"; const one = two - 1; export { one };',
        "top": "const two = 2; export { two };",
        "strict": f"const f = {query % '(function () { return this === undefined; })()'}; export {{ f }};",
    }
    expected = {
        "default_:default": 1, "cycle_a:f": [1, 2], "star:f": ["b"], "regexes:f": [False, "a1", 1], "regexes:g2": [
            False, "a1", 1], "hoisted:f": 5, "namespace:f": 1, "strict:f": True,
    }  # fmt: skip

    async def body(runner: Runner) -> None:
        runner.bundle = bundle_of(**shapes)
        for path, value in expected.items():
            assert value_of(await runner.query(path)) == value, path

    with_pool(body)
