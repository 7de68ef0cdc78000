"""What it means to run a function somewhere: the call, its outcome, and all that user code may ask for.

A `FunctionRunner` executes a `FunctionCall` and answers with a `FunctionOutcome`. While the function runs, the
only way out of it is its `SyscallHost`: user code can ask for nothing that is not a method there.

Rules:
- This room knows no database. Values travel as canonical Convex-JSON bytes and are never decoded here.
- `run` takes a *factory* of hosts, because a call may be started again from its beginning (another call in the
  same child process crashed it). Every attempt gets a fresh host, so a host factory must begin a fresh
  transaction. Only the host of the attempt that `run` returned for counts.
- Host methods may be plain functions or coroutine functions. Plain ones are answered without a task switch.
- An exception raised by a host method ends the call and is raised by `run` unchanged (conflicts, overload).

Source: reference/runtime-and-database.md §§1, 3, 13.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from cvx.values.paths import FunctionPath

FunctionKind = Literal["query", "mutation", "action"]
Environment = Literal["isolate", "node"]
FailureKind = Literal["user", "timeout", "memory", "developer", "crash", "system"]
LogLevel = Literal["DEBUG", "INFO", "LOG", "WARN", "ERROR"]


@dataclass(frozen=True)
class ModuleSource:
    """One pushed module: `path` as pushed (`messages.js`, `_deps/ABC.js`), its ESM text, its source map."""

    path: str
    sha256: str
    source: bytes
    source_map: bytes | None
    environment: str


@dataclass(frozen=True)
class CodeBundle:
    """The modules one component has at one push. Equal `key` means equal modules; children cache by it. `packages`
    are what "use node" modules import that is not among the modules: names and versions from npm's registry."""

    key: str
    modules: Mapping[str, ModuleSource]
    packages: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class FunctionCall:
    """One execution: which function, with which argument object, seeing which clock, seed and environment.

    `args_json` is one encoded object; the runner wraps it in the array that the npm package expects. `tables`
    maps the table names user code may name in `normalizeId` (virtual ones included) to their numbers, until a
    syscall's result says `TablesChanged`.
    The mappings must not change once passed.
    `snapshot_ts` is in nanoseconds, `now_ms` and `import_phase_ms` in milliseconds since the epoch. `seed` and
    `import_seed` are 32 bytes. `deadline_ms` counts user time only: the clock stands while the host works.

    Up to `early_writes_max` writes without a result (patch, replace, delete) may be outstanding that user code was
    told are done before the host was asked. The host is asked in the same order as ever; when it refuses one, or does
    not answer at once, the attempt is thrown away and the call runs again, with none. So the host of a thrown-away
    attempt must leave nothing behind: only a call that has a transaction to itself may have any.
    """

    bundle: CodeBundle
    path: FunctionPath
    kind: FunctionKind
    args_json: bytes
    now_ms: float
    seed: bytes
    env: Mapping[str, str]
    tables: Mapping[str, int]
    snapshot_ts: int
    import_phase_ms: float
    import_seed: bytes
    deadline_ms: float = 1000.0
    component_args: bytes | None = None
    early_writes_max: int = 0


@dataclass(frozen=True)
class LogLine:
    """One console call. `timestamp_ms` is real time; each message is one rendered argument."""

    level: LogLevel
    messages: tuple[str, ...]
    is_truncated: bool
    timestamp_ms: float
    system_code: str | None = None


@dataclass(frozen=True)
class FunctionFailure:
    """Why there is no value. `message` is `Uncaught Error: x`; `frames` is zero or more `    at …\\n` lines.

    `data_json` is the encoded payload of a ConvexError. Kinds: `user` threw; `timeout` and `memory` are limits;
    `developer` cannot be caught by user code (nor can limits); `crash` means the child died for no known
    reason; `system` is ours.
    """

    message: str
    frames: str = ""
    data_json: bytes | None = None
    kind: FailureKind = "user"


@dataclass(frozen=True)
class FunctionOutcome:
    """What became of a call. Exactly one of `value_json` and `error` is set.

    `modules` are the module paths the call imported (its own and shared chunks): its code dependencies.
    `observed_tables`: it asked which tables there are (`normalizeId`).
    """

    value_json: bytes | None
    error: FunctionFailure | None
    log_lines: list[LogLine]
    observed_time: bool = False
    observed_random: bool = False
    env_read: frozenset[str] = frozenset()
    user_time_ms: float = 0.0
    modules: frozenset[str] = frozenset()
    observed_tables: bool = False


@dataclass(frozen=True)
class Syscall:
    """One asynchronous syscall as the npm package issued it: `1.0/get` and its JSON arguments.

    `logged` is how many console lines the function had written by then: where those of a nested call belong.
    """

    op: str
    args: bytes
    logged: int = 0


