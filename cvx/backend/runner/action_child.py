"""One child that runs actions: calls go in, operations come out whenever they like, outcomes come out.

What is particular to a kind of action ("isolate" here; "use node" is another) is its `ActionProfile`: how its process is
started, which modules of a bundle it may import, how many share one. All else is the same: the frames, the streams, the
deadline, how a call is given up, and what becomes of calls whose child died. A second kind of child is therefore a
script that speaks the frames of `action_messages` (js/action_wire.js is its half, to be imported), a function that
starts it, and `ActionPool(profile, limits)`.

Rule: an action is never started again here; only the pool may, when the child says that it had done nothing yet.
"""

from __future__ import annotations

import asyncio
import itertools
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import msgspec

from cvx.backend.config import Limits
from cvx.backend.runner import action_messages as messages
from cvx.backend.runner import deno
from cvx.backend.runner.action_streams import IncomingStream, OutgoingStream, Streams
from cvx.backend.runner.actions import ActionCall, ActionHost, ActionOutcome, HttpResponseHead
from cvx.backend.runner.child_memory import ChildMemory
from cvx.backend.runner.child_process import ChildProcess, ChildProcesses
from cvx.backend.runner.interface import (
    Environment,
    FunctionFailure,
    LogLine,
    ModuleSource,
    Syscall,
    SyscallFailure,
    TablesChanged,
)
from cvx.backend.runner.messages import FrameReader, Hello, SourcesNeeded
from cvx.backend.runner.verdicts import DeathCause, of_expired_action
from cvx.values import FunctionPath

inside_action: ContextVar[bool] = ContextVar("inside_action", default=False)
"""Whether an operation of an action is being answered: an action called here is a nested one."""

_STOPPED_FACTOR = 5  # A child that is silent without using CPU (a busy machine) gets this many times as long.
_PING_EVERY_S = 0.5
_PING_SHARED_EVERY_S = 0.15
_ABANDONED_S = 1.0
_KEEPS_OTHERS_WAITING_S = 0.2


@dataclass(frozen=True)
class ActionProfile:
    """A kind of action child. `start(stderr, open_realm)` starts its process: stdin and stdout are pipes, `stderr` is
    given. `takes` says which modules of a bundle it may import. `has_open_realm`: see IsolatePool."""

    environment: Environment
    start: Callable[[int, bool], subprocess.Popen[bytes]]
    takes: Callable[[ModuleSource], bool]
    children_max: int
    calls_per_child_max: int
    has_open_realm: bool = True


class ActionLost(Exception):
    """The child died under a call. `blamed`: it was this call's turn, or nobody else was there."""

    def __init__(self, cause: DeathCause, *, blamed: bool) -> None:
        super().__init__(cause)
        self.cause: DeathCause = cause
        self.blamed = blamed


@dataclass(eq=False)
class Running:
    """One action in the child."""

    id: int
    call: ActionCall
    host: ActionHost
    future: asyncio.Future[tuple[ActionOutcome, int]]
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    responder: asyncio.Task[None] | None = None
    streams_in: set[int] = field(default_factory=set)
    streams_out: set[int] = field(default_factory=set)


