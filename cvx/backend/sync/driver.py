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
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import msgspec
from msgspec import UNSET, Raw

from cvx.backend.auth import ANONYMOUS, Authenticator, Identity, Token
from cvx.backend.config import Limits
from cvx.backend.database import Database
from cvx.backend.functions import (
    FunctionError,
    FunctionExecutor,
    Origin,
    QueryEntry,
    error_of_cvx,
    new_request_id,
)
from cvx.backend.sync.rounds import Answer, Round, Rounds
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

    def send_now(self, text: bytes) -> bool:
        """Hand over one text frame, or answer False when that would have to wait (or cannot be told)."""
        ...

    async def send(self, text: bytes) -> None:
        """Hand over one text frame, waiting while the client does not read. Raises OSError when it is gone."""
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
    rounds: Rounds = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rounds", Rounds(self.executor, self.db, self.limits))

    def session_limits(self) -> SessionLimits:
        limits = self.limits
        return SessionLimits(
            queries_max=limits.socket_queries_max,
            modifications_waiting_max=limits.socket_modifications_waiting_max,
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

    def __init__(
        self, socket: SyncSocket, client: CallingClient | None, services: SyncServices, origin: Origin
    ) -> None:
        self._socket = socket
        self._origin = origin
        self._takes_chunks = takes_chunks(client)
        self._services = services
        self._loop = asyncio.get_running_loop()
        self._session = SyncSession(_caller(ANONYMOUS), self._loop.time(), services.session_limits())
        self._watches: dict[int, Callable[[], None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._outbox: deque[ServerMessage] = deque()
        self._unsent: deque[bytes] = deque()  # Frames of the first message of the outbox.
        self._writer: asyncio.Task[None] | None = None  # While the client does not keep up, and to close.
        self._room = asyncio.Event()
        self._pump_scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = 0.0
        self._unreachable = False  # Sending failed.
        self._gone = False

    async def run(self) -> None:
        """Serve until either side ends it."""
        self._set_timer()
        try:
            while (text := await self._socket.receive()) is not None:
                self._receive(text)
                while self._reads_no_more():
                    self._room.clear()
                    await self._room.wait()
        finally:
            self._gone = True
            if self._writer is not None:
                self._writer.cancel()
            if self._timer is not None:
                self._timer.cancel()
            for unwatch in self._watches.values():
                unwatch()
            self._watches.clear()

    def _reads_no_more(self) -> bool:
        """Whether the client's messages stay with it for now. Not when it is over, which only reading tells."""
        if self._unreachable or self._session.closing is not None:
            return False
        return self._session.full or len(self._outbox) > self._services.limits.socket_messages_unsent_max

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
        self._apply(event)
        if not self._pump_scheduled and not self._gone:
            self._pump_scheduled = True
            self._loop.call_soon(self._pump)

    def _apply(self, event: SessionEvent) -> None:
        self._session.apply(event, self._loop.time(), self._services.clock.now_ns() / 1e9)

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
        self._timer = self._loop.call_at(deadline_s, self._tick)

    # --- tasks and messages out ---

    def _pump(self) -> None:
        self._pump_scheduled = False
        if self._gone:
            return
        for task in self._session.tasks():
            self._start(task)
        self._outbox += self._session.messages()
        self._room.set()
        if self._writer is None and (self._outbox or self._session.closing is not None):
            self._flush()
        if self._session.deadline_s < self._timer_s:
            self._set_timer()

    def _start(self, task: Task) -> None:
        coroutine: Coroutine[Any, Any, None]
        if type(task) is UpdateQueries:
            self._begin_update(task)
            return
        if type(task) is RunMutation:
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

    def _flush(self) -> None:
        """Send what can be sent without waiting, and leave the rest to a task."""
        outbox, unsent = self._outbox, self._unsent
        while outbox:
            if not unsent:
                unsent += self._frames(outbox[0])
            while unsent and self._socket.send_now(unsent[0]):
                unsent.popleft()
            if unsent:
                break
            self._has_sent(outbox.popleft())
        if outbox or self._session.closing is not None:
            self._writer = self._loop.create_task(self._write())

    async def _write(self) -> None:
        """Send what is there, waiting for the client; then close, if that is what comes next."""
        outbox, unsent = self._outbox, self._unsent
        try:
            while outbox:
                if not unsent:
                    unsent += self._frames(outbox[0])
                while unsent:
                    await self._socket.send(unsent[0])
                    unsent.popleft()
                self._has_sent(outbox.popleft())
            closing = self._session.closing
            if closing is not None:
                await self._socket.close(closing.code, closing.reason)
                return
        except OSError:
            # It is gone, which `run` learns from `receive` unless it waits for room here.
            outbox.clear()
            self._unreachable = True
            self._room.set()
            return
        self._writer = None

    def _has_sent(self, message: ServerMessage) -> None:
        self._room.set()
        if type(message) is Transition:
            self._happened(Sent(1))

    def _frames(self, message: ServerMessage) -> Sequence[bytes]:
        if type(message) is not Transition:
            return (encode_message(message),)
        message.server_ts = self._services.clock.now_ns()
        text = encode_message(message)
        limit = self._services.limits.transition_chunk_bytes
        if len(text) <= limit or not self._takes_chunks:
            return (text,)
        return split_transition(text, chunk_bytes_max=limit)

    # --- tokens, mutations, actions ---

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
                origin=self._origin,
            )
        except CvxError as error:
            outcome = self._refused_call(error, task.context_id)
        else:
            outcome = _call_result(
                result.value_json, result.error, result.log_lines, result.request_id, result.ts
            )
        self._happened(MutationFinished(task.request_id, outcome))

    def _mutation_committed(self, request_id: int, ts: Timestamp) -> None:
        self._apply(MutationCommitted(request_id, ts))

    async def _run_action(self, task: RunAction) -> None:
        try:
            result = await self._services.executor.action(
                task.path,
                bytes(task.args),
                task.caller.identity,
                caller="SyncWorker",
                component=task.component,
                request_id=task.context_id,
                origin=self._origin,
            )
        except CvxError as error:
            # Ending the conversation would make the client give up all its other actions.
            outcome = _call_result(None, self._error_of(error), [], task.context_id or new_request_id(), None)
        else:
            outcome = _call_result(result.value_json, result.error, result.log_lines, result.request_id, None)
        self._happened(ActionFinished(task.request_id, outcome))

    def _refused_call(self, error: CvxError, context_id: str | None) -> CallResult:
        """The answer to a call refused before it ran; raises again what is no fault of the call."""
        if error.kind != "bad_request":
            raise error
        return _call_result(None, self._error_of(error), [], context_id or new_request_id(), None)

    # --- updates ---

    def _begin_update(self, task: UpdateQueries) -> None:
        """Ask the round of this moment: the session has just looked at what is stale."""
        for query_id in task.dropped:
            self._unwatch(query_id)
        self._ask(_Update(task, self._services.rounds.join()))

    def _ask(self, update: _Update) -> None:
        """Have as many runs under way as one client may have."""
        update.is_asking = True
        for run in update.waiting:
            self._unwatch(run.query_id)
            update.asked += 1
            update.round.ask(run, update.task.caller, partial(self._answered, update, run))
            if update.is_over or update.asked >= self._services.limits.socket_queries_parallel_max:
                break
        update.is_asking = False
        if update.asked == 0 and not update.is_over:
            update.round.when_durable(partial(self._updated, update))

    def _answered(self, update: _Update, run: QueryRun, answer: Answer) -> None:
        update.asked -= 1
        if update.is_over:
            return
        if self._gone:
            self._give_up(update)
        elif isinstance(answer, CvxError):
            if answer.kind in _PASSING_KINDS:
                update.results[run.query_id] = None
            elif answer.kind == "bad_request":
                update.results[run.query_id] = self._refused_query(answer, run.journal)
            else:
                self._give_up(update)
                is_late = answer.kind == "out_of_retention"
                self._happened(UpdateImpossible() if is_late else Failed(answer))
        else:
            update.results[run.query_id] = _query_result(answer)
            self._watches[run.query_id] = answer.watch(partial(self._invalidated, run.query_id))
        if not update.is_asking and not update.is_over:
            self._ask(update)

    def _give_up(self, update: _Update) -> None:
        update.is_over = True
        update.round.leave()

    def _updated(self, update: _Update) -> None:
        update.is_over = True
        update.round.leave()
        self._apply(QueriesUpdated(update.round.ts, update.results))
        self._pump()

    def _refused_query(self, error: CvxError, journal: str | None) -> QueryResult:
        text = self._error_of(error).client_text(new_request_id())
        return QueryResult(error.message.encode(), None, text, journal=journal)

    def _unwatch(self, query_id: int) -> None:
        unwatch = self._watches.pop(query_id, None)
        if unwatch is not None:
            unwatch()

    def _error_of(self, error: CvxError) -> FunctionError:
        return error_of_cvx(error, redacted=self._services.redacted)


class _Update:
    """One update of this socket under way."""

    __slots__ = ("asked", "is_asking", "is_over", "results", "round", "task", "waiting")

    def __init__(self, task: UpdateQueries, round: Round) -> None:
        self.task = task
        self.round = round
        self.waiting = iter(task.runs)
        self.asked = 0
        self.is_asking = False
        self.is_over = False
        self.results: dict[int, QueryResult | None] = {}


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
    if entry.error is None:
        assert entry.value_json is not None
        value = Raw(entry.value_json)
        return QueryResult(entry.result_hash, value, log_lines=entry.log_lines, journal=entry.journal)
    data = None if entry.error.data_json is None else Raw(entry.error.data_json)
    text = entry.error.client_text(entry.request_id)
    return QueryResult(entry.result_hash, None, text, data, entry.log_lines, entry.journal)


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
