"""Byte streams between a host and an action child, with back-pressure in both directions.

`IncomingStream` is what the child sends: an asynchronous iterator that grants as many bytes as it has handed on.
`OutgoingStream` is what we send: it waits for the child's grants. Neither ever holds more than its window.
`Streams` are all those of one child, by number.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from cvx.backend.config import Limits
from cvx.backend.runner import action_messages as messages
from cvx.errors import CvxError


class IncomingStream:
    """A stream of the child, to be read once: `async for part in stream.parts()`."""

    def __init__(self, number: int, send: Callable[[bytes], None]) -> None:
        self._number = number
        self._send = send
        self._parts: deque[bytes] = deque()
        self._ended = False
        self._error: str | None = None
        self._wake: asyncio.Future[None] | None = None

    def arrived(self, data: bytes) -> None:
        self._parts.append(data)
        self._woken()

    def end(self, error: str | None = None) -> None:
        """All has arrived, or no more can come."""
        if not self._ended:
            self._ended, self._error = True, error
            self._woken()

    def stop(self) -> None:
        """Nobody reads any more."""
        if not self._ended:
            self.end("nobody reads it any more")
            self._send(messages.stop_message(self._number))

    def _woken(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def parts(self) -> AsyncGenerator[bytes, None]:
        """What it holds. Raises CvxError "StreamBroken" when the child could not go on."""
        while True:
            while self._parts:
                part = self._parts.popleft()
                yield part
                if not self._ended:
                    self._send(messages.credit_message(self._number, len(part)))
            if self._ended:
                break
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        if self._error is not None:
            raise CvxError("StreamBroken", f"A stream ended early: {self._error}.")


class OutgoingStream:
    """A stream of ours: `await pump(iterator)` sends all of it."""

    def __init__(
        self,
        number: int,
        window_bytes: int,
        chunk_bytes: int,
        send: Callable[[bytes], None],
        send_frame: Callable[[bytes], None],
    ) -> None:
        self._number = number
        self._granted = window_bytes
        self._chunk_bytes = chunk_bytes
        self._send = send
        self._send_frame = send_frame
        self._stopped = False
        self._wake: asyncio.Future[None] | None = None

    def grant(self, size: int) -> None:
        self._granted += size
        self._woken()

    def stop(self) -> None:
        """The child wants no more."""
        self._stopped = True
        self._woken()

    def _woken(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def pump(self, source: AsyncIterator[bytes]) -> None:
        """Send all of `source`, or as much as the child wants. A failure of `source` is told to the child and
        raised."""
        try:
            async for data in source:
                if self._stopped:
                    return
                await self._write(data)
        except BaseException as error:
            if not self._stopped:
                reason = error.message if isinstance(error, CvxError) else "its source failed"
                self._send(messages.fail_message(self._number, reason))
            raise
        if not self._stopped:
            self._send(messages.end_message(self._number))

    async def _write(self, data: bytes) -> None:
        at = 0
        while at < len(data) and not self._stopped:
            while self._granted <= 0 and not self._stopped:
                self._wake = asyncio.get_running_loop().create_future()
                await self._wake
            size = min(self._chunk_bytes, self._granted, len(data) - at)
            if size > 0 and not self._stopped:
                self._granted -= size
                self._send_frame(messages.part_frame(self._number, data[at : at + size]))
                at += size


class Streams:
    """The streams of one child. Whoever takes or opens one drops it when it is of no more use."""

    def __init__(
        self, limits: Limits, send: Callable[[bytes], None], send_frame: Callable[[bytes], None]
    ) -> None:
        self._limits = limits
        self._send = send
        self._send_frame = send_frame
        self._numbers = itertools.count(1)
        self._incoming: dict[int, IncomingStream] = {}
        self._outgoing: dict[int, OutgoingStream] = {}

    def take(self, number: int) -> IncomingStream:
        """Expect a stream that the child has announced."""
        stream = self._incoming[number] = IncomingStream(number, self._send)
        return stream

    def open(self) -> tuple[int, OutgoingStream]:
        """Begin a stream of ours; the child learns its number in a message."""
        limits, number = self._limits, next(self._numbers)
        stream = self._outgoing[number] = OutgoingStream(
            number,
            limits.action_stream_window_bytes,
            limits.action_stream_chunk_bytes,
            self._send,
            self._send_frame,
        )
        return number, stream

    def drop_incoming(self, number: int) -> None:
        """Nobody reads it any more."""
        stream = self._incoming.pop(number, None)
        if stream is not None:
            stream.stop()

    def drop_outgoing(self, number: int) -> None:
        """Nothing more is sent on it."""
        self._outgoing.pop(number, None)

    def break_all(self, why: str) -> None:
        """The child is gone."""
        for stream in self._incoming.values():
            stream.end(why)

    # ---- what the child says

    def arrived(self, part: messages.Part) -> None:
        stream = self._incoming.get(part.stream)
        if stream is not None:
            stream.arrived(part.data)

    def ended(self, message: messages.StreamEnded, payload: list[bytes]) -> None:
        stream = self._incoming.pop(message.stream, None)
        if stream is not None:
            stream.end()

    def failed(self, message: messages.StreamFailed, payload: list[bytes]) -> None:
        stream = self._incoming.pop(message.stream, None)
        if stream is not None:
            stream.end(message.message)

    def granted(self, message: messages.Credit, payload: list[bytes]) -> None:
        stream = self._outgoing.get(message.stream)
        if stream is not None:
            stream.grant(message.size)

    def stopped(self, message: messages.Stopped, payload: list[bytes]) -> None:
        stream = self._outgoing.pop(message.stream, None)
        if stream is not None:
            stream.stop()