class ActionChild:
    """One child. `start`, then `run` as often as wanted, then `close`."""

    def __init__(
        self, siblings: ChildProcesses, profile: ActionProfile, limits: Limits, *, open_realm: bool = False
    ) -> None:
        self.profile = profile
        self.limits = limits
        self.open_realm = open_realm
        self.running: dict[int, Running] = {}
        self.reserved = 0  # calls the pool has given to this child
        self.started_calls = 0
        self.computers = 0  # those of them that are known to compute for long
        self.retiring = False
        self.memory_bytes = 0
        self.module_records = 0
        self.idle_since = monotonic()
        self._loop = asyncio.get_running_loop()
        self.process = ChildProcess(
            siblings,
            f"{profile.environment} actions",
            lambda stderr: profile.start(stderr, open_realm),
            self._on_data,
            self._on_end,
        )
        self._frames = FrameReader(limits.runner_frame_bytes_max)
        self._streams = Streams(limits, self.process.send, self.process.send_frame)
        self._handlers: dict[type, Callable[[Any, list[bytes]], None]] = {
            Hello: self._hello,
            messages.Asked: self._asked,
            messages.StoreAsked: self._store_asked,
            messages.BlobAsked: self._blob_asked,
            messages.Logged: self._logged,
            messages.Responded: self._responded,
            messages.Ended: self._ended,
            messages.StreamEnded: self._streams.ended,
            messages.StreamFailed: self._streams.failed,
            messages.Credit: self._streams.granted,
            messages.Stopped: self._streams.stopped,
            messages.Pong: self._pong,
            messages.Bye: self._bye,
            messages.Memory: self._memory_used,
            SourcesNeeded: self._sources_needed,
        }
        self._memory = ChildMemory(limits, self.process.send, profile.takes)
        self._ids = itertools.count(1)
        self.is_doubtful = False  # It has not said a word since a call in it was given up.
        self._pinged = 0
        self._unanswered_since: float | None = None
        self._cpu_at_ping: float | None = None
        self._heard_at = monotonic()

    @property
    def dead(self) -> bool:
        return self.process.ending

    async def start(self) -> None:
        """Start the child and wait until it is ready. Raises CvxError "FunctionRunnerFailed", "BackendStopping"."""
        await self.process.start(self.limits.runner_start_s)
        self.process.send(messages.config_message(_configured(self.limits, self.profile.environment)))

    async def close(self) -> None:
        """Let the child end by itself, or end it; returns when it is gone."""
        self.retiring = True
        await self.process.stop(self.limits.runner_stop_s, kill=bool(self.running))

    # ---- calls

    async def run(self, call: ActionCall, host: ActionHost) -> tuple[ActionOutcome, int]:
        """The outcome, and whether it failed because it tried to change the shared realm (`Ended.error`).

        Raises ActionLost, and whatever the host raises.
        """
        if self.dead:
            raise ActionLost("closed", blamed=False)
        self._memory.know_bundle(call.bundle, lambda: {r.call.bundle.key for r in self.running.values()})
        self.started_calls += 1
        running = Running(next(self._ids), call, host, self._loop.create_future())
        self.running[running.id] = running
        self._send_call(running)
        expiry = self._loop.call_later(call.deadline_s, self._expired, running)
        try:
            return await running.future
        finally:
            expiry.cancel()
            self._leave(running)

    def _send_call(self, running: Running) -> None:
        call = running.call
        request: Any = 0
        if call.request is not None:
            head, number = call.request, 0
            if head.has_body:
                number = self._send_stream(running, running.host.request_body())
            request = (head.method, head.url, head.headers, number, head.path or 0)
        header = (
            running.id,
            call.bundle.key,
            call.path.module,
            call.path.export,
            self._memory.number("env", call.env, idle=len(self.running) == 1),
            call.import_phase_ms,
            call.import_seed.hex(),
            call.request_id,
            request,
        )
        self.process.send(messages.action_message(header, call.args_json or b"{}", call.component_args))

    def _expired(self, running: Running) -> None:
        seconds = running.call.deadline_s
        self._settle(running, ActionOutcome(None, of_expired_action(seconds), seconds * 1000.0))

    def _leave(self, running: Running) -> None:
        """It is over, or given up: whatever was done for it ends."""
        if self.running.pop(running.id, None) is not None and not self.dead:
            self.process.send(messages.cancel_message(running.id))
            self.is_doubtful = True  # It may be what it computes that has to be given up.
            self._ping(monotonic())
        for task in [*running.tasks, *([running.responder] if running.responder else [])]:
            task.cancel()
        for number in running.streams_in:
            self._streams.drop_incoming(number)
        for number in running.streams_out:
            self._streams.drop_outgoing(number)
        if not self.running:
            self.idle_since = monotonic()

    # ---- what the child says

    def _on_data(self, data: bytes) -> None:
        self._heard_at = monotonic()
        for body in self._frames.feed(data):
            for message, payload in messages.decode(body):
                if isinstance(message, messages.Part):
                    self._streams.arrived(message)
                    continue
                handler = self._handlers.get(type(message))
                if handler is not None:
                    handler(message, payload)

    def _hello(self, message: Hello, payload: list[bytes]) -> None:
        self.process.ready()

    def _asked(self, message: messages.Asked, payload: list[bytes]) -> None:
        running = self.running.get(message.id)
        if running is not None:
            syscall = Syscall(message.name, payload[0])
            self._spawn(running, self._answer(running, message.operation, syscall))

    async def _answer(self, running: Running, operation: int, syscall: Syscall) -> None:
        result = await running.host.syscall(syscall)
        if isinstance(result, SyscallFailure):
            if result.fatal:
                failure = FunctionFailure(result.message, "", result.data_json, result.kind)
                self._settle(running, ActionOutcome(None, failure))
            else:
                self._fail_operation(running, operation, result)
            return
        raw = result.result if isinstance(result, TablesChanged) else result
        self.process.send(messages.result_message(running.id, operation, raw))

    def _fail_operation(self, running: Running, operation: int, failure: SyscallFailure) -> None:
        text = messages.failure_message(running.id, operation, failure.message, failure.data_json)
        self.process.send(text)

    def _store_asked(self, message: messages.StoreAsked, payload: list[bytes]) -> None:
        running = self.running.get(message.id)
        if running is not None:
            running.streams_in.add(message.stream)
            stream = self._streams.take(message.stream)
            self._spawn(running, self._store(running, message, stream))

    async def _store(self, running: Running, asked: messages.StoreAsked, stream: IncomingStream) -> None:
        try:
            async with aclosing(stream.parts()) as parts:
                stored = await running.host.store_blob(parts, asked.content_type, asked.sha256)
        finally:
            running.streams_in.discard(asked.stream)
            self._streams.drop_incoming(asked.stream)
        if isinstance(stored, SyscallFailure):
            self._fail_operation(running, asked.operation, stored)
        else:
            result = messages.result_message(running.id, asked.operation, msgspec.json.encode(stored))
            self.process.send(result)

    def _blob_asked(self, message: messages.BlobAsked, payload: list[bytes]) -> None:
        running = self.running.get(message.id)
        if running is not None:
            self._spawn(running, self._give_blob(running, message))

    async def _give_blob(self, running: Running, asked: messages.BlobAsked) -> None:
        blob = await running.host.get_blob(asked.storage_id)
        if isinstance(blob, SyscallFailure):
            self._fail_operation(running, asked.operation, blob)
        elif blob is None:
            self.process.send(messages.no_blob_message(running.id, asked.operation))
        else:
            number, out = self._streams.open()
            running.streams_out.add(number)
            self.process.send(messages.blob_message(running.id, asked.operation, number, blob.content_type))
            await self._pump(running, number, out, blob.chunks())

    def _logged(self, message: messages.Logged, payload: list[bytes]) -> None:
        running = self.running.get(message.id)
        if running is not None:
            line = LogLine(
                message.level,
                tuple(message.messages),
                message.is_truncated,
                message.timestamp_ms,
                message.system_code,
            )
            running.host.log(line)

    def _responded(self, message: messages.Responded, payload: list[bytes]) -> None:
        running = self.running.get(message.id)
        if running is None or running.responder is not None:
            return
        stream = None
        if message.stream:
            running.streams_in.add(message.stream)
            stream = self._streams.take(message.stream)
        head = HttpResponseHead(message.status, tuple(message.headers), stream is not None)
        running.responder = self._loop.create_task(self._respond(running, head, stream))

    async def _respond(self, running: Running, head: HttpResponseHead, stream: IncomingStream | None) -> None:
        try:
            await running.host.respond(head)
            if stream is not None:
                async with aclosing(stream.parts()) as parts:
                    async for part in parts:
                        await running.host.respond_chunk(part)
        except Exception as error:  # edge: nobody reads any more, which ends the action; `run` raises it.
            if not running.future.done():
                running.future.set_exception(error)

    def _ended(self, message: messages.Ended, payload: list[bytes]) -> None:
        running = self.running.pop(message.id, None)
        if running is None:
            return
        touched, error, value = 0, None, None
        if isinstance(message.error, tuple):
            text, frames, kind, has_data, touched = message.error
            error = FunctionFailure(text, frames, payload[0] if has_data else None, kind)
        elif payload:
            value = payload[0]
        outcome = ActionOutcome(value, error, message.user_time_ms, message.memory_bytes)
        if running.responder is not None and not running.responder.done():
            # Its answer is still on its way to whoever reads it.
            running.responder.add_done_callback(lambda _: self._settle(running, outcome, touched))
        else:
            self._settle(running, outcome, touched)

    def _settle(self, running: Running, outcome: ActionOutcome, touched: int = 0) -> None:
        if not running.future.done():
            running.future.set_result((outcome, touched))

    def _pong(self, message: messages.Pong, payload: list[bytes]) -> None:
        self._unanswered_since = None
        if message.number == self._pinged:
            self.is_doubtful = False

    def _bye(self, message: messages.Bye, payload: list[bytes]) -> None:
        self.retiring = True

    def _memory_used(self, message: messages.Memory, payload: list[bytes]) -> None:
        self.memory_bytes = message.heap + message.external
        self.module_records = message.module_records

    def _sources_needed(self, message: SourcesNeeded, payload: list[bytes]) -> None:
        self._memory.send_sources(message)

    # ---- work for an action

    def _spawn(self, running: Running, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(self._guarded(running, work))
        running.tasks.add(task)
        task.add_done_callback(running.tasks.discard)

    async def _guarded(self, running: Running, work: Awaitable[None]) -> None:
        inside_action.set(True)
        try:
            await work
        except Exception as error:  # edge: the host's own exception ends this action; `run` raises it.
            if not running.future.done():
                running.future.set_exception(error)

    def _send_stream(self, running: Running, source: AsyncIterator[bytes]) -> int:
        """Begin to send a stream; its number."""
        number, out = self._streams.open()
        running.streams_out.add(number)
        task = self._loop.create_task(self._pump_quietly(running, number, out, source))
        running.tasks.add(task)
        task.add_done_callback(running.tasks.discard)
        return number

    async def _pump_quietly(
        self, running: Running, number: int, out: OutgoingStream, source: AsyncIterator[bytes]
    ) -> None:
        try:
            await self._pump(running, number, out, source)
        except Exception:  # edge: who reads the stream has been told; the action decides what it means.
            return

    async def _pump(
        self, running: Running, number: int, out: OutgoingStream, source: AsyncIterator[bytes]
    ) -> None:
        try:
            await out.pump(source)
        finally:
            self._streams.drop_outgoing(number)
            running.streams_out.discard(number)

    # ---- watching

    def silent_s(self, now: float) -> float:
        """For how long it has not answered."""
        return 0.0 if self._unanswered_since is None else now - max(self._unanswered_since, self._heard_at)

    def computing(self, now: float) -> FunctionPath | None:
        """The function that keeps the others in this child waiting, if one does."""
        if len(self.running) < 2 or self.silent_s(now) < _KEEPS_OTHERS_WAITING_S:
            return None
        running = self.running.get(self.process.whose_turn() or 0)
        return None if running is None else running.call.path

    def watch(self, now: float) -> None:
        """Called every so often: kills a child that is stuck or too large. `turn_s` is for those that share it."""
        if self.dead:
            return
        self.process.rewind_notes(self.limits.runner_notes_bytes_max)
        resident = deno.resident_bytes(self.process.pid)
        if resident is not None and resident > self.limits.action_resident_bytes_max:
            self.process.kill("memory")
            return
        cpu = deno.cpu_seconds(self.process.pid)
        if cpu is not None:
            deno.lend_cpu_time(self.process.pid, cpu, self.limits.runner_cpu_lease_s)
        if self._unanswered_since is None:
            if now - self._heard_at > (_PING_EVERY_S if len(self.running) < 2 else _PING_SHARED_EVERY_S):
                self._ping(now)
            return
        patience = self._patience_s()
        silent = self.silent_s(now)
        if patience is None or silent < patience:
            return
        if silent < patience * _STOPPED_FACTOR and self._hardly_ran(cpu, silent):
            return  # The machine is busy, not the action.
        self.process.kill("timeout")

    def _ping(self, now: float) -> None:
        self._pinged += 1
        self.process.send(messages.ping_message(self._pinged))
        if self._unanswered_since is None:
            self._unanswered_since, self._cpu_at_ping = now, deno.cpu_seconds(self.process.pid)

    def _hardly_ran(self, cpu: float | None, silent: float) -> bool:
        return cpu is not None and self._cpu_at_ping is not None and cpu - self._cpu_at_ping < 0.5 * silent

    def _patience_s(self) -> float | None:
        """How long it may be silent. One that is alone may compute until its time is over."""
        if not self.running:
            return _ABANDONED_S
        return self.limits.action_turn_s if len(self.running) > 1 or self.is_doubtful else None

    # ---- the end

    def _on_end(self) -> None:
        cause = self.process.cause
        self._streams.break_all("the process that ran the action has ended")
        sole = len(self.running) == 1
        note = self.process.last_note
        nobody_noted = note not in self.running
        for running in list(self.running.values()):
            blamed = cause != "closed" and (
                sole or running.id == note or (nobody_noted and cause == "memory")
            )
            if not running.future.done():
                running.future.set_exception(ActionLost(cause, blamed=blamed))


def _configured(limits: Limits, environment: str) -> dict[str, int]:
    """The bounds that the child keeps itself."""
    return {
        "window": limits.action_stream_window_bytes,
        "chunk": limits.action_stream_chunk_bytes,
        "operations": limits.node_operations_max if environment == "node" else limits.action_operations_max,
        "timers": limits.action_timers_max,
    }
