"""The process of an action child: pipes, frames out, frames in, its end. Knows nothing of what the frames say.

Everything for one turn of the loop leaves in one write. Standard error is a file that only we read, and only when the
process has ended: the child leaves notes there of whose turn it is (js/action_state.js), so that a process that got
stuck, ran out of memory or crashed does not take an innocent action's reputation with it. The file's position is
shared with the child, so rewinding it here keeps it short.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable
from typing import Literal

from cvx.backend.runner.action_messages import FrameSplitter
from cvx.backend.runner.messages import frame
from cvx.errors import ProtocolError

DeathCause = Literal["timeout", "memory", "crash", "closed"]

_READ_BYTES = 1 << 20
_TAIL_BYTES = 65_536
_NOTE_BYTES_MAX = 32


class ActionProcess:
    """`start` it, `send` and `send_frame`; `on_frame` gets what it says and `on_end` is called once, at its end."""

    def __init__(
        self,
        start: Callable[[int], subprocess.Popen[bytes]],
        frame_bytes_max: int,
        on_frame: Callable[[bytes], None],
        on_end: Callable[[], None],
    ) -> None:
        self._start = start
        self._on_frame = on_frame
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._frames = FrameSplitter(frame_bytes_max)
        self._process: subprocess.Popen[bytes] | None = None
        self._outgoing: list[bytes] = []
        self._unwritten: list[memoryview] = []
        self._flush_planned = False
        self._stdin = self._stdout = self._notes = -1
        self._burial: asyncio.Task[None] | None = None
        self.killed_for: DeathCause | None = None
        self.dead = False
        self.gone = asyncio.Event()
        self.last_words = ""
        self.last_note: int | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start the process; it is not ready yet."""
        self._notes = _notes_file()
        self._process = process = await asyncio.to_thread(self._start, self._notes)
        assert process.stdin is not None and process.stdout is not None
        self._stdin, self._stdout = process.stdin.fileno(), process.stdout.fileno()
        os.set_blocking(self._stdin, False)
        os.set_blocking(self._stdout, False)
        self._loop.add_reader(self._stdout, self._on_readable)

    # ---- out

    def send(self, message: bytes) -> None:
        """Send a message with all others of this turn of the loop."""
        self._outgoing.append(message)
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    def send_frame(self, data: bytes) -> None:
        """Send a finished frame, after what was sent before it."""
        self._flush()
        self._write(data)

    def _flush(self) -> None:
        self._flush_planned = False
        if self._outgoing:
            data = frame(self._outgoing)
            self._outgoing.clear()
            self._write(data)

    def _write(self, data: bytes) -> None:
        if self.dead or self._stdin < 0:
            return
        if self._unwritten:
            self._unwritten.append(memoryview(data))
            return
        try:
            written = os.write(self._stdin, data)
        except BlockingIOError:
            written = 0
        except OSError:
            return  # It is dying: its stdout tells.
        if written < len(data):
            self._unwritten.append(memoryview(data)[written:])
            self._loop.add_writer(self._stdin, self._on_writable)

    def _on_writable(self) -> None:
        while self._unwritten:
            view = self._unwritten[0]
            try:
                written = os.write(self._stdin, view)
            except BlockingIOError:
                return
            except OSError:
                self._unwritten.clear()
                break
            if written < len(view):
                self._unwritten[0] = view[written:]
                return
            self._unwritten.pop(0)
        self._loop.remove_writer(self._stdin)

    # ---- in

    def _on_readable(self) -> None:
        try:
            data = os.read(self._stdout, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._ended()
            return
        try:
            for body in self._frames.feed(data):
                self._on_frame(body)
        except ProtocolError:
            self.kill("crash")
            return
        if self._outgoing:
            self._flush()

    def whose_turn(self) -> int | None:
        """Which action runs, or ran last, as far as the child has noted."""
        if self._notes < 0:
            return None
        size = os.fstat(self._notes).st_size
        return _last_note(os.pread(self._notes, _NOTE_BYTES_MAX, max(0, size - _NOTE_BYTES_MAX)))

    def rewind_notes(self, bytes_max: int) -> None:
        """Keep the notes short."""
        if self._notes >= 0 and os.fstat(self._notes).st_size > bytes_max:
            os.ftruncate(self._notes, 0)
            os.lseek(self._notes, 0, os.SEEK_SET)

    # ---- the end

    def kill(self, cause: DeathCause) -> None:
        """End the process now."""
        if self.killed_for is None:
            self.killed_for = cause
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)

    def end_input(self) -> None:
        """Let it end by itself."""
        self.killed_for = self.killed_for or "closed"
        self._outgoing.clear()
        if self._unwritten:
            self._loop.remove_writer(self._stdin)
            self._unwritten.clear()
        if self._process is not None and self._process.stdin is not None:
            self._stdin = -1
            self._process.stdin.close()

    async def stop(self, patience_s: float, *, kill: bool) -> None:
        """Returns when it is gone."""
        if self._process is None:
            return
        if kill:
            self.kill("closed")
        elif not self.dead:
            self.end_input()
        try:
            await asyncio.wait_for(self.gone.wait(), patience_s)
        except asyncio.TimeoutError:
            self.kill("closed")
            await self.gone.wait()

    def _ended(self) -> None:
        if self.dead:
            return
        self.dead = True
        self._loop.remove_reader(self._stdout)
        if self._unwritten:
            self._loop.remove_writer(self._stdin)
            self._unwritten.clear()
        self._burial = self._loop.create_task(self._bury())

    async def _bury(self) -> None:
        process = self._process
        assert process is not None
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)  # Its output has ended; nothing more can come.
        await asyncio.to_thread(process.wait)
        self._read_notes()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        self._on_end()
        self.gone.set()

    def _read_notes(self) -> None:
        size = os.fstat(self._notes).st_size
        text = os.pread(self._notes, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        os.close(self._notes)
        self._notes = -1
        self.last_note = _last_note(text)
        plain = b"\n".join(line for line in text.split(b"\n") if not line.startswith(b"\x01"))
        self.last_words = plain.strip(b"\0\n ").decode("utf-8", "replace")[-8192:]

    @property
    def cause(self) -> DeathCause:
        """Why it ended, once it is gone."""
        if self.killed_for is not None:
            return self.killed_for
        return "memory" if "out of memory" in self.last_words or "heap limit" in self.last_words else "crash"


def _last_note(text: bytes) -> int | None:
    note = text.rpartition(b"\x01")[2].partition(b"\n")[0]
    return int(note) if note.isdigit() else None


def _notes_file() -> int:
    create = getattr(os, "memfd_create", None)
    if create is not None:
        return int(create("action-notes"))
    with tempfile.TemporaryFile() as file:  # Not on every system.
        return os.dup(file.fileno())
