"""One call and everything it runs inside its transaction.

A `Call` is what a function and the functions it runs share: one transaction, one clock, one caller, and notes of
what was looked at (time, randomness, identity, code, environment), which decide how long a result may be kept.

Rule: a `Call` lives for one attempt. A retry, or a restart by the runner, makes a new one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cvx.backend.auth import Identity, TokenSigner
from cvx.backend.config import Limits
from cvx.backend.database import Catalog, Database, Snapshot, Transaction
from cvx.backend.functions.components import ComponentTree
from cvx.backend.functions.environment import EnvironmentSnapshot
from cvx.backend.functions.file_storage import FileStorage, FileUse
from cvx.backend.functions.function_log import overflow_line
from cvx.backend.functions.module_loader import FunctionRegistry, LoadedFunction
from cvx.backend.functions.results import LoggedLine
from cvx.backend.model.deployment import DeploymentInfo
from cvx.backend.model.scheduled_jobs import JobRef
from cvx.backend.runner import (
    ActionRunner,
    Environment,
    FunctionCall,
    FunctionOutcome,
    FunctionRunner,
    LogLine,
    SyscallHost,
)
from cvx.values import encode_key, prefix_range

NestedLines = tuple[int, list[LoggedLine]]
"""How many lines a function had written when it ran another one, and all that one's lines."""


@dataclass(frozen=True, slots=True)
class RequestMetadata:
    """Who asked, over what: `ctx.meta.getRequestMetadata()` in mutations and actions."""

    request_id: str
    ip: str | None = None
    user_agent: str | None = None
    scheduled_job: JobRef | None = None
    """The job it happens for, directly or because the job's action runs this."""


@dataclass(frozen=True)
class Services:
    """What every call needs and none owns."""

    db: Database
    runner: FunctionRunner
    limits: Limits
    code: Callable[[Snapshot, str], FunctionRegistry]
    components: Callable[[Snapshot], ComponentTree]
    environment: Callable[[Snapshot, str], EnvironmentSnapshot]
    """Of a component, at a snapshot."""
    deployment: DeploymentInfo
    files: FileStorage
    actions: Mapping[Environment, ActionRunner]
    signer: TokenSigner
    _numbers: dict[str, tuple[Catalog, Mapping[str, int]]] = field(default_factory=dict)

    def table_numbers(self, catalog: Catalog, component: str) -> Mapping[str, int]:
        """The table names that user code may spell, with their numbers: one object for as long as they hold."""
        known = self._numbers.get(component)
        if known is None or known[0] is not catalog:
            known = self._numbers[component] = (catalog, catalog.numbers(component))
        return known[1]


class Call:
    """One attempt of one call from outside. `tx` is replaced when the runner starts the attempt again."""

    __slots__ = (
        "environment",
        "files",
        "identity",
        "journal_end",
        "journal_next",
        "nested_calls",
        "nested_lines",
        "observed_identity",
        "observed_time",
        "request",
        "seed",
        "services",
        "tx",
        "user_time_ms",
    )

    def __init__(
        self,
        services: Services,
        tx: Transaction,
        identity: Identity,
        seed: bytes,
        request: RequestMetadata,
        journal_end: str | None = None,
        files: FileUse | None = None,
    ) -> None:
        self.services = services
        self.tx = tx
        self.identity = identity
        self.seed = seed
        self.request = request
        self.environment = services.environment(tx.snapshot, "")
        self.files = files  # Of mutations.
        self.journal_end = journal_end
        self.journal_next: str | None = None
        self.observed_identity = False
        self.observed_time = False
        self.nested_calls = 0
        self.nested_lines: list[NestedLines] = []
        self.user_time_ms = 0.0

    def registry(self, component: str) -> FunctionRegistry:
        return self.services.code(self.tx.snapshot, component)

    def environment_of(self, component: str) -> EnvironmentSnapshot:
        return self.services.environment(self.tx.snapshot, component) if component else self.environment

    def next_seed(self) -> bytes:
        """A seed for the next nested function: a function of this call's own seed, as its results must be."""
        self.nested_calls += 1
        return hashlib.sha256(self.seed + self.nested_calls.to_bytes(4, "big")).digest()

    def beside(self) -> Call:
        """A call at the same snapshot in a transaction of its own, which sees none of this one's writes."""
        tx = self.services.db.begin(self.identity, snapshot=self.tx.snapshot, read_only=True)
        return Call(self.services, tx, self.identity, self.next_seed(), self.request)

    def take_notes_of(self, other: Call) -> None:
        """After a function ran in `other`: what it observed counts as observed by this call."""
        if other is self:
            return
        self.observed_identity |= other.observed_identity
        self.observed_time |= other.observed_time

    def absorb(self, outcome: FunctionOutcome, registry: FunctionRegistry) -> None:
        """Take over what a function looked at besides the database."""
        reads = self.tx.reads
        registry.depend_on(reads, outcome.modules)
        if outcome.env_read:
            self.environment_of(registry.component).depend_on(reads, outcome.env_read)
        if outcome.observed_tables:
            depend_on_table_names(self.tx, registry.component)
        if outcome.observed_time:
            self.observed_time = True
        self.user_time_ms += outcome.user_time_ms


def depend_on_table_names(tx: Transaction, component: str) -> None:
    """Note that a result rests on which tables there are."""
    tx.note_read("_tables", "by_name", prefix_range(encode_key([component])), privileged=True)


def begin_ms(tx: Transaction) -> float:
    """What `Date.now()` says in a transaction: whole milliseconds."""
    return float(tx.begin_time // 1_000_000)


async def run_function(
    services: Services,
    function: LoadedFunction,
    registry: FunctionRegistry,
    args_json: bytes,
    seed: bytes,
    environment: EnvironmentSnapshot,
    tx: Transaction,
    host_factory: Callable[[], SyscallHost],
    *,
    early_writes_max: int = 0,
) -> FunctionOutcome:
    """Run one function to its end on the runner. Early writes are for functions whose transaction is theirs alone."""
    snapshot = tx.snapshot
    call = FunctionCall(
        bundle=registry.bundle,
        path=function.path,
        kind=function.kind,
        args_json=args_json,
        now_ms=begin_ms(tx),
        seed=seed,
        env=environment.variables,
        tables=services.table_numbers(tx.catalog, registry.component),
        snapshot_ts=snapshot.ts,
        import_phase_ms=environment.import_phase_ms,
        import_seed=environment.import_seed,
        deadline_ms=services.limits.function_user_time_s * 1000.0,
        component_args=b"{}" if registry.component else None,
        early_writes_max=early_writes_max,
    )
    return await services.runner.run(call, host_factory)


def in_order(nested: Iterable[NestedLines], own: Sequence[LoggedLine]) -> list[LoggedLine]:
    """A function's lines and those of the functions it ran, in the order in which they were written."""
    lines: list[LoggedLine] = []
    at = 0
    for before, inner in nested:
        lines += own[at:before]
        lines += inner
        at = max(at, before)
    return [*lines, *own[at:]]


def merged_lines(nested: Iterable[NestedLines], own: Iterable[LogLine], limit: int) -> list[LoggedLine]:
    """All log lines of a call in their order, cut at the documented number of lines."""
    lines = in_order(nested, [LoggedLine(line) for line in own])
    if len(lines) > limit:
        lines[limit - 1 :] = [LoggedLine(overflow_line(limit, lines[limit - 1].line))]
    return lines
