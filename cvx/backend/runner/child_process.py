"""One child process: frames out, bytes in, its end. Knows nothing of what they say.

Everything for one turn of the loop leaves in one write. Standard error is a file that only we read, and only when the
process has ended. A child that runs actions leaves notes there of whose turn it is (js/action_state.js), so that a
process that got stuck, ran out of memory or crashed does not take an innocent action's reputation with it. The file's
position is shared with the child, so rewinding it here keeps it short.

Rule: whatever becomes of those who wanted a process, its `ChildProcesses` knows it from before it is started until the
system has forgotten it. No process is left behind when they are closed.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Coroutine, Iterable
from time import monotonic
from typing import Any, Protocol, TypeVar

from cvx.backend.runner.messages import frame
from cvx.backend.runner.verdicts import DeathCause, stopping
from cvx.errors import CvxError, ProtocolError

WATCH_EVERY_S = 0.1
_READ_BYTES = 1 << 20
_TAIL_BYTES = 65_536
_MEMORY_WORDS = ("out of memory", "heap limit", "JavaScript invalid size error")
"""What V8 says before it gives up: no memory, or a thing asked for that is larger than any it could make."""
_NOTE_BYTES_MAX = 32
_START_PAUSE_S = 0.1
_LAST_DATA_S = 1.0
"""How long what a killed process had written is read, if something that it left behind keeps its output open."""

_log = logging.getLogger("cvx.runner")
_Result = TypeVar("_Result")
_Looked = TypeVar("_Looked")


class ChildProcess:
    """`start` it; `send` and `send_frame`. Its owner calls `ready` when it has said so, gets what it says by `on_data`
    (which may raise ProtocolError), and is told once, by `on_end`, that it has ended."""

    def __init__(
        self,
        siblings: ChildProcesses,
        what: str,
        start: Callable[[int], subprocess.Popen[bytes]],
        on_data: Callable[[bytes], None],
        on_end: Callable[[], None],
    ) -> None:
        """`what` it runs, for messages. `start`, in a thread, gets the file for standard error; stdin and stdout of
        what it starts are pipes of ours, and it leads a process group."""
        self._siblings = siblings
        self._what = what
        self._start = start
        self._on_data = on_data
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready: asyncio.Future[bool] = self._loop.create_future()
        self._is_buried = False
        self._outgoing: list[bytes] = []
        self._unwritten: list[memoryview] = []
        self._flush_planned = False
        self._stdin = self._stdout = self._notes = -1
        self.killed_for: DeathCause | None = None
        self.dead = False
        self.ending = False
        """It takes nothing any more: it is dead, or is about to be."""
        self.gone: asyncio.Future[None] | None = None
        """Done when there is no such process any more. None: it was never to be started."""
        self.last_words = ""
        self.last_note: int | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    # ---- the beginning

    async def start(self, patience_s: float) -> None:
        """Start it and wait until it is ready. Raises CvxError "FunctionRunnerFailed" when it is gone again, and
        "BackendStopping". Cancelled, it ends the process, but does not wait until it is gone."""
        if self._siblings.closing:
            raise stopping()
        try:
            self._notes = _notes_file()
        except OSError as error:
            raise self._failed(str(error)) from None
        self.gone = self._loop.create_future()
        self._siblings.living.add(self)
        starting = self._loop.run_in_executor(None, self._start, self._notes)
        starting.add_done_callback(self._started)  # Even when nobody waits any more.
        try:
            await asyncio.wait({starting})
            await asyncio.wait({self._is_ready}, timeout=patience_s)
            is_ready = self._is_ready.done() and self._is_ready.result()
            if is_ready and not self.ending and not self._siblings.closing:
                return
            in_time = self._is_ready.done()
            self.kill("closed" if self._siblings.closing else "crash")
            await asyncio.wait({self.gone})
        except asyncio.CancelledError:
            self.kill("closed")
            raise
        if self._siblings.closing:
            raise stopping()
        if starting.exception() is not None:
            raise self._failed(str(starting.exception())) from None
        why = "it ended" if in_time else f"it said nothing for {patience_s:g} s"
        raise self._failed(f"{why}. {self.last_words[-500:]}")

    def ready(self) -> None:
        """It has said that it is."""
        if not self._is_ready.done():
            self._is_ready.set_result(True)

    def _failed(self, why: str) -> CvxError:
        return CvxError(
            "FunctionRunnerFailed",
            f"The Deno process that runs {self._what} did not start: {why}".rstrip(),
            kind="unavailable",
            hint="Try it by hand: python -m deno --version",
            retry_when="time",
        )

    def _started(self, starting: asyncio.Future[subprocess.Popen[bytes]]) -> None:
        if starting.cancelled() or starting.exception() is not None:
            self.dead = self.ending = True
            self._is_ready.set_result(False)
            self._leave()
            return
        self._process = process = starting.result()
        assert process.stdin is not None and process.stdout is not None
        self._stdin, self._stdout = process.stdin.fileno(), process.stdout.fileno()
        os.set_blocking(self._stdin, False)
        os.set_blocking(self._stdout, False)
        self._loop.add_reader(self._stdout, self._on_readable)
        if self.killed_for is not None:
            self.kill(self.killed_for)
        elif self._outgoing:
            self._flush()

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

    def _stop_writing(self) -> None:
        self._outgoing.clear()
        if self._unwritten:
            self._loop.remove_writer(self._stdin)
            self._unwritten.clear()

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
            self._on_data(data)
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
        """End the process now, or as soon as it has been started."""
        self.ending = True
        if self.dead:
            return  # It was not this that ended it.
        if self.killed_for is None:
            self.killed_for = cause
        if self._process is not None:
            kill_group(self._process.pid)
            self._loop.call_later(_LAST_DATA_S, self._ended)

    async def stop(self, patience_s: float, *, kill: bool) -> None:
        """Let it end by itself, for so long, or `kill` it. Returns when it is gone."""
        if self.gone is None:
            return
        if kill or self._process is None:
            self.kill("closed")
        elif not self.dead:
            self._end_input(self._process)
        await asyncio.wait({self.gone}, timeout=patience_s)
        if not self.gone.done():
            self.kill("closed")
            await asyncio.wait({self.gone})

    def _end_input(self, process: subprocess.Popen[bytes]) -> None:
        self.ending = True
        self.killed_for = self.killed_for or "closed"
        self._stop_writing()
        if process.stdin is not None:
            self._stdin = -1
            process.stdin.close()

    def _ended(self) -> None:
        if self.dead or self._process is None:
            return
        self.dead = self.ending = True
        self._loop.remove_reader(self._stdout)
        self._stop_writing()
        kill_group(self._process.pid)  # Its output has ended; nothing more can come.
        # No task: those are cancelled all at once when a loop ends, and who closes us then would wait for ever.
        self._loop.run_in_executor(None, self._process.wait).add_done_callback(lambda _: self._buried())

    def _buried(self) -> None:
        assert self._process is not None
        self._read_notes()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        if not self._is_ready.done():
            self._is_ready.set_result(False)
        try:
            self._on_end()
        finally:
            self._leave()

    def _leave(self) -> None:
        if self._notes >= 0:
            os.close(self._notes)
            self._notes = -1
        self._siblings.living.discard(self)
        assert self.gone is not None
        self.gone.set_result(None)

    def _read_notes(self) -> None:
        size = os.fstat(self._notes).st_size
        text = os.pread(self._notes, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        self.last_note = _last_note(text)
        plain = b"\n".join(line for line in text.split(b"\n") if not line.startswith(b"\x01"))
        self.last_words = plain.strip(b"\0\n ").decode("utf-8", "replace")[-8192:]

    @property
    def cause(self) -> DeathCause:
        """Why it ended, once it is gone."""
        if self.killed_for is not None:
            return self.killed_for
        return "memory" if any(words in self.last_words for words in _MEMORY_WORDS) else "crash"


class Child(Protocol):
    """What a pool keeps: more than its process."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...


