"""One Deno child: calls go in, syscalls come out, answers go in, outcomes come out.

Many calls are under way in it at once, and what arrives is handled where it is read, so a host that answers at once
costs no task switch. The child is watched from outside: it is killed when it has computed without a word for longer
than the deadline, or is too large. Those whose fault it may be then are *suspects*; the pool runs them again alone.

Rule: only the pool decides what happens to calls of a child that died.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from cvx.backend.config import Limits
from cvx.backend.runner import deno, messages
from cvx.backend.runner.answers import Answers, Steps, answers, writes_stand
from cvx.backend.runner.child_memory import ChildMemory
from cvx.backend.runner.child_process import ChildProcess, ChildProcesses
from cvx.backend.runner.interface import (
    CodeBundle,
    FunctionCall,
    FunctionFailure,
    FunctionOutcome,
    LogLine,
    SyscallFailure,
    SyscallHost,
)
from cvx.backend.runner.verdicts import DeathCause

serving: ContextVar[Isolate | None] = ContextVar("serving", default=None)
"""The child whose call's syscalls are being answered in this context: a call made here is a nested one."""

_SILENT_MARGIN_S = 0.1
_STOPPED_FACTOR = 10  # Deadlines by the clock, for a child that is silent while others have the CPU.


class IsolateLost(Exception):
    """The child died under a call. `suspect`: it may be this call's fault; `sole`: it can be nobody else's."""

    def __init__(self, cause: DeathCause, *, suspect: bool, sole: bool, deadline_ms: float = 1000.0) -> None:
        super().__init__(cause)
        self.deadline_ms = deadline_ms
        self.cause: DeathCause = cause
        self.suspect = suspect
        self.sole = sole


class EarlyWriteRefused(Exception):
    """User code was told that a write is done, and the host refuses it: nothing of this attempt counts."""


@dataclass(eq=False)
class Running:
    """One execution in the child. `in_child`: it has a message of ours that it has not answered yet."""

    id: int
    host: SyscallHost | None
    bundle: str
    path: str
    deadline_ms: float
    future: asyncio.Future[tuple[FunctionOutcome, bool]]
    early_writes: bool = False
    in_child: bool = True
    task: asyncio.Task[None] | None = None
    lost: IsolateLost | None = None


