"""Actions over a real database: what they may ask for, what they answer, what is logged."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from cvx.backend.auth import ANONYMOUS, Admin, user_from_attributes
from cvx.backend.config import Limits
from cvx.backend.functions import FinishedCall, Origin
from cvx.errors import CvxError
from tests.functions.deployment import App, Deployment, deployment
from tests.waiting import happens

pytestmark = pytest.mark.deno
ADMIN = Admin()
Body = Callable[[Deployment], Awaitable[None]]
USER = user_from_attributes({"issuer": "https://example.com", "subject": "u1"})


def run(folder: Path, app: App, body: Body, **options: Any) -> None:
    async def main() -> None:
        async with deployment(folder, app, **options) as d:
            await body(d)

    asyncio.run(main())


def test_an_action_runs_queries_mutations_and_actions(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        assert d.actions.children == 0, "a backend that ran no action has no process for them"
        done = await d.act("doing:everything", {"name": "four"})
        assert done.error is None, done.error
        assert json.loads(done.value_json or b"") == {
            "before": 0,
            "length": 4,
            "after": 1,
            "nested": "inner four",
        }
        assert done.log_lines == ["[LOG] 'working on' 'four'"]
        assert d.actions.children == 1
        assert await d.query("doing:notes") == ["four"]

    run(tmp_path, app, body)


def test_every_action_has_its_own_modules_and_globals(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        all_counts = await asyncio.gather(*(d.action("doing:countUp") for _ in range(12)))
        assert all(counts == [1, 1] for counts in all_counts), all_counts

    run(tmp_path, app, body)


def test_what_is_wrong_with_a_call_is_its_result(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        text = await d.action_error("doing:everything", {"name": 5})
        assert text.startswith("ArgumentValidationError: "), text
        assert (await d.action_error("doing:inner", {"name": "x"})).startswith(
            "Could not find public function"
        )
        assert await d.action("doing:inner", {"name": "x"}, identity=ADMIN) == "inner x"
        assert await d.action("doing:inner", {"name": "x"}, public=False) == "inner x"
        assert "it is defined as Query" in await d.action_error("doing:notes")
        assert (await d.action_error("doing:wrongReturn")).startswith("ReturnsValidationError: ")
        assert "return value is too large" in await d.action_error("doing:big")
        with pytest.raises(CvxError) as caught:
            await d.act("doing:inner", {"name": "x"}, identity=Admin(read_only=True))
        assert caught.value.kind == "forbidden"
        assert d.actions.children == 1, "only those that ran"

    run(tmp_path, app, body)


def test_errors_reach_the_caller_with_their_data(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        plain = await d.action_error("doing:throwing", {"data": False})
        assert plain.startswith("Uncaught Error: it broke\n    at "), plain
        assert "doing.ts:" in plain
        failed = await d.act("doing:throwing", {"data": True})
        assert failed.error is not None and failed.error.data_json is not None
        assert json.loads(failed.error.data_json) == {"reason": "no", "left": {"$integer": "AwAAAAAAAAA="}}
        seen = await d.action("doing:catches")
        assert seen[0] == [
            "ConvexError",
            'Uncaught ConvexError: {"code":7n}',
            {"code": {"$integer": "BwAAAAAAAAA="}},
        ] or (seen[0][0] == "ConvexError" and seen[0][2] == {"code": {"$integer": "BwAAAAAAAAA="}}), seen
        assert seen[1][:2] == ["Error", "Uncaught Error: broken inside"]
        assert "Could not find function for 'doing:missing'" in seen[2][1]
        assert "it is defined as Mutation" in seen[3][1]
        assert seen[4][1].startswith("ArgumentValidationError: ")
        assert await d.query("doing:notes") == []

    run(tmp_path, app, body)


def test_an_action_knows_who_asks_and_from_where(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        origin = Origin("10.0.0.7", "browser")
        told = await d.action("doing:who", identity=USER, origin=origin, request_id="abc")
        assert told["user"] == "u1"
        assert told["fn"] == {
            "name": "doing:who",
            "componentPath": "",
            "type": "action",
            "visibility": "public",
        }
        assert told["request"]["ip"] == "10.0.0.7" and told["request"]["requestId"] == "abc"
        assert told["deployment"] == "test-otter-1" and told["url"] == "http://127.0.0.1:3210"
        assert (await d.action("doing:who"))["user"] is None
        assert await d.action("doing:handle") == 9
        assert await d.action("doing:unknownOp") == "Unknown async operation 1.0/insert"
        assert await d.action("doing:later") == "string"

    run(tmp_path, app, body)


def test_what_is_not_awaited_is_dropped_with_a_warning(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        done = await d.act("doing:dropping")
        assert done.value_json == b'"done"'
        (line,) = done.log_lines
        assert line.startswith("[WARN] 2 unawaited operations: [runMutation, runQuery]. "), line
        entries, _ = d.executor.log.entries(0.0)
        codes = [
            each["systemMetadata"]["code"]
            for entry in entries
            for each in entry.entry(structured=True)["logLines"]
            if "systemMetadata" in each
        ]
        assert codes == ["UnawaitedOperations"]

    run(tmp_path, app, body)


def test_many_operations_of_one_action_take_turns(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        assert await d.action("doing:many", {"count": 1500}) == 1500
        assert len(await d.query("doing:notes")) == 1500
        text = await d.action_error("doing:many", {"count": 2001})
        assert "Too many concurrent operations" in text

    run(tmp_path, app, body, limits=Limits(action_operations_max=2_000))


def test_two_hundred_actions_may_sleep_at_once(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        await d.action("doing:sleeping", {"ms": 1})
        started = time.perf_counter()
        slept = await asyncio.gather(*(d.action("doing:sleeping", {"ms": 300}) for _ in range(200)))
        seconds = time.perf_counter() - started
        assert min(slept) >= 299 and seconds < 45, f"{seconds} s; one after the other they take a minute"
        assert d.actions.children <= 4

    run(tmp_path, app, body, limits=Limits(actions_running_max=256, actions_per_child_max=64))


def test_too_many_actions_are_refused_not_kept(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        first = [asyncio.ensure_future(d.act("doing:sleeping", {"ms": 1_000})) for _ in range(4)]
        await happens(lambda: len(d.actions._places["action"]._waiting) == 2, "two waiting")
        with pytest.raises(CvxError) as caught:
            await d.act("doing:sleeping", {"ms": 1})
        assert caught.value.code == "TooManyConcurrentRequests"
        assert all(done.error is None for done in await asyncio.gather(*first))
        assert await d.action("doing:everything", {"name": "x"}), "places are given back"

    run(tmp_path, app, body, limits=Limits(actions_running_max=2, actions_waiting_max=2))


def test_an_action_that_runs_an_action_cannot_wait_for_itself(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        done = await asyncio.gather(*(d.action("doing:everything", {"name": f"{i}"}) for i in range(4)))
        assert [each["nested"] for each in done] == [f"inner {i}" for i in range(4)]

    run(tmp_path, app, body, limits=Limits(actions_running_max=1))


def test_the_deadline_is_wall_clock_time(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        text = await d.action_error("doing:sleeping", {"ms": 5_000})
        assert text == "Function execution timed out (maximum duration: 0.4s)\n"
        assert await d.action("doing:inner", {"name": "x"}, identity=ADMIN) == "inner x"

    run(tmp_path, app, body, limits=Limits(action_time_s=0.4))


def test_lines_stream_while_an_action_runs(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        running = asyncio.ensure_future(d.act("doing:talking", {"lines": 3, "ms": 150}, request_id="r1"))
        await d.executor.log.wait(0.0, 5.0)
        entries, cursor = d.executor.log.entries(0.0)
        assert [each.entry(structured=False)["kind"] for each in entries] == ["Progress"]
        assert not running.done()
        await running
        entries, _ = d.executor.log.entries(cursor)
        last = entries[-1]
        assert isinstance(last, FinishedCall)
        assert [each.entry(structured=False)["kind"] for each in entries][-1] == "Completion"
        assert last.entry(structured=False)["udfType"] == "Action"
        assert [line.pretty() for line in last.log_lines] == [f"[LOG] 'line {i}'" for i in range(3)]
        many = await d.act("doing:talking", {"lines": 400, "ms": 0})
        assert len(many.log_lines) == 256 and "Log overflow" in many.log_lines[-1]

    run(tmp_path, app, body)


def test_blobs_travel_both_ways(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        for size in (0, 10, 3_000_000):
            told = await d.action("doing:blobs", {"size": size})
            assert told["type"] == "application/x-test" and told["same"] is True, (size, told)

    run(tmp_path, app, body)


def test_cancelling_ends_an_action(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        running = asyncio.ensure_future(d.act("doing:sleeping", {"ms": 60_000}))
        await happens(lambda: [c for c in d.actions._children if c.running], "its beginning")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        entries, _ = d.executor.log.calls(0.0)
        assert entries[-1].error == "It was cancelled\n"
        assert await d.action("doing:inner", {"name": "x"}, identity=ADMIN) == "inner x"

    run(tmp_path, app, body)


def test_a_client_that_goes_does_not_end_its_action(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        call = d.executor.action("doing:slowly", b'{"name":"x"}', ANONYMOUS, caller="HttpApi")
        running = asyncio.ensure_future(call)
        while await d.query("doing:notes") != ["x"]:
            await asyncio.sleep(0.02)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        while await d.query("doing:notes") != ["x", "x"]:
            await asyncio.sleep(0.02)

    run(tmp_path, app, body)


def test_redacted_errors_keep_their_texts_from_clients(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        failed = await d.act("doing:throwing", {"data": False}, identity=ANONYMOUS)
        assert failed.error is not None and "it broke" not in failed.error.client_text("0" * 16)
        talked = await d.act("doing:talking", {"lines": 1, "ms": 0})
        assert talked.log_lines == []

    run(tmp_path, app, body, redacted=True)
