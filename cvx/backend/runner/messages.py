"""Frames between this process and a Deno child. Sans-IO: no `async`, no clock, no pipe.

A frame is a 4-byte little-endian length, UTF-8 text of that length (lines, joined by `\\n`) and a last `\\n`: Deno's
standard output is buffered by line, and would make two writes of what does not end with one. Each message is one JSON
header line and as many payload lines as the header implies. Payloads are JSON texts spliced as they are, so a
document is never decoded or quoted again on its way. The child's half is js/host.js.

Rule: a payload may not hold a raw line feed. JSON has them only as white space between tokens; they become spaces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from cvx.backend.runner.interface import FailureKind, LogLevel
from cvx.errors import ProtocolError

_encode = msgspec.json.encode
_HEADER = 4
_AROUND = 5  # Header and last line feed.

ClosedStreams = list[tuple[int, int, bool]]


class Hello(msgspec.Struct, array_like=True, tag="hello", frozen=True):
    """The child is ready. `version` is that of this protocol."""

    version: int


class SyscallsIssued(msgspec.Struct, array_like=True, tag="s", frozen=True):
    """An execution asks. `ops`: a name (its arguments are one payload line), or [query, want, first] for the
    next page of a query (when first is 1, the query's arguments are one payload line). `closed`: what was read of
    queries that ended since. `early`: names of writes that user code was already told are done; they come before
    everything else, also in the payload, and are not answered. `logged`: how many console lines it has written."""

    id: int
    ops: list[str | tuple[int, int, int]]
    closed: ClosedStreams | int
    early: list[str] | int = 0
    logged: int = 0


class Done(msgspec.Struct, array_like=True, tag="d", frozen=True):
    """An execution has ended. `observed`: 1 time, 2 randomness, 4 table names. `error`: message, frames, kind, whether a payload
    line with data follows, whether it tried to change the shared realm. Without error the value follows. `early` as in
    SyscallsIssued."""

    id: int
    user_time_ms: float
    observed: int
    env_read: list[str] | int
    closed: ClosedStreams | int
    lines: list[tuple[LogLevel, list[str], bool, float]] | int
    error: tuple[str, str, FailureKind, int, int] | int
    early: list[str] | int = 0


class SourcesNeeded(msgspec.Struct, array_like=True, tag="n", frozen=True):
    """An execution waits for the sources of modules of its bundle."""

    id: int
    bundle: str
    paths: list[str]


class ClosureKnown(msgspec.Struct, array_like=True, tag="c", frozen=True):
    """All modules that an entry module imports, itself included. Once for each bundle and entry."""

    bundle: str
    path: str
    modules: list[str]


class MemoryUsed(msgspec.Struct, array_like=True, tag="m", frozen=True):
    """The child's heap and the memory of its array buffers, in bytes. Now and then."""

    heap: int
    external: int


ChildMessage = Hello | SyscallsIssued | Done | SourcesNeeded | ClosureKnown | MemoryUsed
_decoder = msgspec.json.Decoder(ChildMessage)
_Message = TypeVar("_Message")


class FrameReader:
    """Bytes as they arrive → the bytes of complete frames."""

    def __init__(self, frame_bytes_max: int) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Raises ProtocolError "RunnerFrameTooLarge"."""
        held = self._held
        if (
            not held
            and len(data) >= _HEADER
            and len(data) == _AROUND + int.from_bytes(data[:_HEADER], "little")
        ):
            yield data[_HEADER:-1]  # The usual case: exactly one frame.
            return
        held += data
        at = 0
        while len(held) - at >= _HEADER:
            size = int.from_bytes(held[at : at + _HEADER], "little")
            if size > self._frame_bytes_max:
                raise ProtocolError("RunnerFrameTooLarge", f"A function runner sent a frame of {size} bytes.")
            if len(held) - at - _AROUND < size:
                break
            body = bytes(held[at + _HEADER : at + _HEADER + size])
            at += _AROUND + size
            yield body
        if at:
            del held[:at]


def decode(body: bytes) -> Iterator[tuple[ChildMessage, list[bytes]]]:
    """The messages of one frame, each with its payload lines. Raises ProtocolError "RunnerFrameMalformed"."""
    return decoded(body, _decoder, _payload_lines)


def decoded(
    body: bytes, decoder: msgspec.json.Decoder[_Message], payload_lines: Callable[[_Message], int]
) -> Iterator[tuple[_Message, list[bytes]]]:
    """As `decode`, for other messages than these. `payload_lines`: how many lines follow one."""
    lines = body.split(b"\n")
    at, end = 0, len(lines)
    while at < end:
        try:
            message = decoder.decode(lines[at])
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ProtocolError("RunnerFrameMalformed", f"A function runner sent nonsense: {error}") from None
        payload = at + 1
        at = payload + payload_lines(message)
        if at > end:
            raise ProtocolError("RunnerFrameMalformed", "A function runner sent a frame that is cut off.")
        yield message, lines[payload:at]


def _payload_lines(message: ChildMessage) -> int:
    if isinstance(message, SyscallsIssued):
        own = sum(1 if isinstance(op, str) else op[2] for op in message.ops)
        return own if isinstance(message.early, int) else own + len(message.early)
    if isinstance(message, Done):
        own = message.error[3] if isinstance(message.error, tuple) else 1
        return own if isinstance(message.early, int) else own + len(message.early)
    return 0


def line(payload: bytes) -> bytes:
    """A payload as one line."""
    return payload.replace(b"\n", b" ") if b"\n" in payload else payload


def frame(messages: Sequence[bytes]) -> bytes:
    """One frame from encoded messages, in order."""
    body = b"\n".join(messages)
    return b"%b%b\n" % (len(body).to_bytes(_HEADER, "little"), body)


def call_message(header: tuple[Any, ...], args_json: bytes, component_args: bytes | None) -> bytes:
    """Run a function; `header` is everything after the tag (see `call` in js/host.js)."""
    text = _encode(("call", *header, component_args is not None)) + b"\n" + line(args_json)
    return text if component_args is None else text + b"\n" + line(component_args)


def analyze_message(header: tuple[Any, ...]) -> bytes:
    """Look at a module; `header` is everything after the tag (see `analyze` in js/host.js)."""
    return _encode(("analyze", *header))


def results_message(execution: int, kinds: list[Any], payload: list[bytes]) -> bytes:
    """Answers to one SyscallsIssued, in its order. Kinds: 0, [message, has data], {"p": count, "d": done},
    or {"t": 1}: a result behind the tables that there are from now on."""
    if len(kinds) == 1 and kinds[0] == 0:
        return b'["results",%d,[0]]\n%b' % (execution, line(payload[0]))
    return b"\n".join((_encode(("results", execution, kinds)), *map(line, payload)))


def drop_message(execution: int) -> bytes:
    """Forget an execution."""
    return b'["drop",%d]' % execution


def definition_message(what: str, number: int, content: bytes) -> bytes:
    """Give a number to an environment (`what` = "env") or a table map ("tables"); calls refer to it."""
    return _encode((what, number)) + b"\n" + line(content)


def unset_message(environments: list[int], tables: list[int]) -> bytes:
    """Forget numbered environments and table maps."""
    return _encode(("unset", environments, tables))


def bundle_message(key: str, hashes: dict[str, str]) -> bytes:
    """Name the modules of a bundle: path → hash."""
    return _encode(("bundle", key)) + b"\n" + _encode(hashes)


def source_message(sha256: str, path: str, source: bytes, source_map: bytes | None) -> bytes:
    """The text of one module, and its source map."""
    text = _encode(("source", sha256, path, source_map is not None)) + b"\n"
    text += _encode(source.decode("utf-8", "replace"))
    return text if source_map is None else text + b"\n" + line(source_map)


def sources_sent_message(key: str) -> bytes:
    """All that was asked for of this bundle has been sent."""
    return _encode(("sources", key))


def forget_message(key: str) -> bytes:
    """Drop a bundle and the sources only it used."""
    return _encode(("forget", key))
