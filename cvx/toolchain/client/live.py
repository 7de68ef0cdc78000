"""LiveClient: a WebSocket under the sans-IO SyncClient. Subscriptions survive a lost connection.

`SyncClient` decides what is said; this file only carries it, waits, and connects again (100 ms doubling to
16 s, like the official clients). The first connection is not retried: who starts wants to know.

Source: reference/values-and-sync.md §4.1, §4.8; cli-and-deploy.md §0.1.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from cvx.errors import CvxError, ProtocolError
from cvx.protocol.codec import encode_message
from cvx.protocol.sync_client import QueryChanged, SyncClient, TokenRejected
from cvx.protocol.sync_messages import QueryFailed, QueryUpdated
from cvx.toolchain.client.http import unreachable
from cvx.toolchain.client.tasks import end_task
from cvx.toolchain.project import Deployment

SYNC_ROUTE = "/api/1.48.0/sync"
CONNECT_DEADLINE_S = 10.0
FRAME_BYTES_MAX = 256 << 20
RETRY_FIRST_S = 0.1
RETRY_MAX_S = 16.0

QueryResult = QueryUpdated | QueryFailed


class LiveClient:
    """Subscriptions of an administrator on one deployment. Use as an async context manager."""

    def __init__(self, deployment: Deployment, *, acting_as: Mapping[str, Any] | None = None) -> None:
        self.deployment = deployment
        self._client = SyncClient(str(uuid.uuid4()))
        identity = msgspec.Raw(msgspec.json.encode(acting_as)) if acting_as is not None else None
        self._client.authenticate("Admin", deployment.admin_key, identity)
        self._results: dict[int, asyncio.Queue[QueryResult | CvxError]] = {}
        self._to_send = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        self._failed: CvxError | None = None

    async def __aenter__(self) -> LiveClient:
        socket = await self._connect()
        self._pump = asyncio.create_task(self._run(socket), name="live client")
        return self

    async def __aexit__(self, *_: object) -> None:
        await end_task(self._pump)

    @asynccontextmanager
    async def subscribe(
        self, path: str, args: Mapping[str, Any] | bytes, component: str | None = None
    ) -> AsyncIterator[AsyncIterator[QueryResult]]:
        """Every result of a query, the current one first: `async with subscribe(…) as results: async for …`."""
        encoded = args if isinstance(args, bytes) else msgspec.json.encode(args)
        query_id = self._client.subscribe(path, msgspec.Raw(b"[" + encoded + b"]"), component)
        queue: asyncio.Queue[QueryResult | CvxError] = asyncio.Queue()
        self._results[query_id] = queue
        if self._failed is not None:
            queue.put_nowait(self._failed)
        self._to_send.set()
        try:
            yield _drain(queue)
        finally:
            del self._results[query_id]
            self._client.unsubscribe(query_id)
            self._to_send.set()

    async def first(self, path: str, args: Mapping[str, Any], component: str | None = None) -> QueryResult:
        """The current result of a query."""
        async with self.subscribe(path, args, component) as results:
            return await anext(results)

    async def wait_for_change(self, path: str, args: Mapping[str, Any], component: str | None = None) -> None:
        """Return when the query's result has changed once (its second result)."""
        async with self.subscribe(path, args, component) as results:
            await anext(results)
            await anext(results)

    # ---- the pump --------------------------------------------------------------------------------

    async def _connect(self) -> ClientConnection:
        url = self.deployment.url.replace("http", "ws", 1) + SYNC_ROUTE
        try:
            return await connect(
                url,
                open_timeout=CONNECT_DEADLINE_S,
                close_timeout=1,
                max_size=FRAME_BYTES_MAX,
                compression=None,
                proxy=None if url.startswith("ws:") else True,
            )
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI) as error:
            raise unreachable(self.deployment, str(error) or type(error).__name__) from error

    async def _run(self, socket: ClientConnection | None) -> None:
        """Converse until cancelled; after a break, connect again."""
        delay = RETRY_FIRST_S
        try:
            while True:
                if socket is None:
                    await asyncio.sleep(delay * random.uniform(0.5, 1.5))
                    delay = min(delay * 2, RETRY_MAX_S)
                    try:
                        socket = await self._connect()
                    except CvxError:
                        continue
                reason = "closed"
                try:
                    await self._converse(socket)
                    delay = RETRY_FIRST_S
                except ConnectionClosed as error:
                    reason = str(error.rcvd.reason) if error.rcvd and error.rcvd.reason else "closed"
                    delay = RETRY_FIRST_S if error.rcvd else delay
                except ProtocolError as error:
                    reason = error.code
                finally:
                    await socket.close()
                self._client.closed(reason)
                socket = None
        except CvxError as error:
            self._fail(error)

    async def _converse(self, socket: ClientConnection) -> None:
        self._client.opened(int(time.time() * 1000))
        sender = asyncio.create_task(self._send_all(socket))
        try:
            async for text in socket:
                for event in self._client.receive(text):
                    if isinstance(event, QueryChanged):
                        queue = self._results.get(event.query_id)
                        if queue is not None:
                            queue.put_nowait(event.result)
                    elif isinstance(event, TokenRejected):
                        raise CvxError(
                            "AdminKeyRefused",
                            f"{self.deployment.url} refused the admin key: {event.error}",
                            kind="forbidden",
                            hint="Check the admin key.",
                        )
        finally:
            await end_task(sender)

    async def _send_all(self, socket: ClientConnection) -> None:
        while True:
            self._to_send.clear()
            for message in self._client.messages():
                await socket.send(encode_message(message).decode())
            await self._to_send.wait()

    def _fail(self, error: CvxError) -> None:
        self._failed = error
        for queue in self._results.values():
            queue.put_nowait(error)


async def _drain(queue: asyncio.Queue[QueryResult | CvxError]) -> AsyncIterator[QueryResult]:
    while True:
        result = await queue.get()
        if isinstance(result, CvxError):
            raise result
        yield result
