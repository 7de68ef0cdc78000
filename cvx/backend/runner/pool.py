"""Warm Deno children, and what happens when one dies.

Calls go to the child with the fewest under way (the first of equals, so that light load keeps one child's caches
warm). A child that dies takes only the guilty call with it: every other call in it is started again from its
beginning with a fresh host, innocents in the pool, suspects one to a child, where a second death proves it.

A call that fails because it tried to change what executions share (a patched prototype) is run again in a child
with an open realm, which runs one call at a time and puts everything back after it. A call whose early writes do not
stand runs again without any, as does every call that is started again.

Source: reference/runtime-and-database.md §3.3, §13.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic

from cvx.backend.config import Limits
from cvx.backend.runner import deno
from cvx.backend.runner.analysis import analysis
from cvx.backend.runner.child_process import WATCH_EVERY_S, ChildProcesses, look_at
from cvx.backend.runner.interface import (
    AnalyzeRequest,
    AnalyzeResult,
    FunctionCall,
    FunctionFailure,
    FunctionOutcome,
    SyscallHost,
)
from cvx.backend.runner.isolate import EarlyWriteRefused, Isolate, IsolateLost, serving
from cvx.backend.runner.places import Places, too_many
from cvx.backend.runner.verdicts import of_function, stopping
from cvx.values import FunctionPath

_STUCK_AFTER_S = 0.05
_AFTER_FAILED_START_S = 1.0


class IsolatePool:
    """A FunctionRunner over Deno children. `start` before use; `close` leaves no process behind."""

    def __init__(self, limits: Limits, children: int = 2, deno_path: Path | None = None) -> None:
        self._limits = limits
        self._size = max(1, children)
        self._deno_path = deno_path
        self._processes = ChildProcesses()
        self._isolates: list[Isolate] = []
        self._leaving: list[Isolate] = []  # Worn or dead, with calls that have not ended yet.
        self._apart: list[Isolate] = []  # Children of one call: open realms, and cells in use.
        self._cells: list[Isolate] = []  # Empty ones for further suspects.
        self._suspects = 0
        self._waiting: deque[asyncio.Future[Isolate]] = deque()
        self._starting: set[asyncio.Task[None]] = set()
        self._no_start_before = 0.0
        waiting = (limits.runner_calls_waiting_max, None, "functions")
        self._alone = Places(limits.runner_suspects_max, *waiting)
        self._open = Places(limits.runner_open_realms_max, *waiting)
        self._needs_open_realm: OrderedDict[tuple[str, FunctionPath], None] = OrderedDict()
        self._watcher: asyncio.Task[None] | None = None

    # ---- life

    async def start(self) -> None:
        """Start the children; returns when there is one. Raises CvxError "FunctionRunnerFailed" when none would start,
        and "BackendStopping"; then no process is left."""
        if self._deno_path is None:
            self._deno_path = deno.find_deno()
        try:
            pending: set[asyncio.Task[None]] = {self._start_one() for _ in range(self._size)}
            while pending and not self._isolates:
                ended, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if self._processes.closing:
                raise stopping()
            if not self._isolates:
                ended.pop().result()
        except BaseException:
            await self.close()
            raise
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    def _start_one(self) -> asyncio.Task[None]:
        task = self._processes.spawn(self._add_isolate())
        self._starting.add(task)
        task.add_done_callback(self._started)
        return task

    def _started(self, task: asyncio.Task[None]) -> None:
        self._starting.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        self._no_start_before = monotonic() + _AFTER_FAILED_START_S
        if not self._starting and all(isolate.dead for isolate in self._isolates):
            while self._waiting:  # Nobody is left who could serve them.
                waiter = self._waiting.popleft()
                if not waiter.done():
                    waiter.set_exception(error)

    async def _add_isolate(self) -> None:
        isolate = await self._new_isolate()
        self._isolates.append(isolate)
        self._isolates_changed()

    async def _new_isolate(self, *, open_realm: bool = False) -> Isolate:
        deno_path = self._deno_path
        assert deno_path is not None, "start() comes first"
        return await self._processes.started(
            lambda: Isolate(self._processes, deno_path, self._limits, open_realm=open_realm),
            self._limits.runner_start_attempts_max,
        )

    async def close(self) -> None:
        """End every child and wait until they are gone. Calls under way fail as "unavailable"."""
        self._processes.closing = True
        for task in self._starting:
            task.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        self._alone.close()
        self._open.close()
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(stopping())
        await self._processes.close([*self._isolates, *self._leaving, *self._apart, *self._cells])

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            look_at([*self._isolates, *self._leaving, *self._apart], _look)
            self._bury_dead()
            if monotonic() >= self._no_start_before:
                self._top_up()
            self._isolates_changed()

    def _top_up(self) -> None:
        """Have as many children as there should be."""
        while len(self._isolates) + len(self._starting) < self._size and not self._processes.closing:
            self._start_one()

    # ---- choosing a child

    async def _checkout(self) -> Isolate:
        nested_in = serving.get()
        if self._processes.closing:
            raise stopping()
        if nested_in is not None or not self._waiting:
            isolate = self._choose(nested_in)
            if isolate is not None:
                isolate.reserved += 1
                return isolate
        self._bury_dead()
        if not self._isolates and not self._starting:
            self._start_one()  # None could be started before: perhaps now.
        if len(self._waiting) >= self._limits.runner_calls_waiting_max:
            raise too_many("Too many functions are waiting to run.")
        waiter: asyncio.Future[Isolate] = asyncio.get_running_loop().create_future()
        if nested_in is None:
            self._waiting.append(waiter)
        else:
            self._waiting.appendleft(waiter)  # Who waits for it holds a place.
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif not waiter.cancelled() and waiter.exception() is None:
                self._give_back(waiter.result())
            raise

    def _choose(self, nested_in: Isolate | None) -> Isolate | None:
        if nested_in is not None and nested_in in self._isolates and not nested_in.dead:
            return nested_in  # Its modules are warm, and a nested call must not wait for a place.
        best: Isolate | None = None
        for isolate in self._isolates:
            if (
                not isolate.dead
                and not isolate.retiring
                and (best is None or isolate.reserved < best.reserved)
            ):
                best = isolate
        if best is not None and best.reserved and len(self._isolates) > 1:
            best = self._least_stuck(best)
        if best is not None and (
            best.reserved < self._limits.runner_calls_per_child_max or nested_in is not None
        ):
            return best
        return None

    def _least_stuck(self, best: Isolate) -> Isolate:
        """Another than the least loaded, when that one has been silent with work: it may be in a loop."""
        now = monotonic()
        if best.silent_s(now) < _STUCK_AFTER_S:
            return best
        others = [
            i for i in self._isolates if not i.dead and not i.retiring and i.silent_s(now) < _STUCK_AFTER_S
        ]
        return min(others, key=lambda isolate: isolate.reserved, default=best)

    def _give_back(self, isolate: Isolate) -> None:
        isolate.reserved -= 1
        if isolate in self._isolates and (isolate.dead or self._is_worn(isolate)):
            self._let_go(isolate)
        elif isolate in self._leaving and not isolate.reserved:
            self._leaving.remove(isolate)
            self._retire(isolate)
        if self._waiting:
            self._isolates_changed()

    def _is_worn(self, isolate: Isolate) -> bool:
        limits = self._limits
        return (
            isolate.started_calls >= limits.runner_calls_per_child_life
            or isolate.memory_bytes > limits.runner_recycle_bytes
        ) and not self._processes.closing

    def _bury_dead(self) -> None:
        """Also those that died with nothing to do."""
        for isolate in [isolate for isolate in self._isolates if isolate.dead]:
            self._let_go(isolate)
        for isolate in [isolate for isolate in self._apart if isolate.dead]:
            if isolate.open_realm and not isolate.reserved:
                self._apart.remove(isolate)

    def _let_go(self, isolate: Isolate) -> None:
        """It takes no more calls; another takes its place. It is closed when the last of its calls is over."""
        isolate.retiring = True
        self._isolates.remove(isolate)
        if isolate.reserved:
            self._leaving.append(isolate)
        else:
            self._retire(isolate)
        self._top_up()

    def _retire(self, isolate: Isolate) -> None:
        self._processes.spawn(isolate.close())

    def _isolates_changed(self) -> None:
        """There may be places: they go to those that wait, in turn."""
        while self._waiting:
            isolate = self._choose(None)
            if isolate is None:
                return
            waiter = self._waiting.popleft()
            if not waiter.done():
                isolate.reserved += 1
                waiter.set_result(isolate)

    # ---- running

    async def run(self, call: FunctionCall, host_factory: Callable[[], SyscallHost]) -> FunctionOutcome:
        """See FunctionRunner.run."""
        needs = (call.bundle.key, call.path)
        strict = replace(call, early_writes_max=0) if call.early_writes_max else call
        if needs not in self._needs_open_realm:
            following = call

            def attempt(isolate: Isolate) -> Awaitable[tuple[FunctionOutcome, bool]]:
                nonlocal following
                current, following = following, strict  # Only the first attempt settles writes early.
                return isolate.run(current, host_factory())

            outcome, frozen = await self._run_hardened(attempt)
            if not frozen:
                return outcome
            self._needs_open_realm[needs] = None
            if len(self._needs_open_realm) > self._limits.runner_open_realm_functions_max:
                self._needs_open_realm.popitem(last=False)
        return await self._run_open(lambda isolate: isolate.run(strict, host_factory()))

    async def _run_hardened(self, attempt: _Attempt) -> tuple[FunctionOutcome, bool]:
        deaths = 0
        while True:
            isolate = await self._checkout()
            try:
                return await attempt(isolate)
            except EarlyWriteRefused:
                continue
            except IsolateLost as caught:
                lost = caught
            finally:
                self._give_back(isolate)
            if self._processes.closing:
                raise stopping()
            deaths += 1
            if lost.sole and lost.cause in ("timeout", "memory"):
                return _verdict(lost), False
            if lost.suspect or deaths >= self._limits.runner_restarts_max:
                return await self._run_suspect(attempt)

    async def _run_suspect(self, attempt: _Attempt) -> tuple[FunctionOutcome, bool]:
        """Run it with a child to itself, so that a death can be nobody else's fault."""
        if serving.get() is not None:
            return await self._run_alone(
                attempt
            )  # Its parent may hold a place here: it must not wait for one.
        self._suspects += 1
        try:
            async with self._alone.one():
                return await self._run_alone(attempt)
        finally:
            self._suspects -= 1
            if self._suspects == 0:
                while self._cells:
                    self._retire(self._cells.pop())

    async def _run_alone(self, attempt: _Attempt) -> tuple[FunctionOutcome, bool]:
        most = self._limits.runner_restarts_max
        for deaths in range(1, most + 1):
            isolate = self._free_cell() or await self._new_isolate()
            self._apart.append(isolate)
            try:
                return await attempt(isolate)
            except IsolateLost as lost:
                if self._processes.closing:
                    raise stopping() from None
                blame = lost.cause == "timeout" or (lost.cause == "memory" and lost.sole)
                if lost.suspect and (blame or deaths == most):
                    return _verdict(lost), False
            finally:
                self._apart.remove(isolate)
                if isolate.dead or self._suspects < 2 or self._processes.closing:
                    self._retire(isolate)
                else:
                    self._cells.append(isolate)  # For the next of those that wait.
        failure = FunctionFailure("The process that runs functions keeps ending", kind="crash")
        return FunctionOutcome(None, failure, []), False

    def _free_cell(self) -> Isolate | None:
        while self._cells:
            cell = self._cells.pop()
            if not cell.dead:
                return cell
            self._retire(cell)
        return None

    async def _run_open(self, attempt: _Attempt) -> FunctionOutcome:
        if serving.get() is not None:
            return await self._run_in_open_realm(attempt)
        async with self._open.one():
            return await self._run_in_open_realm(attempt)

    async def _run_in_open_realm(self, attempt: _Attempt) -> FunctionOutcome:
        for _ in range(self._limits.runner_restarts_max):
            isolate = self._free_open_realm()
            if isolate is None:
                isolate = await self._new_isolate(open_realm=True)
                self._apart.append(isolate)
            isolate.reserved += 1
            try:
                return (await attempt(isolate))[0]
            except IsolateLost as lost:
                if self._processes.closing:
                    raise stopping() from None
                if (lost.cause == "timeout" and lost.suspect) or (lost.cause == "memory" and lost.sole):
                    return _verdict(lost)
            finally:
                isolate.reserved -= 1
                if isolate.dead or self._is_worn(isolate) or self._free_open_realm(isolate):
                    self._apart.remove(isolate)
                    self._retire(isolate)
        return FunctionOutcome(
            None, FunctionFailure("The process that runs functions ended", kind="crash"), []
        )

    def _free_open_realm(self, beside: Isolate | None = None) -> Isolate | None:
        free = (i for i in self._apart if i.open_realm and not i.reserved and not i.dead and i is not beside)
        return next(free, None)

    # ---- analysis

    async def analyze(self, request: AnalyzeRequest) -> AnalyzeResult:
        """See FunctionRunner.analyze."""
        return await analysis(request, partial(self._analyze_one, request))

    async def _analyze_one(self, request: AnalyzeRequest, mode: str, path: str) -> FunctionOutcome:
        async def attempt(isolate: Isolate) -> tuple[FunctionOutcome, bool]:
            return await isolate.analyze(
                request.bundle,
                path,
                mode,
                request.env,
                request.import_phase_ms,
                request.import_seed,
                request.deadline_ms,
            )

        outcome, frozen = await self._run_hardened(attempt)
        return await self._run_open(attempt) if frozen else outcome


_Attempt = Callable[[Isolate], Awaitable[tuple[FunctionOutcome, bool]]]


def _look(isolate: Isolate, now: float) -> None:
    if isolate.has_work:
        isolate.watch(now)


def _verdict(lost: IsolateLost) -> FunctionOutcome:
    return FunctionOutcome(None, of_function(lost.cause, lost.deadline_ms), [])
