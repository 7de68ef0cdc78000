"""The toolchain's clients against a real backend that is killed under them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cvx.errors import CvxError
from cvx.protocol.sync_messages import QueryFailed, QueryUpdated
from cvx.toolchain.client import DeploymentClient, LiveClient, QueryResult, follow_logs, render_log
from cvx.toolchain.client.http import LogPage
from cvx.toolchain.client.logs import REFUSED_WITHIN_S
from cvx.toolchain.project import Deployment
from tests.backend_process import BackendProcess, pushed_app

pytestmark = pytest.mark.deno
APP = Path(__file__).parents[1] / "cli" / "app"
DEADLINE_S = 60.0


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[BackendProcess]:
    process = BackendProcess(tmp_path / "data")
    process.start()
    try:
        pushed_app(process, APP, tmp_path / "app")
        yield process
    finally:
        process.stop()


def deployment(backend: BackendProcess) -> Deployment:
    return Deployment("test", "self-hosted", backend.url, backend.admin_key)


def value(result: QueryResult) -> Any:
    assert isinstance(result, QueryUpdated), result
    return msgspec.json.decode(result.value)


def test_a_subscription_survives_a_backend_that_is_killed(backend: BackendProcess) -> None:
    async def body() -> None:
        async with LiveClient(deployment(backend)) as live, live.subscribe("misc:count", {}) as results:
            assert value(await anext(results)) == 0
            await asyncio.to_thread(backend.call, "mutation", "misc:add", {"name": "one"})
            assert value(await anext(results)) == 1
            await asyncio.to_thread(backend.kill)
            await asyncio.to_thread(backend.start)
            await asyncio.to_thread(backend.call, "mutation", "misc:add", {"name": "two"})
            seen = 0
            while seen != 2:
                seen = value(await anext(results))

    asyncio.run(asyncio.wait_for(body(), DEADLINE_S))


def test_several_subscriptions_and_a_failing_one(backend: BackendProcess) -> None:
    async def body() -> None:
        async with LiveClient(deployment(backend)) as live:
            doubled, failed = await asyncio.gather(
                live.first("misc:double", {"x": 21}), live.first("misc:fail", {})
            )
            assert value(doubled) == 42
            assert isinstance(failed, QueryFailed)
            assert isinstance(failed.error_data, msgspec.Raw)
            assert msgspec.json.decode(failed.error_data) == {"reason": "on purpose"}

    asyncio.run(asyncio.wait_for(body(), DEADLINE_S))


def test_waiting_for_a_table_to_change(backend: BackendProcess) -> None:
    async def body() -> None:
        async with LiveClient(deployment(backend)) as live:
            waiting = asyncio.create_task(
                live.wait_for_change("_system/cli/queryTable:default", {"tableName": "items"}, "")
            )
            await asyncio.sleep(0.3)
            assert not waiting.done()
            await asyncio.to_thread(backend.call, "mutation", "misc:add", {"name": "new"})
            await waiting

    asyncio.run(asyncio.wait_for(body(), DEADLINE_S))


def test_a_wrong_key_ends_the_wait(backend: BackendProcess) -> None:
    async def body() -> None:
        wrong = Deployment("test", "self-hosted", backend.url, "x|00")
        async with LiveClient(wrong) as live:
            await live.first("misc:count", {})

    with pytest.raises(CvxError) as refused:
        asyncio.run(asyncio.wait_for(body(), DEADLINE_S))
    assert refused.value.code == "AdminKeyRefused"


def test_nobody_there_is_told_at_once() -> None:
    async def body() -> None:
        async with LiveClient(Deployment("test", "self-hosted", "http://127.0.0.1:9", "k")):
            pass

    with pytest.raises(CvxError) as refused:
        asyncio.run(asyncio.wait_for(body(), DEADLINE_S))
    assert refused.value.code == "DeploymentUnreachable"


def test_logs_are_followed_through_a_restart(backend: BackendProcess) -> None:
    async def body() -> None:
        async with DeploymentClient(deployment(backend)) as client:
            lines: asyncio.Queue[str] = asyncio.Queue()

            async def follow() -> None:
                async for call in follow_logs(client):
                    for line in render_log(call):
                        lines.put_nowait(line)

            following = asyncio.create_task(follow())
            await asyncio.sleep(1)  # Until it knows that nothing has been logged before.
            await asyncio.to_thread(backend.call, "query", "misc:double", {"x": 5})
            assert "[CONVEX Q(misc:double)] [LOG]" in await lines.get()
            await asyncio.to_thread(backend.kill)
            await asyncio.to_thread(backend.start)
            await asyncio.to_thread(backend.call, "query", "misc:double", {"x": 6})
            assert "doubling 6" in await lines.get()
            following.cancel()

    asyncio.run(asyncio.wait_for(body(), DEADLINE_S))


class FarAway(DeploymentClient):
    """A client whose every answer about the log takes longer than it takes to find out that nobody is there."""

    async def function_logs(self, cursor: float) -> LogPage:
        page = await super().function_logs(cursor)
        await asyncio.sleep(REFUSED_WITHIN_S * 3)
        return page


def test_history_is_counted_however_late_it_comes(backend: BackendProcess) -> None:
    async def first(history: int, count: int, later: int) -> list[str]:
        async with FarAway(deployment(backend)) as client:
            seen = []
            following = follow_logs(client, history=history)
            news = asyncio.create_task(asyncio.to_thread(_called_later, backend, later))
            async for call in following:
                seen.append("".join(render_log(call)).partition("doubling ")[2].strip("'"))
                if len(seen) == count:
                    break
            await following.aclose()  # type: ignore[attr-defined]
            await news
            return seen

    async def body() -> None:
        for x in range(100, 105):
            await asyncio.to_thread(backend.call, "query", "misc:double", {"x": x})
        assert await first(2, 3, 900) == ["103", "104", "900"]
        assert await first(0, 1, 901) == ["901"]
        async with FarAway(deployment(backend)) as client:
            told = [call async for call in follow_logs(client, history=2, follow=False)]
        assert len(told) == 2

    asyncio.run(asyncio.wait_for(body(), DEADLINE_S))


def _called_later(backend: BackendProcess, x: int) -> None:
    time.sleep(2)
    backend.call("query", "misc:double", {"x": x})
