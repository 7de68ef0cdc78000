"""Composition root: builds every part of a backend, starts them in order and stops them in reverse.

Nothing else in the backend makes a part that another one could have been given. `serve_backend` is the whole
process of `cvx backend serve`.

Rule: when the store no longer knows what is on disk, the process ends at once and acknowledges nothing more.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from cvx.backend.auth import Authenticator, DevIssuer, TokenSigner, UploadTokens, UserTokenChecks
from cvx.backend.config import BackendConfig
from cvx.backend.database import Database
from cvx.backend.deploy import PushService
from cvx.backend.files import open_folder_store
from cvx.backend.functions import FileStorage, FunctionExecutor, TrustedProviders
from cvx.backend.http import ApiApp, HttpServer, Issuing, OneOriginApp, Services, SiteApp, own_transport
from cvx.backend.jobs import Scheduler, Transfers
from cvx.backend.model import SYSTEM_TABLES, DeploymentInfo
from cvx.backend.runner import ActionPool, ActionRunner, Environment, IsolatePool, NodePool
from cvx.backend.server_log import configure_logging, logged_functions
from cvx.backend.sync import SyncServices

if TYPE_CHECKING:
    from httpx import AsyncBaseTransport

_log = logging.getLogger("cvx.backend")

_OPEN_FILES = 65_536

EXIT_DATA_UNKNOWN = 70
"""Exit status after a failed write to disk: what is stored is found out at the next start."""


class SystemClock:
    """The real time."""

    def now_ns(self) -> int:
        return time.time_ns()


class Backend:
    """One deployment. `async with backend.started(url, site_url)`, or `serve` for both of its ports."""

    def __init__(self, config: BackendConfig) -> None:
        self.config = config
        self.clock = SystemClock()
        self._parts = AsyncExitStack()
        self._services: Services | None = None

    async def start(self, url: str, site_url: str) -> None:
        """Open the data, start the runner. The URLs are what functions are told."""
        config = self.config
        runner = IsolatePool(config.limits, config.deno_children)
        self._parts.push_async_callback(runner.close)
        starting = asyncio.create_task(runner.start())  # While the data is opened.
        try:
            db = await Database.open(
                config.data_dir,
                clock=self.clock,
                limits=config.limits,
                system_tables=SYSTEM_TABLES,
                on_fatal=_end_now,
            )
            self._parts.push_async_callback(db.close)
            await starting
            info = DeploymentInfo(config.instance_name, url, site_url)
            files = FileStorage(
                db,
                open_folder_store(config.data_dir / "files", config.limits),
                UploadTokens(config.instance_name, config.instance_secret, config.limits.upload_url_s),
                config.limits,
            )
            self._parts.push_async_callback(files.close)
            files.start()
            node = NodePool(
                config.limits, config.data_dir / "node", config.node_modules, native=config.native_packages
            )
            actions: dict[Environment, ActionRunner] = {"isolate": ActionPool(config.limits), "node": node}
            for action_runner in actions.values():
                self._parts.push_async_callback(action_runner.close)
                await action_runner.start()
            signer = TokenSigner(config.instance_secret)
            executor = FunctionExecutor(
                db,
                runner,
                info,
                config.limits,
                files=files,
                actions=actions,
                redacted=config.redact_logs,
                signer=signer,
            )
            self._parts.callback(executor.close)
            pushes = PushService(db, runner, node, info, config.limits, executor.deployed)
            await pushes.follow_urls()
            dev_issuer = DevIssuer(config.instance_secret) if config.dev_issuer else None
            trusted = TrustedProviders(db, info, dev_issuer)
            self._parts.callback(trusted.close)
            tokens = UserTokenChecks(
                config.limits, trusted.providers, lambda: self.clock.now_ns() / 1e9, self._own_transport
            )
            self._parts.push_async_callback(tokens.close)
            authenticator = Authenticator(config.instance_name, config.instance_secret, tokens)
            issuing = Issuing(signer, dev_issuer, trusted.urls)
            sync = SyncServices(executor, db, authenticator, self.clock, config.limits, config.redact_logs)
            transfers = Transfers(db, files, config.data_dir, self.clock, config.limits)
            self._parts.push_async_callback(transfers.close)
            await transfers.start()
            self._services = Services(
                config, info, db, executor, authenticator, sync, pushes, files, issuing, transfers
            )
            scheduler = Scheduler(db, executor, config.limits)
            self._parts.push_async_callback(scheduler.stop)
            await scheduler.start()
        except BaseException:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await self.stop()
            raise

    def _own_transport(self, url: str) -> AsyncBaseTransport | None:
        """The way to an address that this deployment itself answers: inside the process."""
        services = self._services
        if services is None:
            return None
        return own_transport(url, services.issuing.urls(), services.deployment, self.asgi, self.site_asgi)

    async def stop(self) -> None:
        """End everything that was started, last first. May be called twice."""
        self._services = None
        await self._parts.aclose()

    @property
    def services(self) -> Services:
        assert self._services is not None, "the backend is not started"
        return self._services

    @property
    def asgi(self) -> ApiApp:
        """The app of the deployment's own port."""
        return ApiApp(self.services)

    @property
    def site_asgi(self) -> SiteApp:
        """The app of the port for HTTP actions."""
        return SiteApp(self.services)

    async def serve(self, ready: Callable[[str, str], None], stopping: asyncio.Event) -> None:
        """Serve both ports (or the one) until `stopping` is set; `ready` is told their URLs."""
        config = self.config
        async with AsyncExitStack() as stack:
            # Bound before anything is opened: a port that is taken is the likeliest thing to be wrong.
            api = HttpServer(config.host, config.port, config.limits)
            stack.push_async_callback(api.stop)
            site = None if config.one_port else HttpServer(config.host, config.site_port, config.limits)
            if site is not None:
                stack.push_async_callback(site.stop)
            url = config.origin or api.url
            site_url = config.site_origin or (url if site is None else site.url)
            await self.start(url, site_url)
            try:
                await api.start(OneOriginApp(self.services) if site is None else self.asgi)
                if site is not None:
                    await site.start(self.site_asgi)
                _settle()
                ready(url, site_url)
                async with logged_functions(self.services.executor.log if config.log_functions else None):
                    await stopping.wait()
                await asyncio.gather(*(server.stop() for server in (api, site) if server is not None))
            finally:
                await self.stop()


def serve_backend(config: BackendConfig, ready: Callable[[str, str], None]) -> None:
    """Run a backend in this process until SIGTERM or SIGINT, then stop it cleanly."""
    configure_logging(config.log_format)
    _allow_many_sockets()
    loop = _new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(_serve_until_signal(config, ready))
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _serve_until_signal(config: BackendConfig, ready: Callable[[str, str], None]) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await Backend(config).serve(ready, stopping)


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # Not on every platform.
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _allow_many_sockets() -> None:
    """Each client is an open file, and the usual limit of 1,024 is for programs that serve nobody."""
    try:
        import resource
    except ImportError:  # Not on every platform.
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _settle() -> None:
    """What start-up made stays: keep the garbage collector from going through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _end_now(error: BaseException) -> None:
    """The store lost track of the disk. Called from any thread."""
    _log.critical("the data on disk is in an unknown state, so the backend stops: %s", error)
    os._exit(EXIT_DATA_UNKNOWN)
