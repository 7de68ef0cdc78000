"""Both ports of a backend, served by uvicorn in the loop that is running.

Rule: starting and stopping are ours (uvicorn installs no signal handlers and configures no logging here), and
stopping is bounded: requests that do not end by themselves within `stop_s` are cancelled.

Source: reference/values-and-sync.md §4.1, §4.9; cli-contract.md (serve).
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn

from cvx.backend.config import Limits
from cvx.errors import CvxError

_BACKLOG = 2048
_STOP_AT_LAST_S = 5  # For requests that do not even end when cancelled.


class HttpServer:
    """One ASGI app on one port, bound at once. `port` 0 is any free one; the real one is in `port`."""

    def __init__(self, host: str, port: int, limits: Limits) -> None:
        self._socket = _bind(host, port)
        self._limits = limits
        self._server: uvicorn.Server | None = None
        self.host = host
        self.port: int = self._socket.getsockname()[1]

    async def start(self, app: Any) -> None:
        """Accept connections when it returns."""
        limits = self._limits
        config = uvicorn.Config(
            app,
            http="httptools",
            ws="websockets-sansio",
            ws_max_size=limits.socket_message_bytes_max,
            ws_ping_interval=limits.socket_ping_s,
            ws_ping_timeout=limits.socket_silence_s,
            # Deflate costs more CPU a message than the bytes it saves are worth on one core.
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=limits.keep_alive_s,
        )
        config.timeout_graceful_shutdown = _STOP_AT_LAST_S
        config.load()
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=[self._socket])
        self._server = server

    @property
    def url(self) -> str:
        host = "127.0.0.1" if self.host in ("0.0.0.0", "") else self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    async def stop(self) -> None:
        """Close sockets with 1012, let requests end, then cancel them."""
        server, self._server = self._server, None
        if server is None:
            self._socket.close()
            return
        patience = asyncio.get_running_loop().call_later(self._limits.stop_s, _cancel_requests, server)
        try:
            await server.shutdown(sockets=[self._socket])
        finally:
            patience.cancel()


def _cancel_requests(server: uvicorn.Server) -> None:
    for task in list(server.server_state.tasks):
        task.cancel()


def _bind(host: str, port: int) -> socket.socket:
    """A listening address. Raises CvxError `PortInUse`, `CannotListen`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if isinstance(error, PermissionError):
            hint = "Take a port above 1023, or allow this program to listen there."
        else:
            hint = "Stop the program that uses it, or choose another port."
        raise CvxError(
            "PortInUse" if not isinstance(error, PermissionError) else "CannotListen",
            f"Cannot listen on {host}:{port}: {error.strerror}.",
            kind="unavailable",
            hint=hint,
            retry_when="env",
        ) from error
    return listener
