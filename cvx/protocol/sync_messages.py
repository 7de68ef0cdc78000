"""The messages of a sync conversation, exactly as they stand on the WebSocket.

Values, arguments and error data travel as raw JSON (`msgspec.Raw`): this file never looks inside them, so a
result is encoded once, where it was computed, and spliced into the messages of all its subscribers.

Rule: `errorData` is absent unless a ConvexError was thrown (UNSET, never null), `logLines` is always a list,
`clientClockSkew` and `serverTs` are integers or null.

Source: reference/values-and-sync.md §4.2–4.4.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, TypeAlias

from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from cvx.values.timestamps import Timestamp, decode_ts, encode_ts

U32 = Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]

# One Transition reaches a thousand sockets: its timestamp is spelt once.
timestamp_text = lru_cache(maxsize=256)(encode_ts)


class StateVersion(Struct, rename="camel", frozen=True):
    """Where a conversation stands: what is asked (`query_set`), by whom (`identity`), as of when (`ts`)."""

    query_set: U32
    identity: U32
    ts: str

    @classmethod
    def at(cls, query_set: int, identity: int, ts: Timestamp) -> StateVersion:
        return cls(query_set, identity, timestamp_text(ts))

    @property
    def timestamp(self) -> Timestamp:
        """`ts` as nanoseconds. Raises CvxError "InvalidTimestamp"."""
        return decode_ts(self.ts)


# --- client → server -------------------------------------------------------------------------------------


class Connect(Struct, tag_field="type", tag="Connect", rename="camel"):
    """Always first. `client_ts` is the client's wall clock in ms."""

    session_id: str
    connection_count: U32
    last_close_reason: str | None = None
    max_observed_timestamp: str | None = None
    client_ts: int | None = None


class Add(Struct, tag_field="type", tag="Add", rename="camel"):
    """Subscribe. `args` is the JSON array of positional arguments (one object)."""

    query_id: U32
    udf_path: str
    args: Raw = Raw(b"[{}]")
    journal: str | None = None
    component_path: str | None = None


class Remove(Struct, tag_field="type", tag="Remove", rename="camel"):
    query_id: U32


class ModifyQuerySet(Struct, tag_field="type", tag="ModifyQuerySet", rename="camel"):
    base_version: U32
    new_version: U32
    modifications: list[Add | Remove]


class Mutation(Struct, tag_field="type", tag="Mutation", rename="camel"):
    request_id: U32
    udf_path: str
    args: Raw = Raw(b"[{}]")
    component_path: str | None = None


class Action(Struct, tag_field="type", tag="Action", rename="camel"):
    request_id: U32
    udf_path: str
    args: Raw = Raw(b"[{}]")
    component_path: str | None = None


class Authenticate(Struct, tag_field="type", tag="Authenticate", rename="camel"):
    """`token_type` is "User", "Admin" or "None"; `impersonating` the attributes of the user an admin acts as."""

    base_version: U32
    token_type: str
    value: str | None = None
    impersonating: Raw | UnsetType = UNSET
    acting_as: Raw | UnsetType = field(default=UNSET, name="acting_as")


class Event(Struct, tag_field="type", tag="Event", rename="camel"):
    """Telemetry of the client; never answered."""

    event_type: str = ""
    event: Raw | UnsetType = UNSET


ClientMessage: TypeAlias = Connect | ModifyQuerySet | Mutation | Action | Authenticate | Event

# --- server → client -------------------------------------------------------------------------------------


class QueryUpdated(Struct, tag_field="type", tag="QueryUpdated", rename="camel"):
    query_id: U32
    value: Raw
    log_lines: list[str]
    journal: str | None


class QueryFailed(Struct, tag_field="type", tag="QueryFailed", rename="camel"):
    query_id: U32
    error_message: str
    log_lines: list[str]
    journal: str | None
    error_data: Raw | UnsetType = UNSET


class QueryRemoved(Struct, tag_field="type", tag="QueryRemoved", rename="camel"):
    query_id: U32


QueryChange: TypeAlias = QueryUpdated | QueryFailed | QueryRemoved


class Transition(Struct, tag_field="type", tag="Transition", rename="camel"):
    """Everything that changed between two versions. `server_ts` (ns) is stamped when the frame is written."""

    start_version: StateVersion
    end_version: StateVersion
    modifications: list[QueryUpdated | QueryFailed | QueryRemoved]
    client_clock_skew: int | None = None
    server_ts: int | None = None


class TransitionChunk(Struct, tag_field="type", tag="TransitionChunk", rename="camel"):
    """A piece of the JSON text of one Transition."""

    chunk: str
    part_number: int
    total_parts: int
    transition_id: str


class MutationResponse(Struct, tag_field="type", tag="MutationResponse", rename="camel"):
    """`result` is the value, or the error message as a JSON string."""

    request_id: U32
    success: bool
    result: Raw
    ts: str | None = None
    log_lines: list[str] = []
    error_data: Raw | UnsetType = UNSET


class ActionResponse(Struct, tag_field="type", tag="ActionResponse", rename="camel"):
    request_id: U32
    success: bool
    result: Raw
    log_lines: list[str] = []
    error_data: Raw | UnsetType = UNSET


class AuthError(Struct, tag_field="type", tag="AuthError", rename="camel"):
    error: str
    base_version: U32 | None = None
    auth_update_attempted: bool | None = None


class FatalError(Struct, tag_field="type", tag="FatalError", rename="camel"):
    """Ends a JavaScript client for good: only for faults of the client."""

    error: str


class Ping(Struct, tag_field="type", tag="Ping", rename="camel"):
    pass


ServerMessage: TypeAlias = (
    Transition | TransitionChunk | MutationResponse | ActionResponse | AuthError | FatalError | Ping
)
