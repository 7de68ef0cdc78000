"""The development loop: watch → build → push → report, for as long as the user likes.

Every failure names what could cure it (`retry_when`), and the loop waits for exactly that: a file, a row of
the offending table, an environment variable, or time; always for files as well, since people fix things in
unexpected places. A backend that dies is started again. Type errors are shown beside all this and stop nothing.

Source: reference/cli-and-deploy.md §1.7.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from cvx.errors import CvxError
from cvx.toolchain.build import Bundler, Typecheck, TypecheckResult
from cvx.toolchain.client import (
    DeploymentClient,
    FunctionAnswer,
    LiveClient,
    LoggedCall,
    Pusher,
    end_task,
    follow_logs,
    raise_for_function,
)
from cvx.toolchain.dev.front_end import FrontEnd
from cvx.toolchain.dev.local_backend import LocalBackend, limit_settings, start_backend
from cvx.toolchain.dev.pipeline import Build, Pipeline, Pushed, needs_packages
from cvx.toolchain.dev.watcher import Watcher, initial_watch, watch_set
from cvx.toolchain.progress import Notice, Reporter, watched_files_of
from cvx.toolchain.project import (
    ENV_LOCAL,
    Deployment,
    Project,
    detect_framework,
    ensure_ignored,
    find_project,
    local_state,
    url_in_env_local,
    with_code_frame,
    write_urls,
)

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 16.0
BACKEND_POLL_S = 0.1
TYPECHECK_PAUSE_S = 0.15
"""A type check begins this long after a push, so that the new results reach the screen first."""

TailLogs = Literal["always", "pause-on-deploy", "disable"]
TypecheckMode = Literal["try", "enable", "disable"]


@dataclass(frozen=True)
class DevOptions:
    """What `cvx dev` was asked to do."""

    once: bool = False
    until_success: bool = False
    start: str | None = None
    run: str | None = None
    typecheck: TypecheckMode = "try"
    codegen: bool = True
    tail_logs: TailLogs = "pause-on-deploy"
    port: int | None = None
    beside: bool = False
    """Another deployment than the one commands use unasked: `.env.local` stays with that one."""

    @property
    def ends(self) -> bool:
        """Does it end after the first success?"""
        return self.once or self.until_success


class DevView(Reporter, Protocol):
    """Shows the loop to somebody. Called on the loop's thread, except `report`."""

    def target(self, deployment: Deployment) -> None:
        """The deployment that is developed against is known and answers."""

    def ready(self, pushed: Pushed, seconds: float) -> None:
        """The functions are live; `seconds` since the change was noticed."""

    def failed(self, error: CvxError, waits_for: str) -> None:
        """Something is wrong; the loop goes on when `waits_for` happens."""

    def types(self, result: TypecheckResult) -> None:
        """A type check has ended."""

    def logs(self, call: LoggedCall) -> None:
        """A function ran."""

    def value(self, function: str, answer: FunctionAnswer) -> None:
        """What `--run` returned."""

    def front_end(self, line: str) -> None:
        """A line that the front end of `--start` wrote."""


