"""What it means to run an action or an HTTP action: the call, its host, its outcome.

Unlike a query or a mutation, an action has a live clock, real randomness, timers and `fetch`, and no transaction: each
thing it asks for is its own, and many may be under way at once, in any order. An HTTP action is an action that is
given a request and answers with a response; both bodies are streams.

Rules:
- As in `interface`: this room knows no database, values travel as canonical Convex-JSON bytes, and user code can ask
  for nothing that is not a method of `ActionHost`.
- An action runs at most once. Nothing here ever starts one again.
- Cancelling the task that awaits `run_action` cancels the action (an HTTP action sees `request.signal` abort).

Source: reference/runtime-and-database.md §§1.4, 1.5, 3, 11.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cvx.backend.runner.interface import (
    CodeBundle,
    Environment,
    FunctionFailure,
    LogLine,
    Syscall,
    SyscallFailure,
    SyscallResult,
)

if TYPE_CHECKING:
    from cvx.values.paths import FunctionPath

HeaderPairs = tuple[tuple[str, str], ...]
"""Header names and values in their order; names in lower case, repeated names repeated."""


@dataclass(frozen=True)
class HttpRequestHead:
    """What an HTTP action is given before its body. `url` is absolute; `path`, if it is another than that of the URL, is
    the one to find the route by. The body is `ActionHost.request_body`."""

    method: str
    url: str
    headers: HeaderPairs
    has_body: bool
    path: str | None = None


@dataclass(frozen=True)
class HttpResponseHead:
    """What an HTTP action answers before its body. `status` is 200 to 599, as `Response` has it."""

    status: int
    headers: HeaderPairs
    has_body: bool


@dataclass(frozen=True)
class ActionCall:
    """One action. `args_json` is one encoded object (empty for an HTTP action, which has `request` instead).

    `deadline_s` is wall-clock time. `request_id` is threaded through the npm package into the syscalls. The clock and
    the seed of the import phase are what module bodies see, as in a `FunctionCall`.
    """

    bundle: CodeBundle
    path: FunctionPath
    args_json: bytes
    env: Mapping[str, str]
    request_id: str
    deadline_s: float
    import_phase_ms: float
    import_seed: bytes
    environment: Environment = "isolate"
    component_args: bytes | None = None
    request: HttpRequestHead | None = None


@dataclass(frozen=True)
class ActionOutcome:
    """What became of an action. Exactly one of `value_json` and `error` is set, but for an HTTP action that ended
    well, which has neither: its answer went to the host. Log lines went to the host as they came."""

    value_json: bytes | None
    error: FunctionFailure | None
    user_time_ms: float = 0.0
    memory_used_bytes: int = 0


class StoredBlob(Protocol):
    """The bytes of one stored file, to be read once."""

    @property
    def size(self) -> int: ...

    @property
    def content_type(self) -> str | None: ...

    def chunks(self) -> AsyncIterator[bytes]: ...


class ActionHost(Protocol):
    """Everything a running action may ask for. Several calls may be under way at the same time."""

    async def syscall(self, syscall: Syscall) -> SyscallResult:
        """Answer one asynchronous syscall (§1.4). How many run at once is the host's business."""
        ...

    def log(self, line: LogLine) -> None:
        """A console line, as it is written."""
        ...

    async def store_blob(
        self, chunks: AsyncIterator[bytes], content_type: str | None, sha256: str | None
    ) -> str | SyscallFailure:
        """`ctx.storage.store`: the new storage id."""
        ...

    async def get_blob(self, storage_id: str) -> StoredBlob | SyscallFailure | None:
        """`ctx.storage.get`."""
        ...

    def request_body(self) -> AsyncIterator[bytes]:
        """The body of the request, for an HTTP action. Read once."""
        ...

    async def respond(self, head: HttpResponseHead) -> None:
        """The head of the response, once, before any `respond_chunk`."""
        ...

    async def respond_chunk(self, chunk: bytes) -> None:
        """The next part of the response's body. The next is sent when this returns (back-pressure). Raising ends
        the action: nobody reads any more."""
        ...


class ActionRunner(Protocol):
    """Runs actions of one environment somewhere. `start` before use, `close` at the end."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def run_action(self, call: ActionCall, host: ActionHost) -> ActionOutcome:
        """Run to the end. User failures, time limits and crashes are outcomes; exceptions are the host's own."""
        ...
