"""The client's half of a sync conversation, without the socket.

Whoever owns the socket calls `opened`, sends `messages()`, hands every text frame to `receive` and looks at
the events it returns; after a lost connection it calls `closed` and, on the next one, `opened` again: what
was subscribed is added again with its journals, what was not answered is asked again under its old number.

Rule: a successful mutation is done only when a Transition at or past its commit has been seen, so whoever
waits for it then also sees its effect in every subscription.

Source: reference/values-and-sync.md §4.2–4.7, §8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from msgspec import UNSET, Raw, UnsetType

from cvx.errors import CvxError, ProtocolError
from cvx.protocol.codec import decode_server_message
from cvx.protocol.sync_messages import (
    Action,
    ActionResponse,
    Add,
    Authenticate,
    AuthError,
    ClientMessage,
    Connect,
    FatalError,
    ModifyQuerySet,
    Mutation,
    MutationResponse,
    QueryFailed,
    QueryRemoved,
    QueryUpdated,
    Remove,
    ServerMessage,
    StateVersion,
    Transition,
    TransitionChunk,
    timestamp_text,
)
from cvx.values.timestamps import Timestamp, decode_ts


@dataclass(frozen=True, slots=True)
class QueryChanged:
    """A subscription has a new result."""

    query_id: int
    result: QueryUpdated | QueryFailed


@dataclass(frozen=True, slots=True)
class RequestDone:
    """A mutation or action is answered, and for a successful mutation its effect has arrived."""

    request_id: int
    response: MutationResponse | ActionResponse


@dataclass(frozen=True, slots=True)
class RequestLost:
    """An action was under way when the connection broke: nobody knows what it did."""

    request_id: int


@dataclass(frozen=True, slots=True)
class TokenConfirmed:
    """The server has taken the identity last authenticated."""


@dataclass(frozen=True, slots=True)
class TokenRejected:
    """The server refused the token, or it has expired; it closes the connection."""

    error: str


ClientEvent: TypeAlias = QueryChanged | RequestDone | RequestLost | TokenConfirmed | TokenRejected


class _Subscription:
    __slots__ = ("args", "component", "journal", "path")

    def __init__(self, path: str, args: Raw, component: str | None) -> None:
        self.path, self.args, self.component = path, args, component
        self.journal: str | None = None

    def add(self, query_id: int) -> Add:
        return Add(query_id, self.path, self.args, self.journal, self.component)


class _Request:
    __slots__ = ("message", "response", "sent")

    def __init__(self, message: Mutation | Action) -> None:
        self.message = message
        self.sent = False
        self.response: MutationResponse | None = None


class SyncClient:
    """See the module's docstring. `session_id` is a UUID in text, kept for the life of the client."""

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
        self._connection_count = 0
        self._last_close_reason = "InitialConnect"
        self._is_open = False
        self._subscriptions: dict[int, _Subscription] = {}
        self._next_query_id = 0
        self._requests: dict[int, _Request] = {}
        self._next_request_id = 0
        self._token: tuple[Literal["User", "Admin", "None"], str | None, Raw | UnsetType] | None = None
        self._max_observed_ts: Timestamp = 0
        self._messages: list[ClientMessage] = []
        # Of this connection.
        self._version = StateVersion.at(0, 0, 0)
        self._query_set = 0
        self._identity = 0
        self._chunks: list[TransitionChunk] = []

    # --- what the program asks for ---

    def subscribe(self, path: str, args: Raw, component: str | None = None) -> int:
        """Follow a query. `args` is the JSON array of arguments. Returns the id that its events carry."""
        query_id = self._next_query_id
        self._next_query_id += 1
        subscription = self._subscriptions[query_id] = _Subscription(path, args, component)
        self._modify([subscription.add(query_id)])
        return query_id

    def unsubscribe(self, query_id: int) -> None:
        del self._subscriptions[query_id]
        self._modify([Remove(query_id)])

    def mutation(self, path: str, args: Raw, component: str | None = None) -> int:
        """Returns the id that its RequestDone carries."""
        return self._request(Mutation(self._next_request_id, path, args, component))

    def action(self, path: str, args: Raw, component: str | None = None) -> int:
        """Returns the id that its RequestDone or RequestLost carries."""
        return self._request(Action(self._next_request_id, path, args, component))

    def authenticate(
        self, kind: Literal["User", "Admin", "None"], value: str | None = None, acting_as: Raw | None = None
    ) -> None:
        """Speak as this token from now on, on later connections too."""
        self._token = (kind, value, UNSET if acting_as is None else acting_as)
        if self._is_open:
            self._send_token()

    # --- the connection ---

    def opened(self, now_ms: int | None = None) -> None:
        """A new connection stands: introduce ourselves and bring it to where we are."""
        self._is_open = True
        self._version, self._query_set, self._identity = StateVersion.at(0, 0, 0), 0, 0
        self._chunks = []
        observed = timestamp_text(self._max_observed_ts) if self._max_observed_ts else None
        self._messages = [
            Connect(self._session_id, self._connection_count, self._last_close_reason, observed, now_ms)
        ]
        self._connection_count += 1
        if self._token is not None:
            self._send_token()
        self._modify([subscription.add(key) for key, subscription in self._subscriptions.items()])
        for request in self._requests.values():
            request.sent, request.response = True, None
            self._messages.append(request.message)

    def closed(self, reason: str) -> list[ClientEvent]:
        """The connection is gone. Actions that were under way are lost; all else waits for the next one."""
        self._is_open, self._last_close_reason, self._messages = False, reason, []
        lost = [
            request_id
            for request_id, request in self._requests.items()
            if request.sent and isinstance(request.message, Action)
        ]
        for request_id in lost:
            del self._requests[request_id]
        return [RequestLost(request_id) for request_id in lost]

    def messages(self) -> list[ClientMessage]:
        """What is to be sent now, in order."""
        messages, self._messages = self._messages, []
        return messages

    def receive(self, text: str | bytes) -> list[ClientEvent]:
        """Take in one frame. Raises ProtocolError when the server broke the rules: reconnect with its code as
        the reason; and CvxError "FatalError" when the server says this client can never work."""
        message = decode_server_message(text)
        if isinstance(message, TransitionChunk):
            whole = self._assemble(message)
            return [] if whole is None else self.receive(whole)
        return self._take(message)

    # --- inside ---

    def _modify(self, modifications: list[Add | Remove]) -> None:
        if self._is_open:
            self._messages.append(ModifyQuerySet(self._query_set, self._query_set + 1, modifications))
            self._query_set += 1

    def _request(self, message: Mutation | Action) -> int:
        self._next_request_id += 1
        request = self._requests[message.request_id] = _Request(message)
        if self._is_open:
            request.sent = True
            self._messages.append(message)
        return message.request_id

    def _send_token(self) -> None:
        assert self._token is not None
        kind, value, acting_as = self._token
        self._messages.append(Authenticate(self._identity, kind, value, impersonating=acting_as))
        self._identity += 1

    def _assemble(self, chunk: TransitionChunk) -> str | None:
        first = self._chunks[0] if self._chunks else chunk
        self._chunks.append(chunk)
        if (
            chunk.part_number != len(self._chunks) - 1
            or chunk.transition_id != first.transition_id
            or chunk.total_parts != first.total_parts
        ):
            raise ProtocolError("TransitionChunkMismatch", "The parts of a Transition came out of order.")
        if len(self._chunks) < chunk.total_parts:
            return None
        whole = "".join(part.chunk for part in self._chunks)
        self._chunks = []
        return whole

    def _take(self, message: ServerMessage) -> list[ClientEvent]:
        if isinstance(message, Transition):
            return self._transition(message)
        if isinstance(message, MutationResponse):
            return self._mutation_answered(message)
        if isinstance(message, ActionResponse):
            if self._requests.pop(message.request_id, None) is None:
                raise ProtocolError("UnknownRequest", f"Nobody asked for request {message.request_id}.")
            return [RequestDone(message.request_id, message)]
        if isinstance(message, AuthError):
            return [TokenRejected(message.error)]
        if isinstance(message, FatalError):
            raise CvxError("FatalError", message.error)
        return []

    def _transition(self, message: Transition) -> list[ClientEvent]:
        if message.start_version != self._version:
            raise ProtocolError(
                "StartVersionMismatch",
                f"A Transition starts at {message.start_version}, but we are at {self._version}.",
            )
        events: list[ClientEvent] = []
        if (
            message.end_version.identity > self._version.identity
            and message.end_version.identity == self._identity
        ):
            events.append(TokenConfirmed())
        self._version = message.end_version
        ts = message.end_version.timestamp
        self._max_observed_ts = max(self._max_observed_ts, ts)
        for change in message.modifications:
            subscription = self._subscriptions.get(change.query_id)
            if subscription is not None and not isinstance(change, QueryRemoved):
                subscription.journal = change.journal
                events.append(QueryChanged(change.query_id, change))
        for request_id, request in list(self._requests.items()):
            response = request.response
            if response is not None and response.ts is not None and decode_ts(response.ts) <= ts:
                del self._requests[request_id]
                events.append(RequestDone(request_id, response))
        return events

    def _mutation_answered(self, message: MutationResponse) -> list[ClientEvent]:
        request = self._requests.get(message.request_id)
        if request is None or request.response is not None:
            raise ProtocolError("UnknownRequest", f"Nobody asked for request {message.request_id}.")
        if message.success and message.ts is not None:
            request.response = message
            self._max_observed_ts = max(self._max_observed_ts, decode_ts(message.ts))
            return []
        del self._requests[message.request_id]
        return [RequestDone(message.request_id, message)]