class DevLoop:
    """One `cvx dev`. `deployment` is None for the local deployment called `name`."""

    def __init__(
        self, project: Project, name: str, deployment: Deployment | None, options: DevOptions, view: DevView
    ) -> None:
        self._root = project.root
        self._project = project
        self._name = name
        self._remote = deployment
        self._options = options
        self._view = view
        self._bundler = Bundler()
        self._pipeline = Pipeline(project.root, self._bundler, view, codegen=options.codegen)
        self._watcher = Watcher(initial_watch(project.root, project.functions_dir))
        self._backend: LocalBackend | None = None
        self._client: DeploymentClient | None = None
        self._pusher: Pusher | None = None
        self._front_end: FrontEnd | None = None
        self._connection = AsyncExitStack()
        self._checking: asyncio.Task[None] | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._held_logs: list[LoggedCall] | None = None
        self._succeeded = False
        self._failures = 0
        self._shown_failure: tuple[str, str] | None = None

    async def run(self) -> None:
        """Until the first success with `once`/`until_success`, else until cancelled. Raises CvxError."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._close)
            if self._remote is None:
                stack.enter_context(local_state(self._project, self._name).dev_lock())
            with suppress(CvxError):  # The first build reports it properly.
                self._bundler.start(self._project)
            await self._cycle()

    async def _cycle(self) -> None:
        error: CvxError | None = None
        while True:
            begin = time.monotonic()
            # Beside the build: a backend takes as long to start as a bundler.
            self._connecting = asyncio.create_task(self._connect(), name="connect")
            try:
                pushed = await self._once(self._connecting)
            except CvxError as failure:
                error = failure
                await self._after_failure(error)
            else:
                # A save that changed nothing is no news, except that it cured what was wrong.
                if pushed.outcome is not None or error is not None:
                    self._view.ready(pushed, time.monotonic() - begin)
                    await self._after_success(pushed.build)
                error, self._failures, self._shown_failure = None, 0, None
                if self._options.ends:
                    return
            self._release_logs()
            if await self._something_changes(error):
                self._shown_failure = None  # The user did something: answer, even if with the same words.

    async def _once(self, connecting: asyncio.Task[None]) -> Pushed:
        """Build and push what the files say now; the connection is made meanwhile."""
        self._watcher.look()
        if self._options.tail_logs == "pause-on-deploy" and self._held_logs is None:
            self._held_logs = []
        try:
            build = await self._pipeline.build()
        except CvxError as error:
            await _settled(connecting)
            self._follow(watched_files_of(error), packages=needs_packages(error))
            raise
        self._project = build.project
        self._follow(build.bundle.watched_files)
        await connecting
        assert self._pusher is not None, "connected"
        if not self._options.ends or self._options.typecheck == "disable":
            return await self._pipeline.push(build, self._pusher)
        return await self._push_checked(build, self._pusher)

    async def _push_checked(self, build: Build, pusher: Pusher) -> Pushed:
        """Push for `--once`: type errors stop it before anything is activated, as in the official CLI."""
        results: list[TypecheckResult] = []

        def check() -> None:
            results.append(checked_types(build.project, self._options.typecheck))

        try:
            pushed = await self._pipeline.push(build, pusher, before_finish=check)
        except CvxError as error:
            self._follow(build.bundle.watched_files | watched_files_of(error))
            raise
        for result in results:
            self._view.types(result)
        return pushed

    def _follow(self, read: frozenset[Path], *, packages: bool = False) -> None:
        self._watcher.follow(watch_set(self._project, read, packages=packages))

    # ---- the deployment --------------------------------------------------------------------------

    async def _connect(self) -> None:
        """Have a deployment that answers, and everything that hangs on it; quick when nothing changed."""
        if self._remote is None:
            if self._backend is not None and not self._backend.is_gone():
                if self._backend.limits == limit_settings(self._project):
                    return
                self._view.report(Notice("cvx.toml sets other limits: the backend starts again with them."))
                await self._disconnect()
                await asyncio.to_thread(self._backend.stop)
            elif self._backend is not None:
                self._view.report(_ended(self._backend))
            await self._disconnect()
            state = local_state(self._project, self._name)
            # A second start takes the ports that are noted by now, not those asked for at first.
            port = self._options.port if self._backend is None else None
            self._backend = await start_backend(self._project, state, self._view, port=port)
            deployment = self._backend.deployment
        elif self._client is not None:
            return
        else:
            deployment = self._remote
        client = await self._connection.enter_async_context(DeploymentClient(deployment))
        site_url = deployment.site_url
        if self._remote is not None:
            site_url = (await client.canonical_urls()).site
        self._client, self._pusher = client, Pusher(client)
        self._pipeline.forget()
        self._view.target(deployment)
        self._write_urls(deployment, site_url)
        if self._options.tail_logs != "disable" and not self._options.ends:
            since = None if self._remote is not None else time.time() * 1000
            tail = asyncio.create_task(self._tail(client, since), name="logs")
            self._connection.push_async_callback(end_task, tail)

    def _write_urls(self, deployment: Deployment, site_url: str | None) -> None:
        if self._options.beside:
            kept = url_in_env_local(self._project)
            if kept not in (None, deployment.url):
                what = f"{ENV_LOCAL} keeps {kept}: {deployment.name!r} is not the chosen deployment"
                self._view.report(Notice(f"{what}. To choose it: cvx deployment select {deployment.name}"))
                return
        change = write_urls(self._project, deployment.url, site_url)
        for warning in change.warnings:
            self._view.report(Notice(warning, "warning"))
        if change.changed:
            self._view.report(Notice(f"Saved {' and '.join(change.changed)} to {change.file.name}"))
            ensure_ignored(self._root, (ENV_LOCAL,))
            self._watcher.accept(change.file)

    async def _disconnect(self) -> None:
        self._client = self._pusher = None
        await self._connection.aclose()
        self._connection = AsyncExitStack()

    async def _tail(self, client: DeploymentClient, since: float | None) -> None:
        with suppress(CvxError):
            async for call in follow_logs(client, since=since):
                if self._held_logs is not None:
                    self._held_logs.append(call)
                else:
                    self._view.logs(call)

    def _release_logs(self) -> None:
        held, self._held_logs = self._held_logs, None
        for call in held or ():
            self._view.logs(call)

    # ---- after a run -----------------------------------------------------------------------------

    async def _after_success(self, build: Build) -> None:
        first, self._succeeded = not self._succeeded, True
        if first and self._options.run is not None:
            await self._run_function(self._options.run)
        if first and self._options.start is not None:
            framework = detect_framework(self._project.package_json)
            assert self._client is not None, "connected"
            variables = {framework.url_variable: self._client.deployment.url}
            loop = asyncio.get_running_loop()

            def show(line: str) -> None:
                loop.call_soon_threadsafe(self._view.front_end, line)

            self._front_end = FrontEnd(self._project, self._options.start, variables, show)
        if self._options.typecheck == "disable" or self._options.ends:  # Then it was checked before.
            return
        await end_task(self._checking)
        self._checking = asyncio.create_task(self._check_types(build.project), name="typecheck")

    async def _run_function(self, function: str) -> None:
        assert self._client is not None, "connected"
        answer = await self._client.call_function(function, b"{}")
        self._view.value(function, answer)
        try:
            raise_for_function(function, answer)
        except CvxError as error:
            shown = with_code_frame(self._project, error)
            if self._options.ends:
                raise shown from error
            self._view.failed(shown, "")

    async def _check_types(self, project: Project) -> None:
        await asyncio.sleep(TYPECHECK_PAUSE_S)
        check = await asyncio.to_thread(Typecheck, project)
        try:
            result = await asyncio.to_thread(check.result)
        except CvxError as error:
            self._view.failed(error, "")
            return
        finally:
            check.cancel()
        self._view.types(result)

    async def _after_failure(self, error: CvxError) -> None:
        """Show it; end when nothing the user can do here would help."""
        if self._options.once or error.kind in ("forbidden", "unauthenticated"):
            raise error
        self._failures += 1
        if self._pusher is not None:
            self._pusher.forget()
        if (error.code, error.message) == self._shown_failure:
            self._view.report(Notice(f"Tried again; still {error.code}.", "verbose"))
            return
        self._shown_failure = (error.code, error.message)
        self._view.failed(error, _cure(error))

    async def _something_changes(self, error: CvxError | None) -> bool:
        """Wait for a reason to try again; true when it was a file."""
        waits: list[Awaitable[object]] = [
            self._watcher.changed(),
            self._backend_ends(),
            self._front_end_ends(),
        ]
        if error is not None:
            waits += self._cures(error)
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                await end_task(task)
        if self._backend is not None and self._backend.is_gone():
            self._pipeline.forget()
        return tasks[0] in done

    def _cures(self, error: CvxError) -> list[Awaitable[object]]:
        refused = "status" in error.details
        cures: list[Awaitable[object]] = []
        if error.retry_when == "time" or error.kind == "unavailable":
            seconds = min(BACKOFF_FIRST_S * 2 ** (self._failures - 1), BACKOFF_MAX_S)
            cures.append(asyncio.sleep(seconds * random.uniform(0.5, 1.5)))
        if error.retry_when == "data" and error.details.get("table"):
            args = {"tableName": error.details["table"]}
            component = error.details.get("component") or ""
            cures.append(self._live_change("_system/cli/queryTable:default", args, component))
        if error.retry_when == "env" or (refused and error.retry_when == "files"):
            cures.append(self._live_change("_system/cli/queryEnvironmentVariables:default", {}, None))
        return cures

    async def _live_change(self, path: str, args: dict[str, str], component: str | None) -> None:
        """Return when a system query's result changes; keep trying while the deployment is away."""
        while True:
            with suppress(CvxError):
                assert self._client is not None, "the deployment refused something, so there is one"
                async with LiveClient(self._client.deployment) as live:
                    await live.wait_for_change(path, args, component)
                    return
            await asyncio.sleep(1)

    async def _backend_ends(self) -> None:
        while self._remote is not None or self._backend is None or not self._backend.is_gone():
            await asyncio.sleep(BACKEND_POLL_S)
        if self._failures:  # It has just been started and is gone again: not in a tight loop.
            await asyncio.sleep(min(BACKOFF_FIRST_S * 2**self._failures, BACKOFF_MAX_S))

    async def _front_end_ends(self) -> None:
        while self._front_end is None or self._front_end.poll() is None:
            await asyncio.sleep(BACKEND_POLL_S)
        await asyncio.to_thread(self._front_end.drain)
        code, command = self._front_end.poll(), self._front_end.command
        self._front_end = None
        if code:
            raise CvxError(
                "FrontEndFailed",
                f"`{command}` ended with status {code}.",
                hint="Its own output, above, says why.",
            )
        self._view.report(Notice(f"`{command}` has ended; the functions are still watched."))

    async def _close(self) -> None:
        """Everything down, within a second, whatever state it is in."""
        await end_task(self._connecting)
        await end_task(self._checking)
        await self._watcher.close()
        if self._front_end is not None:
            await asyncio.to_thread(self._front_end.stop)
        closing = asyncio.to_thread(self._bundler.close)
        await self._disconnect()
        if self._backend is not None:
            await asyncio.to_thread(self._backend.stop)
        await closing


