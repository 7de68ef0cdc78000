"""Many clients that write and watch at once, on a real app: every view is of one moment, and nothing is lost."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import msgspec
import pytest
from msgspec import Raw
from websockets.asyncio.client import connect

from cvx.protocol.codec import encode_message
from cvx.protocol.sync_client import QueryChanged, RequestDone, SyncClient
from cvx.protocol.sync_messages import QueryUpdated
from tests.backend_process import pushed_app
from tests.live_backend import LiveBackend

pytestmark = [pytest.mark.deno, pytest.mark.node]

APP = Path(__file__).parent.parent / "apps" / "wire"
CLIENTS = 6
SENDS = 40


class Watcher:
    """One client that watches two channels and writes to both in one mutation."""

    def __init__(self, live: LiveBackend, name: str) -> None:
        self.url, self.name = live.socket_url, name
        self.client = SyncClient(str(uuid.uuid4()))
        self.views: dict[int, list[str]] = {}
        self.changes = self.done = 0

    async def live(self) -> None:
        queries = [self.client.subscribe("wire:list", _args(channel=channel)) for channel in ("one", "other")]
        async with connect(self.url, compression=None) as socket:
            self.client.opened(0)
            asked = 0
            while self.done < SENDS or any(
                len(self.views.get(query, ())) < CLIENTS * SENDS for query in queries
            ):
                while asked < SENDS and asked - self.done < 5:
                    body = f"{self.name}-{asked}"
                    self.client.mutation("wire:sendToBoth", _args(one="one", other="other", body=body))
                    asked += 1
                for message in self.client.messages():
                    await socket.send(encode_message(message).decode())
                events = self.client.receive(await asyncio.wait_for(socket.recv(), 120))
                for event in events:
                    if isinstance(event, QueryChanged):
                        assert isinstance(event.result, QueryUpdated), event
                        self.views[event.query_id] = msgspec.json.decode(event.result.value, type=list[str])
                        self.changes += 1
                # Both lists were written together, so they are shown together.
                one, other = (self.views.get(query) for query in queries)
                assert one == other
                for event in events:
                    if isinstance(event, RequestDone):
                        assert event.response.success
                        # Done means shown, and in the order in which they were asked.
                        assert one is not None and f"{self.name}-{self.done}" in one
                        self.done += 1


def _args(**fields: str) -> Raw:
    return Raw(msgspec.json.encode([fields]))


def test_every_view_is_of_one_moment(backend: LiveBackend, tmp_path: Path) -> None:
    pushed_app(backend, APP, tmp_path / "app")  # type: ignore[arg-type]

    async def play() -> list[Watcher]:
        watchers = [Watcher(backend, f"client{number}") for number in range(CLIENTS)]
        await asyncio.gather(*(watcher.live() for watcher in watchers))
        return watchers

    watchers = asyncio.run(play())
    finals = [sorted(view) for watcher in watchers for view in watcher.views.values()]
    assert finals[0] == sorted(f"client{number}-{n}" for number in range(CLIENTS) for n in range(SENDS))
    assert all(final == finals[0] for final in finals)