_Child = TypeVar("_Child", bound=Child)


class ChildProcesses:
    """All processes of one pool, and the tasks that concern them."""

    def __init__(self) -> None:
        self.closing = False
        self.living: set[ChildProcess] = set()
        """Those that are being started, that there are, and that are not buried."""
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, _Result]) -> asyncio.Task[_Result]:
        """Start a task that `close` waits for. It must end when every process has."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def started(self, make: Callable[[], _Child], attempts_max: int) -> _Child:
        """A started child. Tries again, with pauses; raises the last failure."""
        for attempt in itertools.count(1):
            child = make()
            try:
                await child.start()
                return child
            except CvxError:
                if attempt >= attempts_max or self.closing:
                    raise
            await asyncio.sleep(_START_PAUSE_S * attempt)
        raise AssertionError

    async def close(self, children: Iterable[Child]) -> None:
        """Start nothing more; let `children` end and end all others. Returns when no process is left and no task is
        under way. Even when it is cancelled, no process goes on."""
        self.closing = True
        try:
            await asyncio.gather(*(child.close() for child in children))
        finally:
            for process in self.living:
                process.kill("closed")
            while under_way := {*self._gone(), *self._tasks}:
                await asyncio.wait(under_way)

    def _gone(self) -> list[asyncio.Future[None]]:
        return [process.gone for process in self.living if process.gone is not None]


def look_at(children: Iterable[_Looked], look: Callable[[_Looked, float], None]) -> None:
    """`look(child, now)` at each."""
    now = monotonic()
    for child in children:
        try:
            look(child, now)
        except Exception:  # edge: whatever is the matter with one, the others must be watched.
            _log.exception("A child process could not be looked at")


def kill_group(pid: int) -> None:
    """End a process that leads a group, and the group. It must not have been waited for: until then the number is its
    own."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # It has ended.


def _last_note(text: bytes) -> int | None:
    note = text.rpartition(b"\x01")[2].partition(b"\n")[0]
    return int(note) if note.isdigit() else None


def _notes_file() -> int:
    create = getattr(os, "memfd_create", None)
    if create is not None:
        return int(create("child-notes"))
    with tempfile.TemporaryFile() as file:  # Not on every system.
        return os.dup(file.fileno())
