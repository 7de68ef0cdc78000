"""The server's half of one client's conversation, without the socket.

The driver tells it what happened (`apply`), starts what it asks for (`tasks`), sends what it says
(`messages`), and closes when `closing` is set and everything before it is sent. It decides; it never waits,
reads no clock and touches no database.

Rules it keeps:
- Each Transition starts exactly at the version where the one before it ended, and no timestamp goes back.
- A Transition is owed after every ModifyQuerySet, Authenticate, finished mutation and finished action, even
  an empty one; all results in it are as of one timestamp, and results that did not change are left out.
- No Transition covers the commit of a mutation of this socket before that mutation was answered.
- Mutations run one at a time in order of arrival; actions run beside each other.
- While a token is being checked, later messages wait.

Source: reference/values-and-sync.md §4.3–4.9.
"""

from __future__ import annotations

import hashlib
import math
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cvx.errors import CvxError, ProtocolError
from cvx.protocol.sync_answers import action_response, internal, mutation_response, too_many
from cvx.protocol.sync_events import (
    ActionFinished,
    Caller,
    CheckToken,
    Close,
    Failed,
    Invalidated,
    MutationCommitted,
    MutationFinished,
    QueriesUpdated,
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
    closing_of,
)
from cvx.protocol.sync_messages import (
    Action,
    Add,
    Authenticate,
    AuthError,
    ClientMessage,
    Connect,
    Event,
    FatalError,
    ModifyQuerySet,
    Mutation,
    Ping,
    ServerMessage,
    StateVersion,
    Transition,
)
from cvx.protocol.sync_queries import QuerySet
from cvx.values.timestamps import Timestamp, decode_ts


@dataclass(frozen=True, slots=True)
class _Update:
    """The update being computed, and the versions its Transition will end at."""

    task: UpdateQueries
    query_set: int
    identity: int
    covers: RunMutation | None
    """The mutation that had committed, but was not answered, when this began."""


