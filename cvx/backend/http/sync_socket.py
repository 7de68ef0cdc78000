"""/api/sync and /api/{version}/sync: from an ASGI WebSocket to a SyncDriver.

A client library that is too old, or a version that is none, is refused with an HTTP 400 before the upgrade.

Source: reference/values-and-sync.md §4.1.
"""

from __future__ import annotations

import struct

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from cvx.backend.http.middleware import error_response, origin_of
from cvx.backend.http.services import Services
from cvx.backend.sync import SyncDriver
from cvx.errors import CvxError
from cvx.protocol.calls import CallingClient
from cvx.protocol.codec import check_supported, parse_path_version


class AsgiSocket:
    """A SyncSocket over an accepted ASGI WebSocket.

    ASGI can only send by awaiting, which costs a task switch for each socket of a thousand that hear of the same
    commit. Below uvicorn's own `send` is a protocol that says whether it would have to wait; when it would not, the
    frame goes straight to its transport. (Nothing compresses frames here: see server.py.)
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        owner = getattr(send, "__self__", None)
        self._protocol = owner if isinstance(owner, WebSocketsSansIOProtocol) else None

    async def receive(self) -> str | bytes | None:
        message = await self._receive()
        if message["type"] != "websocket.receive":
            return None
        text: str | None = message.get("text")
        return message["bytes"] if text is None else text

    def send_now(self, text: bytes) -> bool:
        protocol = self._protocol
        if (
            protocol is None
            or protocol.disconnected
            or protocol.close_sent
            or not protocol.writable.is_set()
            or protocol.conn.extensions
        ):
            return False
        protocol.transport.writelines((_frame_header(len(text)), text))
        return True

    async def send(self, text: bytes) -> None:
        await self._send({"type": "websocket.send", "text": text.decode()})

    async def close(self, code: int | None, reason: str) -> None:
        # None is a close frame without a code, which the server below passes on as it is.
        await self._send({"type": "websocket.close", "code": code, "reason": reason})


def _frame_header(size: int) -> bytes:
    """Of an unfragmented, unmasked text frame (RFC 6455 §5.2)."""
    if size < 126:
        return bytes((0x81, size))
    if size < 1 << 16:
        return struct.pack("!BBH", 0x81, 126, size)
    return struct.pack("!BBQ", 0x81, 127, size)


def is_sync_path(path: str) -> bool:
    return path == "/api/sync" or (
        path.startswith("/api/") and path.endswith("/sync") and path.count("/") == 3
    )


async def serve_sync_socket(scope: Scope, receive: Receive, send: Send, services: Services) -> None:
    """One WebSocket, from the upgrade to its end."""
    await receive()  # websocket.connect
    try:
        client = _client(scope)
        check_supported(client)
    except CvxError as error:
        await _refuse(scope, receive, send, error)
        return
    await send({"type": "websocket.accept"})
    await SyncDriver(AsgiSocket(receive, send), client, services.sync, origin_of(scope)).run()


def _client(scope: Scope) -> CallingClient | None:
    path: str = scope["path"]
    if path == "/api/sync":
        return CallingClient.parse(Headers(scope=scope).get("convex-client"))
    return parse_path_version(path.split("/")[2])


async def refuse_unknown_socket(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await _refuse(scope, receive, send, CvxError("NotFound", "No socket is served here.", kind="not_found"))


async def _refuse(scope: Scope, receive: Receive, send: Send, error: CvxError) -> None:
    response = error_response(error)
    if "websocket.http.response" in scope.get("extensions", {}):
        await response({**scope, "type": "websocket"}, receive, send)
    else:
        await send({"type": "websocket.close", "code": 1008, "reason": error.code})
