"""One Deno child: calls go in, syscalls come out, answers go in, outcomes come out.

Many calls are under way in it at once; everything for one turn of the loop leaves in one write, and what arrives is
handled where it is read, so a host that answers at once costs no task switch. The child is watched from outside:
silent with work for longer than the deadline, or too large, and it is killed. Those whose fault it may be then are
*suspects*; the pool runs them again alone.

Rule: only the pool decides what happens to calls of a child that died.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
from collections.abc import Awaitable
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Literal

from cvx.backend.config import Limits
from cvx.backend.runner import deno, messages
from cvx.backend.runner.answers import Answers, Steps, answers, writes_stand
from cvx.backend.runner.child_memory import ChildMemory
from cvx.backend.runner.interface import (
    CodeBundle,
    FunctionCall,
    FunctionFailure,
    FunctionOutcome,
    LogLine,
    SyscallFailure,
    SyscallHost,
)
from cvx.errors import CvxError, ProtocolError

DeathCause = Literal["timeout", "memory", "crash", "closed"]

serving: ContextVar[Isolate | None] = ContextVar("serving", default=None)
"""The child whose call's syscalls are being answered in this context: a call made here is a nested one."""

_READ_BYTES = 1 << 20
_SILENT_MARGIN_S = 0.1
_STOPPED_FACTOR = 5  # A child that is silent without using CPU (a busy machine) gets this many deadlines.


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

    def __init__(self, deno_path: Path, limits: Limits, *, open_realm: bool = False) -> None:
        self.open_realm = open_realm
        self.limits = limits
        self.running: dict[int, Running] = {}
        self.reserved = 0  # calls the pool has given to this child
        self.started_calls = 0
        self.retiring = False
        self.exclusive = False
        self.dead = False
        self.gone = asyncio.Event()
        self.memory_bytes = 0
        self._deno_path = deno_path
        self._process: subprocess.Popen[bytes] | None = None
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._reader = messages.FrameReader(limits.runner_frame_bytes_max)
        self._outgoing: list[bytes] = []
        self._unwritten: list[memoryview] = []
        self._flush_planned = False
        self._ids = itertools.count(1)
        self._memory = ChildMemory(limits, self._send)
        self._in_child = 0
        self._progress_at = monotonic()
        self._cpu_at_silence: tuple[float, float] | None = None
        self._killed_for: DeathCause | None = None
        self._stderr = b""
        self._stdin = self._stdout = self._stderr_fd = -1

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start the child and wait until it is ready. Raises CvxError "FunctionRunnerFailed"."""
        self._process = await asyncio.to_thread(
            deno.start_child, self._deno_path, self.limits, open_realm=self.open_realm
        )
        deno.lend_cpu_time(self.pid, 0, self.limits.runner_cpu_lease_s)
        process = self._process
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        self._stdin, self._stdout = process.stdin.fileno(), process.stdout.fileno()
        self._stderr_fd = process.stderr.fileno()
        for fd in (self._stdin, self._stdout, self._stderr_fd):
            os.set_blocking(fd, False)
        self._loop.add_reader(self._stdout, self._on_readable)
        self._loop.add_reader(self._stderr_fd, self._on_stderr)
        try:
            await asyncio.wait_for(asyncio.shield(self._ready), self.limits.runner_start_s)
        except (asyncio.TimeoutError, IsolateLost) as error:
            self.kill("crash")
            text = self._stderr.decode("utf-8", "replace").strip()[-500:]
            raise CvxError(
                "FunctionRunnerFailed",
                f"The Deno child that runs functions did not start ({type(error).__name__}). {text}",
                kind="unavailable",
                hint=f"Try it by hand: {self._deno_path} --version",
            ) from None
        except asyncio.CancelledError:
            self.kill("closed")
            raise

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
        if self.dead:
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
            if self.running.pop(running.id, None) is not None and not self.dead:
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
        if self.dead or self._process is None:
            return
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
            self._cpu_at_silence = (cpu, now)
        deadline = max((r.deadline_ms for r in self.running.values() if r.in_child), default=1000.0) / 1000
        if silent < deadline + _SILENT_MARGIN_S:
            return
        if self._cpu_at_silence is not None and cpu is not None and silent < deadline * _STOPPED_FACTOR:
            used, since = self._cpu_at_silence
            if cpu - used < 0.5 * (now - since):
                return  # It hardly ran: the machine is busy, not the function.
        self.kill("timeout")

    def silent_s(self, now: float) -> float:
        """For how long it has been at work without a word."""
        return now - self._progress_at if self._in_child else 0.0

    @property
    def has_work(self) -> bool:
        return bool(self.running)

    # ---- pipes

    def _send(self, message: bytes) -> None:
        self._outgoing.append(message)
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        if not self._outgoing or self.dead:
            return
        data = messages.frame(self._outgoing)
        self._outgoing.clear()
        if self._unwritten:
            self._unwritten.append(memoryview(data))
            return
        try:
            written = os.write(self._stdin, data)
        except BlockingIOError:
            written = 0
        except OSError:
            return  # It is dying: its stdout tells.
        if written < len(data):
            self._unwritten.append(memoryview(data)[written:])
            self._loop.add_writer(self._stdin, self._on_writable)

    def _on_writable(self) -> None:
        while self._unwritten:
            view = self._unwritten[0]
            try:
                written = os.write(self._stdin, view)
            except BlockingIOError:
                return
            except OSError:
                self._unwritten.clear()
                break
            if written < len(view):
                self._unwritten[0] = view[written:]
                return
            self._unwritten.pop(0)
        self._loop.remove_writer(self._stdin)

    def _on_stderr(self) -> None:
        try:
            data = os.read(self._stderr_fd, 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._stderr_fd)
        self._stderr = (self._stderr + data)[-8192:]

    def _on_readable(self) -> None:
        try:
            data = os.read(self._stdout, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._on_end()
            return
        self._progress_at = monotonic()
        self._cpu_at_silence = None
        try:
            for lines in self._reader.feed(data):
                for message, payload in messages.decode(lines):
                    self._handle(message, payload)
        except ProtocolError:
            self.kill("crash")
            return
        if self._outgoing:
            self._flush()

    # ---- what the child says

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
        elif not self._ready.done():
            self._ready.set_result(None)

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
            failure = FunctionFailure(message, frames, payload[0] if has_data else None, kind)  # type: ignore[arg-type]
            frozen = bool(touched_realm)
        else:
            value = payload[0]
        lines = [] if isinstance(done.lines, int) else done.lines
        outcome = FunctionOutcome(
            value,
            failure,
            [LogLine(level, tuple(texts), cut, at) for level, texts, cut, at in lines],  # type: ignore[arg-type]
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

    def kill(self, cause: DeathCause) -> None:
        """End the child now. What was running in it is lost for `cause`."""
        if self._killed_for is None:
            self._killed_for = cause
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)

    async def close(self) -> None:
        """Let the child end by itself (its input ends), or end it; returns when it is gone."""
        process = self._process
        if process is None:
            return
        if self.running:
            self.kill("closed")
        elif not self.dead and process.stdin is not None:
            self._killed_for = self._killed_for or "closed"
            self._end_input()
        try:
            await asyncio.wait_for(self.gone.wait(), self.limits.runner_stop_s)
        except asyncio.TimeoutError:
            self.kill("closed")
            await self.gone.wait()

    def _end_input(self) -> None:
        self.retiring = True
        self._outgoing.clear()
        if self._unwritten:
            self._loop.remove_writer(self._stdin)
            self._unwritten.clear()
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.close()

    def _on_end(self) -> None:
        if self.dead:
            return
        self.dead = True
        self._loop.remove_reader(self._stdout)
        if self._unwritten:
            self._loop.remove_writer(self._stdin)
        self._burial = self._loop.create_task(self._bury())

    async def _bury(self) -> None:
        process = self._process
        assert process is not None
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)  # Its output has ended; nothing more can come.
        await asyncio.to_thread(process.wait)
        self._loop.remove_reader(self._stderr_fd)
        try:
            while data := os.read(self._stderr_fd, 65536):
                self._stderr = (self._stderr + data)[-8192:]
        except OSError:
            pass
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        self._accuse(self._cause())
        self.gone.set()

    def _cause(self) -> DeathCause:
        if self._killed_for is not None:
            return self._killed_for
        return "memory" if b"out of memory" in self._stderr or b"heap limit" in self._stderr else "crash"

    def _accuse(self, cause: DeathCause) -> None:
        """Tell every call what it has lost. A stuck child is the fault of a call it was working on; memory may
        have been filled by any."""
        if not self._ready.done():
            self._ready.set_exception(IsolateLost(cause, suspect=False, sole=False))
            self._ready.exception()
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