class SyncSession:
    """See the module's docstring. `now_s` is what passes evenly, from any beginning: durations are counted in it.
    `unix_s` may jump: it is for what others say in Unix time (when a token expires, what a client's clock shows)."""

    def __init__(self, anonymous: Caller, now_s: float, limits: SessionLimits | None = None) -> None:
        self.closing: Close | None = None
        self._limits = limits or SessionLimits()
        self._now_s = now_s
        self._unix_s = 0.0
        self._caller = anonymous
        self._session_id: str | None = None
        self._connected = False
        self._reconnected = False
        self._max_observed_ts: Timestamp = 0
        self._clock_skew_ms: int | None = None
        # The version the client was brought to, and the parts of it that it has asked for since.
        self._version = StateVersion.at(0, 0, 0)
        self._version_ts: Timestamp = 0
        self._asked_identity = 0
        self._queries = QuerySet(self._limits)
        # The update being computed, and what keeps the next one from starting.
        self._update_due = False
        self._updating: _Update | None = None
        self._update_retry_s = math.inf
        self._transitions_unsent = 0
        self._held: Transition | None = None
        self._held_ts: Timestamp = 0
        # Requests.
        self._mutations: deque[RunMutation] = deque()
        self._mutation: RunMutation | None = None
        self._mutation_until_s = math.inf
        self._mutation_commit_ts: Timestamp | None = None
        self._actions: set[int] = set()
        self._checking_token = False
        self._waiting: deque[ClientMessage] = deque()
        self._new_tasks: list[Task] = []
        self._messages: list[ServerMessage] = []
        self._spoke_s = now_s

    # --- the driver's three verbs ---

    def apply(self, event: SessionEvent, now_s: float, unix_s: float) -> None:
        """Take in what happened. After the conversation is closing nothing matters any more."""
        if self.closing is None:
            self._now_s, self._unix_s = now_s, unix_s
            _HANDLERS[type(event)](self, event)

    def tasks(self) -> list[Task]:
        """What is to be started now. Ask once all that was readable has been applied: Connect, Authenticate
        and ModifyQuerySet that arrive together are then answered together."""
        if self.closing is not None:
            return []
        self._start_mutation()
        self._start_update()
        tasks, self._new_tasks = self._new_tasks, []
        return [] if self.closing is not None else tasks

    def messages(self) -> list[ServerMessage]:
        """What is to be sent now, in order. Before a close these are the last."""
        messages, self._messages = self._messages, []
        if messages:
            self._spoke_s = self._now_s
        return messages

    @property
    def deadline_s(self) -> float:
        """When a Tick is wanted at the latest, on the clock of `now_s`."""
        return min(self._spoke_s + self._limits.ping_after_s, self._mutation_until_s, self._update_retry_s)

    @property
    def full(self) -> bool:
        """Whether what the client sends next may be more than can wait. A client that was away sends all its writes
        at once, so its messages are left where they are until there is room: closing would bring them all again."""
        waiting, limits = len(self._waiting), self._limits
        pending = waiting + len(self._mutations) + (self._mutation is not None)
        return pending >= limits.mutations_queued_max or waiting >= limits.messages_waiting_max

    @property
    def query_ids(self) -> frozenset[int]:
        """The subscriptions the client was last brought to."""
        return self._queries.ids

    # --- messages of the client ---

    def _received(self, event: Received) -> None:
        if self._checking_token:
            self._waiting.append(event.message)
            if len(self._waiting) > self._limits.messages_waiting_max:
                self._end(too_many("TooManyWaitingMessages", "messages of one client wait for a token check"))
            return
        message = event.message
        try:
            _MESSAGE_HANDLERS[type(message)](self, message)
        except CvxError as error:
            self._end(error)

    def _connect(self, message: Connect) -> None:
        if self._connected:
            raise ProtocolError("DuplicateConnect", "Connect was sent twice on one connection.")
        try:
            self._session_id = str(uuid.UUID(message.session_id))
            if message.max_observed_timestamp is not None:
                self._max_observed_ts = decode_ts(message.max_observed_timestamp)
        except (ValueError, CvxError) as error:
            raise ProtocolError("WSMessageInvalidJson", f"Connect is malformed: {error}") from None
        self._connected = True
        self._reconnected = message.connection_count > 0
        if message.client_ts is not None:
            self._clock_skew_ms = message.client_ts - int(self._unix_s * 1000)

    def _modify_query_set(self, message: ModifyQuerySet) -> None:
        for modification in message.modifications:
            if type(modification) is Add:
                self._require_admin_for_component(modification.component_path)
        self._queries.modify(message)
        self._update_due = True

    def _mutation_requested(self, message: Mutation) -> None:
        self._require_admin_for_component(message.component_path)
        if len(self._mutations) + (self._mutation is not None) >= self._limits.mutations_queued_max:
            raise too_many("TooManyConcurrentMutations", "mutations of one client wait for their turn")
        self._mutations.append(
            RunMutation(
                message.request_id,
                message.udf_path,
                message.args,
                message.component_path or "",
                self._caller,
                self._session_id,
                self._context_id(message.request_id),
            )
        )

    def _action_requested(self, message: Action) -> None:
        self._require_admin_for_component(message.component_path)
        if len(self._actions) >= self._limits.actions_in_flight_max:
            raise too_many("TooManyInflightActionsForSingleClient", "actions of one client are running")
        if self._token_expired():
            return
        self._actions.add(message.request_id)
        self._new_tasks.append(
            RunAction(
                message.request_id,
                message.udf_path,
                message.args,
                message.component_path or "",
                self._caller,
                self._context_id(message.request_id),
            )
        )

    def _authenticate(self, message: Authenticate) -> None:
        if message.base_version != self._asked_identity:
            raise internal(
                f"Authenticate builds on version {message.base_version}, "
                f"but the last one made version {self._asked_identity}."
            )
        if message.token_type not in ("User", "Admin", "None"):
            raise ProtocolError("WSMessageInvalidJson", f"Unknown tokenType '{message.token_type[:40]}'.")
        if message.token_type != "None" and message.value is None:
            raise ProtocolError("WSMessageInvalidJson", "Authenticate has no value.")
        self._checking_token = True
        self._new_tasks.append(CheckToken(message))

    def _telemetry(self, message: Event) -> None:
        """Never answered."""

    def _require_admin_for_component(self, component_path: str | None) -> None:
        if component_path and not self._caller.is_admin:
            raise CvxError(
                "ComponentPathRequiresAdmin",
                f"Calling a function of component '{component_path[:80]}' directly needs an admin key.",
                kind="forbidden",
            )

    def _context_id(self, request_id: int) -> str | None:
        if self._session_id is None:
            return None
        return hashlib.sha256(f"{self._session_id}|{request_id}".encode()).hexdigest()[:16]

    # --- who is calling ---

    def _token_accepted(self, event: TokenAccepted) -> None:
        self._caller = event.caller
        self._asked_identity += 1
        self._update_due = True
        self._queries.invalidate_all()
        self._checking_token = False
        while self._waiting and not self._checking_token and self.closing is None:
            self._received(Received(self._waiting.popleft()))

    def _token_refused(self, event: TokenRefused) -> None:
        if event.error.kind in ("unauthenticated", "forbidden", "bad_request", "auth_update_failed"):
            self._refuse_auth(str(event.error), auth_update_attempted=True)
        else:
            self._end(event.error)

    def _token_expired(self) -> bool:
        """True when the caller's token no longer holds; the conversation is then closing."""
        if self._unix_s < self._caller.expires_at:
            return False
        self._refuse_auth(
            "TokenExpired: the token of this connection has expired.", auth_update_attempted=False
        )
        return True

    def _refuse_auth(self, text: str, *, auth_update_attempted: bool) -> None:
        self._messages.append(AuthError(text, self._version.identity, auth_update_attempted))
        self.closing = Close(None)

    # --- queries ---

    def _invalidated(self, event: Invalidated) -> None:
        if self._queries.invalidate(event.query_ids):
            self._update_due = True

    def _start_update(self) -> None:
        if (
            not self._update_due
            or self._updating is not None
            or self._held is not None
            or self._checking_token
            or self._transitions_unsent >= self._limits.transitions_unsent_max
            or self._token_expired()
        ):
            return
        self._update_due = False
        self._update_retry_s = math.inf
        runs, dropped = self._queries.begin_update()
        task = UpdateQueries(runs, dropped, self._caller)
        covered = None if self._mutation_commit_ts is None else self._mutation
        self._updating = _Update(task, self._queries.asked_version, self._asked_identity, covered)
        self._new_tasks.append(task)

    def _queries_updated(self, event: QueriesUpdated) -> None:
        if self._updating is None:
            raise AssertionError("QueriesUpdated without an update")
        update, self._updating = self._updating, None
        if event.ts < self._max_observed_ts:
            self._end(internal("The client has seen later data than this server holds."))
            return
        modifications, is_complete = self._queries.end_update(update.task.runs, event.results)
        if not is_complete:
            self._update_retry_s = self._now_s + self._limits.unavailable_retry_s
        ts = max(event.ts, self._version_ts)
        end = StateVersion.at(update.query_set, update.identity, ts)
        transition = Transition(self._version, end, modifications, self._clock_skew_ms)
        self._version, self._version_ts = end, ts
        commit_ts = self._mutation_commit_ts
        if commit_ts is not None and ts >= commit_ts:
            self._held = transition
        else:
            self._say_transition(transition)

    def _update_impossible(self, event: UpdateImpossible) -> None:
        update, self._updating = self._updating, None
        assert update is not None
        self._queries.run_again(update.task.runs)
        self._update_due = True

    def _say_transition(self, transition: Transition) -> None:
        self._transitions_unsent += 1
        self._messages.append(transition)

    def _sent(self, event: Sent) -> None:
        self._transitions_unsent -= event.transitions

    # --- mutations and actions ---

    def _start_mutation(self) -> None:
        if self._mutation is not None or not self._mutations or self._checking_token:
            return
        # After a reconnect a client rebuilds its view from the first Transition: a response before it would
        # show every query as loading.
        if self._reconnected and self._version_ts == 0 and (self._update_due or self._updating is not None):
            return
        if self._token_expired():
            return
        self._mutation = self._mutations.popleft()
        self._mutation_until_s = self._now_s + self._limits.mutation_s_max
        self._new_tasks.append(self._mutation)

    def _mutation_committed(self, event: MutationCommitted) -> None:
        self._mutation_commit_ts = event.ts

    def _mutation_finished(self, event: MutationFinished) -> None:
        # An update begun after this mutation's commit covers it: its Transition is the one that is owed.
        covered = self._updating is not None and self._updating.covers is self._mutation
        self._mutation, self._mutation_commit_ts, self._mutation_until_s = None, None, math.inf
        self._messages.append(mutation_response(event.request_id, event.result))
        if self._held is not None:
            held, self._held = self._held, None
            self._say_transition(held)
        elif not covered:
            self._update_due = True

    def _action_finished(self, event: ActionFinished) -> None:
        self._actions.discard(event.request_id)
        self._messages.append(action_response(event.request_id, event.result))
        self._update_due = True

    # --- time, and the end ---

    def _tick(self, event: Tick) -> None:
        if self._now_s >= self._mutation_until_s:
            self._end(internal(f"A mutation ran for more than {self._limits.mutation_s_max:g} s."))
        elif self._now_s >= self._update_retry_s:
            self._update_retry_s = math.inf
            self._update_due = True
        elif self._now_s >= self._spoke_s + self._limits.ping_after_s:
            self._messages.append(Ping())

    def _failed(self, event: Failed) -> None:
        self._end(event.error)

    def _end(self, error: CvxError) -> None:
        """Close as this kind of failure demands (§4.8)."""
        kind = error.kind
        if kind in ("unauthenticated", "auth_update_failed"):
            self._refuse_auth(str(error), auth_update_attempted=kind == "auth_update_failed")
            return
        if kind in ("bad_request", "conflict", "forbidden", "pagination_limit"):
            self._messages.append(FatalError(f"{error.code}: {error.message}"))
        self.closing = closing_of(error)


_HANDLERS: dict[type, Callable[[SyncSession, Any], None]] = {
    Received: SyncSession._received,
    TokenAccepted: SyncSession._token_accepted,
    TokenRefused: SyncSession._token_refused,
    QueriesUpdated: SyncSession._queries_updated,
    UpdateImpossible: SyncSession._update_impossible,
    MutationCommitted: SyncSession._mutation_committed,
    MutationFinished: SyncSession._mutation_finished,
    ActionFinished: SyncSession._action_finished,
    Invalidated: SyncSession._invalidated,
    Sent: SyncSession._sent,
    Failed: SyncSession._failed,
    Tick: SyncSession._tick,
}
_MESSAGE_HANDLERS: dict[type, Callable[[SyncSession, Any], None]] = {
    Connect: SyncSession._connect,
    ModifyQuerySet: SyncSession._modify_query_set,
    Mutation: SyncSession._mutation_requested,
    Action: SyncSession._action_requested,
    Authenticate: SyncSession._authenticate,
    Event: SyncSession._telemetry,
}
