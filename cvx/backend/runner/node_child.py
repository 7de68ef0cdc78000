"""One "use node" process, and what it takes to look at a module in it instead of running an action.

Source: reference/runtime-and-database.md §1.9, §3.8; docs/adr/0010.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import msgspec

from cvx.backend.config import Limits
from cvx.backend.runner.action_child import ActionChild, ActionProfile, Running
from cvx.backend.runner.actions import ActionCall, HttpResponseHead, StoredBlob
from cvx.backend.runner.child_process import ChildProcesses
from cvx.backend.runner.interface import LogLine, Syscall, SyscallFailure, SyscallResult
from cvx.backend.runner.node_code import NodeCode


@dataclass(frozen=True)
class NodeWorld:
    """What a process is for."""

    code: NodeCode
    environment: str
    """A digest of the variables."""


class AnalysisCall(ActionCall):
    """Not an action: look at the exports of `path.module`."""


class NodeChild(ActionChild):
    """A child of one world, with a folder for temporary files that goes when it does."""

    def __init__(
        self,
        siblings: ChildProcesses,
        world: NodeWorld,
        profile: ActionProfile,
        limits: Limits,
        temporary: Path,
    ) -> None:
        super().__init__(siblings, profile, limits)
        self.world = world
        self.temporary = temporary
        self.looked_at = monotonic()

    async def start(self) -> None:
        try:
            await super().start()
        except BaseException:
            await self.close()
            raise

    def _send_call(self, running: Running) -> None:
        call = running.call
        if isinstance(call, AnalysisCall):
            self._memory.number("env", call.env, idle=False)
            self.process.send(msgspec.json.encode(("analyze", running.id, call.path.module)))
        else:
            super()._send_call(running)

    def _patience_s(self) -> float | None:
        """One that takes no more actions may be stuck in what a former one left: others must not wait for that."""
        if self.retiring and self.running:
            return self.limits.action_turn_s
        return super()._patience_s()

    async def close(self) -> None:
        try:
            await super().close()
        finally:
            await asyncio.to_thread(shutil.rmtree, self.temporary, True)


class AnalysisHost:
    """An ActionHost for a module that is only looked at: it may log."""

    def __init__(self) -> None:
        self.lines: list[LogLine] = []

    def log(self, line: LogLine) -> None:
        self.lines.append(line)

    async def syscall(self, syscall: Syscall) -> SyscallResult:
        return _not_now()

    async def store_blob(
        self, chunks: AsyncIterator[bytes], content_type: str | None, sha256: str | None
    ) -> str | SyscallFailure:
        return _not_now()

    async def get_blob(self, storage_id: str) -> StoredBlob | SyscallFailure | None:
        return _not_now()

    def request_body(self) -> AsyncIterator[bytes]:
        raise AssertionError("a module has no request")

    async def respond(self, head: HttpResponseHead) -> None:
        raise AssertionError("a module has no response")

    async def respond_chunk(self, chunk: bytes) -> None:
        raise AssertionError("a module has no response")


def _not_now() -> SyscallFailure:
    return SyscallFailure("NoSyscallDuringImport: can't use Convex features while a module is being imported")
