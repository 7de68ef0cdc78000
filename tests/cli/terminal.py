"""A command on a real (pseudo) terminal: what a person sees, what they type."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import time
from pathlib import Path

from tests.cli.command_line import CVX, environment

_TICKS_S = os.sysconf("SC_CLK_TCK")


class Terminal:
    """`with Terminal([...], cwd) as screen`: the command's three streams are one terminal."""

    def __init__(self, words: list[str], cwd: Path, env: dict[str, str] | None = None) -> None:
        self._end, inner = pty.openpty()
        self.text = ""
        self.process = subprocess.Popen(
            [*CVX, *words],
            cwd=cwd,
            env=environment(TERM="xterm", NO_COLOR="1") | (env or {}),
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
        )
        os.close(inner)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(60)
        os.close(self._end)

    def read(self) -> str:
        """What comes next; empty at the end."""
        try:
            piece = os.read(self._end, 65_536).decode(errors="replace")
        except OSError:  # The terminal's other end is closed.
            return ""
        self.text += piece
        return piece

    def wait_for(self, text: str, deadline_s: float = 60) -> None:
        end = time.monotonic() + deadline_s
        while text not in self.text:
            assert time.monotonic() < end and self.read(), f"{text!r} was not shown:\n{self.text}"

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def ended(self) -> int:
        """Read to the end; the exit code."""
        while self.read():
            pass
        return self.process.wait(60)

    def processor_s(self) -> float:
        """Processor time of the command so far, which other programs on the machine hardly stretch."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_S

    def interrupt(self) -> float:
        """Ctrl-C; the seconds until it has ended with 130."""
        begin = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGINT)
        assert self.ended() == 130, self.text
        return time.monotonic() - begin
