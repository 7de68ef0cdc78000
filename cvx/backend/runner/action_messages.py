"""Frames between this process and a child that runs actions. Sans-IO: no `async`, no clock, no pipe.

As in `messages`, a frame is a 4-byte little-endian length, so many bytes and a last `\\n`. Bytes that begin with zero are
a part of a stream: the zero, the stream's number (4 bytes, little-endian), then the part as it is. All others are
UTF-8 lines: JSON headers, each followed by as many payload lines as it implies. The child's half is js/action_wire.js.

Streams: each side numbers those that it sends. The reader grants bytes (`credit`) or wants no more (`stop`); the
writer says `end`, or `fail` with a reason. Nothing is sent that was not granted.

Rule: a payload may not hold a raw line feed. JSON has them only as white space between tokens; they become spaces.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from cvx.backend.runner.interface import FailureKind, LogLevel
from cvx.backend.runner.messages import ClosureKnown, Hello, SourcesNeeded, decoded, line
from cvx.errors import ProtocolError

_encode = msgspec.json.encode
_HEADER = 4
_PART_AHEAD = 5


class Asked(msgspec.Struct, array_like=True, tag="ask", frozen=True):
    """An action issues an asynchronous syscall; its arguments are one payload line."""

    id: int
    operation: int
    name: str


class StoreAsked(msgspec.Struct, array_like=True, tag="store", frozen=True):
    """An action stores a blob, which arrives as stream `stream`."""

    id: int
    operation: int
    stream: int
    content_type: str | None
    sha256: str | None


class BlobAsked(msgspec.Struct, array_like=True, tag="blob", frozen=True):
    """An action wants a stored blob."""

    id: int
    operation: int
    storage_id: str


class Logged(msgspec.Struct, array_like=True, tag="log", frozen=True):
    """A console line."""

    id: int
    level: LogLevel
    messages: list[str]
    is_truncated: bool
    timestamp_ms: float
    system_code: str | None


class Responded(msgspec.Struct, array_like=True, tag="head", frozen=True):
    """An HTTP action answers. `stream` is the number of the body, 0 for none."""

    id: int
    status: int
    headers: list[tuple[str, str]]
    stream: int


class Ended(msgspec.Struct, array_like=True, tag="d", frozen=True):
    """An action has ended. `error`: message, frames, kind, whether a payload line with data follows, and whether it tried
    to change what actions share (1: before it did anything else that could be noticed; 2: after). Without
    error its value follows, for an HTTP action nothing (see `decode`)."""

    id: int
    user_time_ms: float
    memory_bytes: int
    error: tuple[str, str, FailureKind, int, int] | int
    has_value: int


class StreamEnded(msgspec.Struct, array_like=True, tag="end", frozen=True):
    """All of a stream of the child has been sent."""

    stream: int


class StreamFailed(msgspec.Struct, array_like=True, tag="fail", frozen=True):
    """A stream of the child cannot go on."""

    stream: int
    message: str


class Credit(msgspec.Struct, array_like=True, tag="credit", frozen=True):
    """The child has taken in so many bytes of a stream of ours."""

    stream: int
    size: int


class Stopped(msgspec.Struct, array_like=True, tag="stop", frozen=True):
    """The child wants no more of a stream of ours."""

    stream: int


class Pong(msgspec.Struct, array_like=True, tag="pong", frozen=True):
    """The answer to a ping."""

    number: int


class Bye(msgspec.Struct, array_like=True, tag="bye", frozen=True):
    """The child ends by itself, now: it takes no further action."""


class Memory(msgspec.Struct, array_like=True, tag="m", frozen=True):
    """The child's heap and the memory of its array buffers, in bytes, and how many module records it has made."""

    heap: int
    external: int
    module_records: int


Message = (
    Hello | Asked | StoreAsked | BlobAsked | Logged | Responded | Ended | StreamEnded | StreamFailed | Credit
    | Stopped | Pong | Bye | Memory | SourcesNeeded | ClosureKnown
)  # fmt: skip
_decoder = msgspec.json.Decoder(Message)


@dataclass(frozen=True)
class Part:
    """A part of a stream of the child."""

    stream: int
    data: bytes


def decode(body: bytes) -> Iterator[tuple[Message | Part, list[bytes]]]:
    """What one frame says, each message with its payload lines. Raises ProtocolError "RunnerFrameMalformed"."""
    if body[:1] == b"\0":
        if len(body) < _PART_AHEAD:
            raise ProtocolError("RunnerFrameMalformed", "A function runner sent a frame that is cut off.")
        yield Part(int.from_bytes(body[1:_PART_AHEAD], "little"), body[_PART_AHEAD:]), []
        return
    yield from decoded(body, _decoder, _payload_lines)


def _payload_lines(message: Message) -> int:
    if isinstance(message, Asked):
        return 1
    if isinstance(message, Ended):
        return message.error[3] if isinstance(message.error, tuple) else message.has_value
    return 0


def part_frame(stream: int, data: bytes) -> bytes:
    """A complete frame with a part of a stream of ours."""
    head = (len(data) + _PART_AHEAD).to_bytes(_HEADER, "little") + b"\0" + stream.to_bytes(4, "little")
    return b"".join((head, data, b"\n"))


def config_message(config: dict[str, int]) -> bytes:
    """The bounds that the child keeps (see `config` in js/action_wire.js)."""
    return _encode(("config",)) + b"\n" + _encode(config)


def action_message(header: tuple[Any, ...], args_json: bytes, component_args: bytes | None) -> bytes:
    """Run an action; `header` is everything after the tag (see `action` in js/action_host.js)."""
    text = _encode(("action", *header, component_args is not None)) + b"\n" + line(args_json)
    return text if component_args is None else text + b"\n" + line(component_args)


def result_message(action: int, operation: int, result: bytes) -> bytes:
    """The result of an operation: raw JSON text."""
    return b'["answer",%d,%d,0]\n%b' % (action, operation, line(result))


def failure_message(action: int, operation: int, message: str, data_json: bytes | None) -> bytes:
    """An operation has failed."""
    text = _encode(("answer", action, operation, (message, 0 if data_json is None else 1)))
    return text if data_json is None else text + b"\n" + line(data_json)


def blob_message(action: int, operation: int, stream: int, content_type: str | None) -> bytes:
    """The blob that was asked for follows as a stream of ours."""
    return _encode(("answer", action, operation, {"s": stream, "t": content_type}))


def no_blob_message(action: int, operation: int) -> bytes:
    """There is no such blob."""
    return _encode(("answer", action, operation, {"n": 1}))


def cancel_message(action: int) -> bytes:
    """Nobody wants this action any more."""
    return b'["cancel",%d]' % action


def ping_message(number: int) -> bytes:
    """Say something back."""
    return b'["ping",%d]' % number


def end_message(stream: int) -> bytes:
    """All of a stream of ours has been sent."""
    return b'["end",%d]' % stream


def fail_message(stream: int, reason: str) -> bytes:
    """A stream of ours cannot go on."""
    return _encode(("fail", stream, reason))


def credit_message(stream: int, size: int) -> bytes:
    """So many bytes of a stream of the child have been taken in."""
    return b'["credit",%d,%d]' % (stream, size)


def stop_message(stream: int) -> bytes:
    """No more of a stream of the child is wanted."""
    return b'["stop",%d]' % stream