class Isolate:
    """One child. `start`, then `run` and `analyze` as often as wanted, then `close`."""

    def __init__(
        self, siblings: ChildProcesses, deno_path: Path, limits: Limits, *, open_realm: bool = False
    ) -> None:
        self.open_realm = open_realm
        self.limits = limits
        self.running: dict[int, Running] = {}
        self.reserved = 0  # calls the pool has given to this child
        self.started_calls = 0
        self.retiring = False
        self.memory_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._process = ChildProcess(
            siblings,
            "functions",
            lambda stderr: deno.start_child(deno_path, limits, stderr, open_realm=open_realm),
            self._on_data,
            self._on_end,
        )
        self._send = self._process.send
        self._reader = messages.FrameReader(limits.runner_frame_bytes_max)
        self._ids = itertools.count(1)
        self._memory = ChildMemory(limits, self._send)
        self._in_child = 0
        self._progress_at = monotonic()
        self._cpu_at_silence: float | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def dead(self) -> bool:
        return self._process.ending

    async def start(self) -> None:
        """Start the child and wait until it is ready. Raises CvxError "FunctionRunnerFailed", "BackendStopping"."""
        await self._process.start(self.limits.runner_start_s)

    def kill(self, cause: DeathCause) -> None:
        """End the child now. What was running in it is lost for `cause`."""
        self._process.kill(cause)

    async def close(self) -> None:
        """Let the child end by itself, or end it; returns when it is gone, and no call waits for it."""
        self.retiring = True
        await self._process.stop(self.limits.runner_stop_s, kill=bool(self.running))
        for running in self.running.values():
            if not running.future.done():  # Its host is still at work for a child that died before.
                running.future.set_exception(IsolateLost("closed", suspect=False, sole=False))

    # ---- calls

    async def run(self, call: FunctionCall, host: SyscallHost) -> tuple[FunctionOutcome, bool]:
        """The outcome, and whether it failed because it tried to change the shared realm.

        Raises IsolateLost, EarlyWriteRefused, and whatever the host raises.
        """
        running = self._enter(call.bundle, call.path.module, call.deadline_ms, host)
        running.early_writes = call.early_writes_max > 0
        header = (
            running.id,
            call.kind,
            call.bundle.key,
            call.path.module,
            call.path.export,
            self._memory.number("env", call.env, idle=len(self.running) == 1),
            self._memory.number("tables", call.tables, idle=len(self.running) == 1),
            call.now_ms,
            call.seed.hex(),
            call.import_phase_ms,
            call.import_seed.hex(),
            str(call.snapshot_ts),
            call.deadline_ms,
            call.early_writes_max,
        )
        self._send(messages.call_message(header, call.args_json, call.component_args))
        return await self._wait(running)

    async def analyze(
        self,
        bundle: CodeBundle,
        path: str,
        mode: str,
        env: Any,
        import_ms: float,
        seed: bytes,
        deadline_ms: float,
    ) -> tuple[FunctionOutcome, bool]:
        """Look at one module; the value is JSON as js/analyze.js makes it. Otherwise as `run`."""
        running = self._enter(bundle, path, deadline_ms, None)
        number = self._memory.number("env", env, idle=len(self.running) == 1)
        header = (running.id, mode, bundle.key, path, number, import_ms, seed.hex(), deadline_ms)
        self._send(messages.analyze_message(header))
        return await self._wait(running)

    def _enter(self, bundle: CodeBundle, path: str, deadline_ms: float, host: SyscallHost | None) -> Running:
        if self._process.ending:
            raise IsolateLost("closed", suspect=False, sole=False)
        self._memory.know_bundle(bundle, lambda: {running.bundle for running in self.running.values()})
        self.started_calls += 1
        running = Running(next(self._ids), host, bundle.key, path, deadline_ms, self._loop.create_future())
        self.running[running.id] = running
        self._took_ball()
        return running

    async def _wait(self, running: Running) -> tuple[FunctionOutcome, bool]:
        try:
            return await running.future
        finally:
            if self.running.pop(running.id, None) is not None and not self._process.ending:
                # Given up (cancelled, or its host failed): the child need not go on with it.
                self._send(messages.drop_message(running.id))
                if running.in_child:
                    self._gave_ball(running)
            if running.task is not None and not running.task.done():
                running.task.cancel()

    # ---- who has the ball

    def _took_ball(self) -> None:
        if self._in_child == 0:
            self._progress_at = monotonic()
            self._cpu_at_silence = None
        self._in_child += 1

    def _gave_ball(self, running: Running) -> None:
        running.in_child = False
        self._in_child -= 1

    def watch(self, now: float) -> None:
        """Called every so often while there is work: kills a child that is stuck or too large."""
        if self.dead:
            return
        self._process.rewind_notes(self.limits.runner_notes_bytes_max)
        resident = deno.resident_bytes(self.pid)
        if resident is not None and resident > self.limits.runner_resident_bytes_max:
            self.kill("memory")
            return
        cpu = deno.cpu_seconds(self.pid)
        if cpu is not None:
            deno.lend_cpu_time(self.pid, cpu, self.limits.runner_cpu_lease_s)
        if self._in_child == 0:
            return
        silent = now - self._progress_at
        if self._cpu_at_silence is None and cpu is not None:
            self._cpu_at_silence = cpu
        deadline = max((r.deadline_ms for r in self.running.values() if r.in_child), default=1000.0) / 1000
        if silent < deadline + _SILENT_MARGIN_S:
            return
        computed = None if cpu is None or self._cpu_at_silence is None else cpu - self._cpu_at_silence
        if computed is not None and computed < deadline and silent < deadline * _STOPPED_FACTOR:
            return  # It has not had its time yet: the machine is busy.
        self.kill("timeout")

    def silent_s(self, now: float) -> float:
        """For how long it has been at work without a word."""
        return now - self._progress_at if self._in_child else 0.0

    @property
    def has_work(self) -> bool:
        return bool(self.running)

    # ---- what the child says

    def _on_data(self, data: bytes) -> None:
        self._progress_at = monotonic()
        self._cpu_at_silence = None
        for body in self._reader.feed(data):
            for message, payload in messages.decode(body):
                self._handle(message, payload)

    def _handle(self, message: messages.ChildMessage, payload: list[bytes]) -> None:
        if isinstance(message, messages.SyscallsIssued):
            running = self.running.get(message.id)
            if running is not None and running.host is not None:
                self._gave_ball(running)
                if isinstance(message.early, int):
                    self._answer(running, running.host, message, payload)
                elif self._early_writes_stand(running, message.early, payload):
                    self._answer(running, running.host, message, payload[len(message.early) :])
        elif isinstance(message, messages.Done):
            running = self.running.pop(message.id, None)
            if running is not None:
                self._gave_ball(running)
                if isinstance(message.early, int):
                    self._finish(running, message, payload)
                elif self._early_writes_stand(running, message.early, payload):
                    self._finish(running, message, payload[len(message.early) :])
        elif isinstance(message, messages.SourcesNeeded):
            self._memory.send_sources(message)
        elif isinstance(message, messages.ClosureKnown):
            self._memory.learn_closure(message)
        elif isinstance(message, messages.MemoryUsed):
            self.memory_bytes = message.heap + message.external
        else:
            self._process.ready()

    def _early_writes_stand(self, running: Running, names: list[str], payload: list[bytes]) -> bool:
        """Do the writes that were settled early, before what they travelled with. If one fails, the attempt does."""
        if running.future.done() or running.host is None:
            return False
        try:
            stand = writes_stand(running.host, names, payload[: len(names)])
        except Exception as error:  # edge: as in `_answer`.
            self._host_failed(running, error)
            return False
        if not stand:
            running.future.set_exception(EarlyWriteRefused())
        return stand

    def _finish(self, running: Running, done: messages.Done, payload: list[bytes]) -> None:
        if running.future.done():
            return
        if running.host is not None and not isinstance(done.closed, int):
            for query, count, reached_end in done.closed:
                running.host.consumed(query, count, reached_end)
        value, failure, frozen = None, None, False
        if isinstance(done.error, tuple):
            message, frames, kind, has_data, touched_realm = done.error
            failure = FunctionFailure(message, frames, payload[0] if has_data else None, kind)
            frozen = bool(touched_realm)
        else:
            value = payload[0]
        lines = [] if isinstance(done.lines, int) else done.lines
        outcome = FunctionOutcome(
            value,
            failure,
            [LogLine(level, tuple(texts), cut, at) for level, texts, cut, at in lines],
            bool(done.observed & 1),
            bool(done.observed & 2),
            frozenset(done.env_read) if isinstance(done.env_read, list) else frozenset(),
            done.user_time_ms,
            self._memory.closure(running.bundle, running.path),
            bool(done.observed & 4),
        )
        running.future.set_result((outcome, frozen))

    def _answer(
        self, running: Running, host: SyscallHost, asked: messages.SyscallsIssued, payload: list[bytes]
    ) -> None:
        steps = answers(host, asked, payload)
        try:
            awaitable = next(steps)
        except StopIteration as stop:
            self._answered(running, stop.value)
        except Exception as error:  # edge: the host's own exception ends this call; `run` raises it.
            self._host_failed(running, error)
        else:
            running.task = self._loop.create_task(self._answer_later(running, steps, awaitable))

    async def _answer_later(self, running: Running, steps: Steps, awaitable: Awaitable[Any]) -> None:
        serving.set(self)
        try:
            while True:
                awaitable = steps.send(await awaitable)
        except StopIteration as stop:
            self._answered(running, stop.value)
        except Exception as error:  # edge: as in `_answer`.
            self._host_failed(running, error)

    def _answered(self, running: Running, given: Answers) -> None:
        if running.future.done():
            return
        if isinstance(given, SyscallFailure):
            failure = FunctionFailure(given.message, "", given.data_json, given.kind)
            running.future.set_result((FunctionOutcome(None, failure, []), False))
        elif running.lost is not None:
            running.future.set_exception(running.lost)
        else:
            kinds, payload = given
            running.in_child = True
            self._took_ball()
            self._send(messages.results_message(running.id, kinds, payload))

    def _host_failed(self, running: Running, error: Exception) -> None:
        if not running.future.done():
            running.future.set_exception(error)

    # ---- the end

    def _on_end(self) -> None:
        """Tell every call what it has lost. A stuck child is the fault of a call it was working on; memory may
        have been filled by any."""
        cause = self._process.cause
        all_running = list(self.running.values())
        suspects = [r for r in all_running if r.in_child or cause == "memory"]
        others = len(suspects) > 1 or (
            cause == "memory" and self.started_calls > 1
        )  # What earlier calls left.
        for running in all_running:
            suspect = cause != "closed" and running in suspects
            lost = IsolateLost(
                cause,
                suspect=suspect,
                # A refused early write would have kept it from getting there: nothing is proved.
                sole=suspect and not others and not running.early_writes,
                deadline_ms=running.deadline_ms,
            )
            if cause != "closed" and running.task is not None and not running.task.done():
                running.lost = lost  # Its host is at work: a failure there may still decide the call.
            elif not running.future.done():
                running.future.set_exception(lost)