@dataclass(frozen=True)
class SyscallFailure:
    """A syscall that failed. Caught by user code as an Error with `message` (a ConvexError when `data_json`
    is given), unless `fatal`: then the whole call ends with `message` and `kind`."""

    message: str
    data_json: bytes | None = None
    fatal: bool = False
    kind: FailureKind = "system"


@dataclass(frozen=True)
class TablesChanged:
    """The result of a syscall after which there are other `tables` than the function was told of so far."""

    result: bytes
    tables: Mapping[str, int]


SyscallResult = bytes | TablesChanged | SyscallFailure
"""Raw JSON text for user code, or a failure."""


@dataclass(frozen=True)
class QueryPage:
    """The next documents of a streamed query, as JSON texts. `done`: there are no more. May be fewer than asked
    for, but not empty unless `done`."""

    documents: list[bytes]
    done: bool


class SyscallHost(Protocol):
    """Everything a running function may ask for. Each method may also be a plain function (see module text)."""

    def syscalls(self, batch: list[Syscall]) -> Awaitable[list[SyscallResult]] | list[SyscallResult]:
        """Answer asynchronous syscalls, strictly in order; one result each."""
        ...

    def next_page(
        self, query_id: int, query_json: bytes | None, want: int
    ) -> Awaitable[QueryPage | SyscallFailure] | QueryPage | SyscallFailure:
        """Up to `want` further documents of a query. `query_json` is on the first page only: the arguments of
        `1.0/queryStream`, an object with the member `query`. This reads ahead of user code: see `consumed`."""
        ...

    def consumed(self, query_id: int, count: int, reached_end: bool) -> None:
        """User code has really seen `count` documents of this query in total, and its end if `reached_end`.

        Told once for each query, when user code is through with it or at the end of the call, before `run`
        returns; the read set and the usage counts must not hold more than that. Never a coroutine.
        """
        ...


class FunctionRunner(Protocol):
    """Runs functions somewhere. `start` before use, `close` at the end; both may be called once."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def run(self, call: FunctionCall, host_factory: Callable[[], SyscallHost]) -> FunctionOutcome:
        """Run to the end. User failures are outcomes; exceptions are the host's own, passed through."""
        ...

    async def analyze(self, request: AnalyzeRequest) -> AnalyzeResult:
        """Import modules as at a push and say what they export (§1.9). Failures are data."""
        ...


@dataclass(frozen=True)
class AnalyzeRequest:
    """Modules to analyse at a push. `bundle` holds everything importable; `paths` are the entry points.

    `schema_path`, `auth_config_path` and `definition_path` name modules (in `bundle`) that are evaluated for
    their one value instead of being listed. `schema_path` is evaluated without environment variables.
    """

    bundle: CodeBundle
    paths: tuple[str, ...]
    env: Mapping[str, str]
    import_phase_ms: float
    import_seed: bytes
    schema_path: str | None = None
    auth_config_path: str | None = None
    definition_path: str | None = None
    deadline_ms: float = 4000.0


@dataclass(frozen=True)
class SourcePosition:
    """Where a function is written, 1-based line and column, after source maps."""

    path: str
    start_line: int
    start_column: int


@dataclass(frozen=True)
class AnalyzedFunction:
    """One exported function. Validators are the npm package's JSON texts, None when not exported."""

    name: str
    kind: FunctionKind
    visibility: Literal["public", "internal"] | None
    args_json: str | None
    returns_json: str | None
    position: SourcePosition | None


@dataclass(frozen=True)
class AnalyzedRoute:
    """One HTTP route; `path` ends in `*` for a prefix route."""

    path: str
    method: str
    position: SourcePosition | None = None


@dataclass(frozen=True)
class AnalyzedModule:
    """What one module exports. `routes` only for `http.js`; `crons_json` only for `crons.js`: the text of
    its `export()`, an object from identifier to `{name, args, schedule}`."""

    path: str
    functions: tuple[AnalyzedFunction, ...]
    routes: tuple[AnalyzedRoute, ...] | None = None
    crons_json: str | None = None
    source_index: int | None = None
    reuse_context: bool = False


@dataclass(frozen=True)
class AnalyzeFailure:
    """A module that could not be analysed. `message` is complete: `Failed to analyze messages.js: …`."""

    path: str
    message: str
    code: str = "InvalidModules"


@dataclass(frozen=True)
class AnalyzeResult:
    """`modules` by path. `schema_json` and `definition_json` are what `export()` gave, `auth_config_json` the
    default export as JSON; each None when not asked for. With any failure the push must be refused."""

    modules: Mapping[str, AnalyzedModule] = field(default_factory=dict)
    schema_json: str | None = None
    auth_config_json: str | None = None
    definition_json: str | None = None
    env_read: frozenset[str] = frozenset()
    failures: tuple[AnalyzeFailure, ...] = ()
