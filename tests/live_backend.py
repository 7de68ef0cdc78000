"""A real backend in this process, on ports of its own, with its loop in a thread: for tests that also look inside."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from cvx.backend.auth import load_instance
from cvx.backend.backend import Backend
from cvx.backend.config import BackendConfig, Limits

T = TypeVar("T")


class LiveBackend:
    """Started by `with`. `url`, `site_url` and `admin_key` are what a client needs."""

    def __init__(self, data: Path, *, limits: dict[str, Any] | None = None, **config: Any) -> None:
        instance = load_instance(data, name="test-instance")
        self.admin_key = instance.admin_key
        self.config = BackendConfig(
            data_dir=data,
            instance_name=instance.name,
            instance_secret=instance.secret,
            port=0,
            site_port=0,
            deno_children=1,
            limits=replace(Limits(), **(limits or {})),
            **config,
        )
        self.backend = Backend(self.config)
        self.url = self.site_url = ""
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="backend", daemon=True)

    def __enter__(self) -> LiveBackend:
        self._thread.start()
        assert self._ready.wait(60), "the backend did not start within 60 s"
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(60)
        assert not self._thread.is_alive(), "the backend did not stop within 60 s"
        if self._failure is not None:
            raise self._failure

    @property
    def headers(self) -> dict[str, str]:
        """Of a request by an admin."""
        return {"Authorization": f"Convex {self.admin_key}"}

    @property
    def socket_url(self) -> str:
        return self.url.replace("http", "ws", 1) + "/api/1.48.0/sync"

    def run(self, body: Callable[[], Awaitable[T]]) -> T:
        """Run something on the backend's own loop."""

        async def call() -> T:
            return await body()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(60)

    def _serve(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        await self.backend.serve(self._on_ready, self._stopping)

    def _on_ready(self, url: str, site_url: str) -> None:
        self.url, self.site_url = url, site_url
        self._ready.set()
