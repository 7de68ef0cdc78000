"""What a sync conversation and its driver say to each other: the results, tasks and events of SyncSession.

The driver starts every task once and answers it with the event that the task names. Nothing here is on the
wire.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from msgspec import Raw

from cvx.errors import CvxError
from cvx.protocol.sync_messages import Authenticate, ClientMessage
from cvx.values.timestamps import Timestamp


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What one conversation may hold."""

    queries_max: int = 100_000
    modifications_waiting_max: int = 200_000
    """Of the query set, while no update can begin: enough to put every query in the place of another."""
    messages_waiting_max: int = 2_000
    """While a token is checked."""
    mutations_queued_max: int = 1000
    actions_in_flight_max: int = 1000
    transitions_unsent_max: int = 2
    mutation_s_max: float = 60.0
    ping_after_s: float = 15.0
    unavailable_retry_s: float = 3.0


@dataclass(frozen=True, slots=True)
class Caller:
    """Who speaks. `identity` is opaque here; `expires_at` is in Unix seconds."""

    identity: Any
    is_admin: bool = False
    expires_at: float = math.inf


@dataclass(frozen=True, slots=True)
class Close:
    """End of the conversation. `code` None is a close frame without a code."""

    code: int | None
    reason: str = ""


def closing_of(error: CvxError) -> Close:
    """The close frame that tells a client how to treat this failure (values-and-sync.md §4.8)."""
    reason = error.code.encode()[:123].decode(errors="ignore")
    if error.kind in ("bad_request", "conflict", "unauthenticated", "auth_update_failed"):
        return Close(None)
    if error.kind in ("forbidden", "pagination_limit", "not_found"):
        return Close(1000, reason)
    if error.kind == "internal":
        return Close(1011, "InternalServerError")
    return Close(1013, reason)


# --- what a query or a call came to ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class QueryResult:
    """One query's result. `fingerprint` is equal for results that a client could not tell apart."""

    fingerprint: bytes
    value: Raw | None = None
    error_message: str = ""
    error_data: Raw | None = None
    log_lines: list[str] = field(default_factory=list)
    journal: str | None = None


@dataclass(frozen=True, slots=True)
class CallResult:
    """One mutation's or action's result; `value` None means it failed with `error_message`.
    `ts` is a successful mutation's commit timestamp."""

    value: Raw | None = None
    ts: Timestamp | None = None
    error_message: bytes = b'""'
    """As JSON."""
    error_data: Raw | None = None
    log_lines: list[str] = field(default_factory=list)


# --- tasks -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CheckToken:
    """Find out who the message's token stands for; answer with TokenAccepted or TokenRefused."""

    message: Authenticate


@dataclass(frozen=True, slots=True)
class RunMutation:
    """Answer with MutationCommitted as soon as its commit is visible, then MutationFinished when durable."""

    request_id: int
    path: str
    args: Raw
    component: str
    caller: Caller
    session_id: str | None
    context_id: str | None
    """The request id that error texts show; None before Connect."""


@dataclass(frozen=True, slots=True)
class RunAction:
    """Answer with ActionFinished."""

    request_id: int
    path: str
    args: Raw
    component: str
    caller: Caller
    context_id: str | None


@dataclass(frozen=True, slots=True)
class QueryRun:
    query_id: int
    path: str
    args: Raw
    component: str
    journal: str | None


@dataclass(frozen=True, slots=True)
class UpdateQueries:
    """Run `runs` at one snapshot, watch them, and stop watching `dropped`. Answer with QueriesUpdated, or with
    UpdateImpossible when the snapshot grew too old.

    The snapshot is the latest one at the moment this task is handed out, before anything else is committed: the
    queries not named are carried forward to it because nothing had invalidated them at that moment.
    """

    runs: tuple[QueryRun, ...]
    dropped: tuple[int, ...]
    caller: Caller


Task: TypeAlias = CheckToken | RunMutation | RunAction | UpdateQueries

# --- events ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Received:
    message: ClientMessage


@dataclass(frozen=True, slots=True)
class TokenAccepted:
    caller: Caller


@dataclass(frozen=True, slots=True)
class TokenRefused:
    error: CvxError


@dataclass(frozen=True, slots=True)
class QueriesUpdated:
    """`results` holds None for a query that is unavailable for the moment: it is tried again later."""

    ts: Timestamp
    results: Mapping[int, QueryResult | None]


@dataclass(frozen=True, slots=True)
class UpdateImpossible:
    """The update has to be run again on a later snapshot."""


@dataclass(frozen=True, slots=True)
class MutationCommitted:
    request_id: int
    ts: Timestamp


@dataclass(frozen=True, slots=True)
class MutationFinished:
    request_id: int
    result: CallResult


@dataclass(frozen=True, slots=True)
class ActionFinished:
    request_id: int
    result: CallResult


@dataclass(frozen=True, slots=True)
class Invalidated:
    """A commit touched what these queries read."""

    query_ids: Collection[int]


@dataclass(frozen=True, slots=True)
class Sent:
    """This many Transitions are on their way to the client."""

    transitions: int


@dataclass(frozen=True, slots=True)
class Failed:
    """Something went wrong that ends the conversation: a malformed message, a task the system failed."""

    error: CvxError


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


SessionEvent: TypeAlias = (
    Received
    | TokenAccepted
    | TokenRefused
    | QueriesUpdated
    | UpdateImpossible
    | MutationCommitted
    | MutationFinished
    | ActionFinished
    | Invalidated
    | Sent
    | Failed
    | Tick
)
