"""One client's WebSocket, pumped.

`SyncSession` (protocol) decides what is to run and what to say; this file waits for sockets, functions, commits
and time, and tells the session what came of it. Everything that happens ends in `_happened`, which applies the
event and schedules one `_pump` for all that is readable in this turn of the loop.

Rules:
- All queries of one update run on one snapshot, and nothing is sent before that snapshot is on disk.
- A client that does not read holds up nobody: its messages wait here, bounded by the session's two unsent
  Transitions and by not reading from it while too much waits for it.

Source: design.md §7 ("A driver is a pump"); reference/values-and-sync.md §4.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import msgspec
from msgspec import UNSET, Raw

from cvx.backend.auth import ANONYMOUS, Authenticator, Identity, Token
from cvx.backend.config import Limits
from cvx.backend.database import Database, Snapshot
from cvx.backend.functions import FunctionError, FunctionExecutor, QueryEntry, error_of_cvx, new_request_id
from cvx.errors import CvxError
from cvx.protocol.calls import CallingClient
from cvx.protocol.codec import decode_client_message, encode_message, split_transition, takes_chunks
from cvx.protocol.sync_events import (
    ActionFinished,
    Caller,
    CallResult,
    CheckToken,
    Failed,
    Invalidated,
    MutationCommitted,
    MutationFinished,
    QueriesUpdated,
    QueryResult,
    QueryRun,
    Received,
    RunAction,
    RunMutation,
    Sent,
    SessionEvent,
    SessionLimits,
    Task,
    Tick,
    TokenAccepted,
    TokenRefused,
    UpdateImpossible,
    UpdateQueries,
)
from cvx.protocol.sync_messages import Authenticate, ServerMessage, Transition
from cvx.protocol.sync_session import SyncSession
from cvx.values import Clock, Timestamp

_log = logging.getLogger("cvx.sync")

# Trouble that passes: the query is left out of this update and tried again.
_PASSING_KINDS = frozenset({"overloaded", "rate_limited", "unavailable"})
_TOKEN_KINDS = {"Admin": "admin", "User": "user", "None": "none"}


class SyncSocket(Protocol):
    """The WebSocket, as the driver needs it."""

    async def receive(self) -> str | bytes | None:
        """The next message (bytes for a binary one); None when the connection is gone."""
        ...

    async def send(self, text: bytes) -> None:
        """Queue one text frame, waiting while the client does not read. Raises ConnectionError when gone."""
        ...

    async def close(self, code: int | None, reason: str) -> None: ...


@dataclass(frozen=True)
class SyncServices:
    """What every driver needs of its backend."""

    executor: FunctionExecutor
    db: Database
    authenticator: Authenticator
    clock: Clock
    limits: Limits
    redacted: bool = False

    def session_limits(self) -> SessionLimits:
        limits = self.limits
        return SessionLimits(
            queries_max=limits.socket_queries_max,
            messages_waiting_max=limits.socket_messages_waiting_max,
            mutations_queued_max=limits.socket_mutations_pending_max,
            actions_in_flight_max=limits.socket_actions_in_flight_max,
            transitions_unsent_max=limits.socket_transitions_unsent_max,
            mutation_s_max=limits.socket_mutation_s,
            ping_after_s=limits.socket_application_ping_s,
            unavailable_retry_s=limits.socket_query_retry_s,
        )


class SyncDriver:
    """One conversation. `run` returns when it is over; what was under way goes on, and nobody is told."""

    def __init__(self, socket: SyncSocket, client: CallingClient | None, services: SyncServices) -> None:
        self._socket = socket
        self._takes_chunks = takes_chunks(client)
        self._services = services
        self._loop = asyncio.get_running_loop()
        self._session = SyncSession(_caller(ANONYMOUS), self._now_s(), services.session_limits())
        self._watches: dict[int, Callable[[], None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._outbox: deque[ServerMessage] = deque()
        self._outbox_changed = asyncio.Event()
        self._pump_scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = 0.0
        self._gone = False

    async def run(self) -> None:
        """Serve until either side ends it."""
        writer = self._loop.create_task(self._write())
        self._set_timer()
        try:
            while (text := await self._socket.receive()) is not None:
                self._receive(text)
                while len(self._outbox) > self._services.limits.socket_messages_unsent_max:
                    self._outbox_changed.clear()
                    await self._outbox_changed.wait()
        finally:
            self._gone = True
            writer.cancel()
            if self._timer is not None:
                self._timer.cancel()
            for unwatch in self._watches.values():
                unwatch()
            self._watches.clear()

    # --- events in ---

    def _receive(self, text: str | bytes) -> None:
        try:
            if isinstance(text, bytes):
                raise CvxError("UnexpectedBinaryMessage", "The sync protocol has text messages only.")
            event: SessionEvent = Received(decode_client_message(text))
        except CvxError as error:
            event = Failed(error)
        self._happened(event)

    def _happened(self, event: SessionEvent) -> None:
        self._session.apply(event, self._now_s())
        if not self._pump_scheduled and not self._gone:
            self._pump_scheduled = True
            self._loop.call_soon(self._pump)

    def _invalidated(self, query_id: int, entry: QueryEntry) -> None:
        self._happened(Invalidated((query_id,)))

    def _tick(self) -> None:
        self._timer = None
        self._happened(Tick())
        self._set_timer()

    def _set_timer(self) -> None:
        """Keep one timer at or before the session's deadline. A deadline that moved away costs one idle tick."""
        deadline_s = self._session.deadline_s
        if self._timer is not None:
            if deadline_s >= self._timer_s:
                return
            self._timer.cancel()
        self._timer_s = deadline_s
        self._timer = self._loop.call_later(max(0.0, deadline_s - self._now_s()), self._tick)

    # --- tasks and messages out ---

    def _pump(self) -> None:
        self._pump_scheduled = False
        if self._gone:
            return
        for task in self._session.tasks():
            self._start(task)
        messages = self._session.messages()
        if messages or self._session.closing is not None:
            self._outbox += messages
            self._outbox_changed.set()
        if self._session.deadline_s < self._timer_s:
            self._set_timer()

    def _start(self, task: Task) -> None:
        coroutine: Coroutine[Any, Any, None]
        if type(task) is UpdateQueries:
            # Taken in the same step in which the session looked at what is stale.
            coroutine = self._update_queries(task, self._services.db.snapshot())
        elif type(task) is RunMutation:
            coroutine = self._run_mutation(task)
        elif type(task) is RunAction:
            coroutine = self._run_action(task)
        else:
            assert type(task) is CheckToken
            coroutine = self._check_token(task.message)
        running = self._loop.create_task(self._guarded(coroutine))
        self._tasks.add(running)
        running.add_done_callback(self._tasks.discard)

    async def _guarded(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """The edge of a task: what the system fails at ends this conversation and nothing else."""
        try:
            await coroutine
        except CvxError as error:
            self._happened(Failed(error))
        except Exception:
            _log.exception("a task of a sync socket failed")
            self._happened(Failed(CvxError("InternalServerError", "Internal error.", kind="internal")))

    async def _write(self) -> None:
        outbox, changed = self._outbox, self._outbox_changed
        try:
            while True:
                while outbox:
                    message = outbox.popleft()
                    await self._send(message)
                    changed.set()
                    if type(message) is Transition:
                        self._happened(Sent(1))
                closing = self._session.closing
                if closing is not None and not outbox:
                    await self._socket.close(closing.code, closing.reason)
                    return
                changed.clear()
                await changed.wait()
        except ConnectionError:
            self._gone = True  # `run` learns it from `receive`.

    async def _send(self, message: ServerMessage) -> None:
        if type(message) is not Transition:
            await self._socket.send(encode_message(message))
            return
        message.server_ts = self._services.clock.now_ns()
        text = encode_message(message)
        limit = self._services.limits.transition_chunk_bytes
        if len(text) <= limit or not self._takes_chunks:
            await self._socket.send(text)
            return
        for frame in split_transition(text, chunk_bytes_max=limit):
            await self._socket.send(frame)

    # --- the four kinds of task ---

    async def _check_token(self, message: Authenticate) -> None:
        acting_as = message.impersonating if message.impersonating is not UNSET else message.acting_as
        try:
            attributes = None if acting_as is UNSET else _attributes(acting_as)
            kind = _TOKEN_KINDS[message.token_type]
            token = Token(kind, message.value or "", attributes)  # type: ignore[arg-type]
            identity = await self._services.authenticator.authenticate(token)
        except CvxError as error:
            self._happened(TokenRefused(error))
        else:
            self._happened(TokenAccepted(_caller(identity)))

    async def _run_mutation(self, task: RunMutation) -> None:
        session = None if task.session_id is None else (task.session_id, task.request_id)
        try:
            result = await self._services.executor.mutation(
                task.path,
                bytes(task.args),
                task.caller.identity,
                session=session,
                caller="SyncWorker",
                component=task.component,
                on_commit=partial(self._mutation_committed, task.request_id),
            )
        except CvxError as error:
            outcome = self._refused_call(error, task.context_id)
        else:
            outcome = _call_result(
                result.value_json, result.error, result.log_lines, result.request_id, result.ts
            )
        self._happened(MutationFinished(task.request_id, outcome))

    def _mutation_committed(self, request_id: int, ts: Timestamp) -> None:
        self._session.apply(MutationCommitted(request_id, ts), self._now_s())

    async def _run_action(self, task: RunAction) -> None:
        try:
            result = await self._services.executor.action(
                task.path,
                bytes(task.args),
                task.caller.identity,
                caller="SyncWorker",
                component=task.component,
                request_id=task.context_id,
            )
        except CvxError as error:
            outcome = self._refused_call(error, task.context_id)
        else:
            outcome = _call_result(result.value_json, result.error, result.log_lines, result.request_id, None)
        self._happened(ActionFinished(task.request_id, outcome))

    def _refused_call(self, error: CvxError, context_id: str | None) -> CallResult:
        """The answer to a call refused before it ran; raises again what is no fault of the call."""
        if error.kind != "bad_request":
            raise error
        return _call_result(None, self._error_of(error), [], context_id or new_request_id(), None)

    async def _update_queries(self, task: UpdateQueries, snapshot: Snapshot) -> None:
        for query_id in task.dropped:
            self._unwatch(query_id)
        try:
            results = await self._run_all(task, snapshot)
        except CvxError as error:
            if error.kind != "out_of_retention":
                raise
            self._happened(UpdateImpossible())
            return
        finally:
            snapshot.release()
        await self._services.db.durable(snapshot.ts)
        self._happened(QueriesUpdated(snapshot.ts, results))

    async def _run_all(self, task: UpdateQueries, snapshot: Snapshot) -> dict[int, QueryResult | None]:
        results: dict[int, QueryResult | None] = {}
        waiting = iter(task.runs)

        async def work() -> None:
            for run in waiting:
                results[run.query_id] = await self._run_query(run, task.caller, snapshot)

        workers = min(len(task.runs), self._services.limits.socket_queries_parallel_max)
        if workers == 1:
            await work()
        elif workers > 1:
            await asyncio.gather(*(work() for _ in range(workers)))
        return results

    async def _run_query(self, run: QueryRun, caller: Caller, snapshot: Snapshot) -> QueryResult | None:
        self._unwatch(run.query_id)
        try:
            entry = await self._services.executor.query(
                run.path,
                bytes(run.args),
                caller.identity,
                snapshot=snapshot,
                journal=run.journal,
                caller="SyncWorker",
                component=run.component,
            )
        except CvxError as error:
            if error.kind in _PASSING_KINDS:
                return None
            if error.kind != "bad_request":
                raise
            return _failed_query(
                error.message.encode(), self._error_of(error), new_request_id(), [], run.journal
            )
        if not self._gone:
            self._watches[run.query_id] = entry.watch(partial(self._invalidated, run.query_id))
        return _query_result(entry)

    def _unwatch(self, query_id: int) -> None:
        unwatch = self._watches.pop(query_id, None)
        if unwatch is not None:
            unwatch()

    def _error_of(self, error: CvxError) -> FunctionError:
        return error_of_cvx(error, redacted=self._services.redacted)

    def _now_s(self) -> float:
        return self._services.clock.now_ns() / 1e9


def _caller(identity: Identity) -> Caller:
    expires_at = getattr(identity, "expires_at", None)
    if expires_at is None:
        return Caller(identity, identity.is_admin)
    return Caller(identity, identity.is_admin, expires_at)


def _attributes(raw: Raw) -> dict[str, Any] | None:
    """The user an admin acts as. Raises CvxError when they are no object."""
    try:
        attributes: dict[str, Any] | None = msgspec.json.decode(raw, type=dict[str, Any] | None)
    except msgspec.DecodeError:
        raise CvxError("InvalidIdentity", "The attributes of the user to act as are not an object.") from None
    return attributes


def _query_result(entry: QueryEntry) -> QueryResult:
    if entry.error is not None:
        return _failed_query(entry.result_hash, entry.error, entry.request_id, entry.log_lines, entry.journal)
    assert entry.value_json is not None
    return QueryResult(
        entry.result_hash, Raw(entry.value_json), log_lines=entry.log_lines, journal=entry.journal
    )


def _failed_query(
    fingerprint: bytes, error: FunctionError, request_id: str, log_lines: list[str], journal: str | None
) -> QueryResult:
    data = None if error.data_json is None else Raw(error.data_json)
    return QueryResult(fingerprint, None, error.client_text(request_id), data, log_lines, journal)


def _call_result(
    value_json: bytes | None,
    error: FunctionError | None,
    log_lines: list[str],
    request_id: str,
    ts: Timestamp | None,
) -> CallResult:
    if error is None:
        assert value_json is not None
        return CallResult(Raw(value_json), ts, log_lines=log_lines)
    data = None if error.data_json is None else Raw(error.data_json)
    text = msgspec.json.encode(error.client_text(request_id))
    return CallResult(error_message=text, error_data=data, log_lines=log_lines)
