"""Free ports, and who has the others.

Source of the numbers: reference/cli-and-deploy.md §1.5 (first free from 3210, the site's port is the next).
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from cvx.errors import CvxError

LOOPBACK = "127.0.0.1"
PORT_TRIES = 200


def is_free(port: int) -> bool:
    """Can a server listen on this port now?"""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if sys.platform != "win32":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_pair(first: int, *, avoid: Iterable[int] = ()) -> tuple[int, int]:
    """The first two neighbouring ports from `first` on which nobody listens. Raises `NoFreePort`."""
    avoided = set(avoid)
    for port in range(first, min(first + PORT_TRIES * 2, 65_534), 2):
        pair = (port, port + 1)
        if not avoided.intersection(pair) and all(is_free(candidate) for candidate in pair):
            return pair
    raise CvxError(
        "NoFreePort",
        f"No two free ports between {first} and {first + PORT_TRIES * 2}.",
        kind="unavailable",
        hint="Pass --port N with a free one.",
    )


def holder(port: int) -> str:
    """What listens on a port, for people: `vite (pid 4711)`; "another program" when we may not look."""
    found = _holder_linux(port) if Path("/proc/net/tcp").exists() else _holder_lsof(port)
    return found or "another program"


def _holder_linux(port: int) -> str | None:
    inodes = {inode for table in ("tcp", "tcp6") for inode in _listening_inodes(table, port)}
    if not inodes:
        return None
    targets = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        if targets.intersection(_links(process / "fd")):
            with suppress(OSError):
                words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
                return f"{_program(words)} (pid {process.name})"
    return None


def _links(folder: Path) -> set[str]:
    """What the descriptors of a process point at; those of others, or closed meanwhile, are left out."""
    found: set[str] = set()
    with suppress(OSError):
        for link in folder.iterdir():
            with suppress(OSError):
                found.add(str(link.readlink()))
    return found


def _listening_inodes(table: str, port: int) -> list[str]:
    try:
        lines = Path("/proc/net", table).read_text("ascii").splitlines()[1:]
    except OSError:
        return []
    found = []
    for line in lines:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
            found.append(fields[9])
    return found


def _program(words: list[str]) -> str:
    """A short name for a command line: `python -m cvx backend serve` rather than the interpreter's path."""
    name = Path(words[0]).name if words and words[0] else "a program"
    rest = [word for word in words[1:6] if word and not word.startswith("--")]
    shown = [Path(word).name if "/" in word else word for word in rest[:4]]
    return " ".join([name, *shown])[:80]


def _holder_lsof(port: int) -> str | None:
    try:
        answer = subprocess.run(
            ["lsof", "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc"],
            capture_output=True,
            text=True,
            timeout=3,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    fields = {line[0]: line[1:] for line in answer.stdout.splitlines() if line}
    return f"{fields['c']} (pid {fields['p']})" if "c" in fields and "p" in fields else None