def develop(
    folder: Path, name: str, deployment: Deployment | None, options: DevOptions, view: DevView
) -> None:
    """Run the loop from synchronous code. SIGTERM and SIGHUP end it like Ctrl-C (KeyboardInterrupt)."""

    async def main() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        interrupted = False

        def interrupt() -> None:
            # Once: an impatient second Ctrl-C must not keep the children from being stopped.
            nonlocal interrupted
            if not interrupted:
                interrupted = True
                task.cancel()

        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            loop.add_signal_handler(number, interrupt)
        project = find_project(folder)
        try:
            await DevLoop(project, name, deployment, options, view).run()
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None

    asyncio.run(main())


def checked_types(project: Project, mode: TypecheckMode) -> TypecheckResult:
    """Check the types now, in this thread; raises what `check_types_passed` raises."""
    checking = Typecheck(project)
    try:
        result = checking.result()
    finally:
        checking.cancel()
    check_types_passed(result, mode)
    return result


def check_types_passed(result: TypecheckResult, mode: TypecheckMode) -> None:
    """Raise `TypeErrors` unless the check passed as `mode` demands ("try" forgives a missing compiler)."""
    if result.status == "failed":
        count = sum(1 for d in result.diagnostics if d.severity == "error")
        raise CvxError(
            "TypeErrors",
            f"{count} type error{'s' if count != 1 else ''} in the functions.",
            hint="Correct them, or pass --typecheck disable.",
            retry_when="files",
            details={"diagnostics": result.diagnostics, "watched_files": result.files},
        )
    if result.status == "unavailable" and mode == "enable":
        raise CvxError(
            "TypecheckUnavailable",
            f"The types cannot be checked: {result.reason}.",
            hint=result.hint,
            retry_when="files",
        )


def _cure(error: CvxError) -> str:
    """What the loop waits for, in words."""
    if error.retry_when == "data":
        table = error.details.get("table")
        return f"a change in table {table} or in a file" if table else "a change in a file"
    if error.retry_when == "env":
        return "an environment variable or a file to change"
    if error.retry_when == "time" or error.kind == "unavailable":
        return "a moment; it is tried again by itself"
    return "a change in a file"


def _ended(backend: LocalBackend) -> Notice:
    words = backend.last_words(4)
    return Notice(
        "The backend has ended; starting it again." + (f" Its last words:\n{words}" if words else ""),
        "warning",
    )


async def _settled(task: asyncio.Task[None]) -> None:
    """Let a task end; its error is kept for who awaits it next."""
    with suppress(CvxError):
        await asyncio.shield(task)
