"""Running mutations until they commit.

The first attempt runs freely, unless earlier calls like it kept conflicting. After a conflict the next one waits
for its turn on what it conflicted on (database/contention.py), so a hot row makes mutations run one after the
other and never makes one fail.

Source: design.md §5.2, §11.10; reference/runtime-and-database.md §4.2; values-and-sync.md §4.6.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cvx.backend.auth import Identity
from cvx.backend.database import ConflictKey, Database, Snapshot, Transaction
from cvx.backend.functions.calls import Call, RequestMetadata
from cvx.backend.functions.checks import check_args, check_callable, parse_args
from cvx.backend.functions.conflict_memory import ConflictMemory
from cvx.backend.functions.execution import Execution
from cvx.backend.functions.file_storage import FileUse
from cvx.backend.functions.function_log import Conflict
from cvx.backend.functions.results import FunctionError, LoggedLine, MutationResult
from cvx.backend.model import session_requests
from cvx.backend.model.scheduled_jobs import JobRef
from cvx.errors import ConflictError, CvxError
from cvx.values import FunctionPath, Timestamp

Session = tuple[str, int]
"""A socket's session id and the request's number in it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from, as far as HTTP tells, and for which job: `ctx.meta.getRequestMetadata()`."""

    ip: str | None = None
    user_agent: str | None = None
    scheduled_job: JobRef | None = None


UNKNOWN_ORIGIN = Origin()


class Errand(Protocol):
    """What a mutation does besides running, in its own transaction: the bookkeeping of who had it run."""

    def begin(self, tx: Transaction) -> None:
        """Before each attempt. Raises ErrandOver when there is nothing to run any more."""
        ...

    def end(self, tx: Transaction, value_json: bytes, lines: Sequence[LoggedLine]) -> None:
        """After the function returned, before the commit."""
        ...


class ErrandOver(Exception):
    """The mutation is not to run: what it was to run for has been canceled, or done."""


@dataclass(slots=True)
class _Attempt:
    """What one run came to."""

    tx: Transaction
    started: float
    files: FileUse
    value_json: bytes | None = None
    error: FunctionError | None = None
    lines: list[LoggedLine] = field(default_factory=list)
    user_ms: float = 0.0
    ts: Timestamp | None = None


@dataclass(slots=True)
class MutationRequest:
    """Who wants what done, and how often it had to be tried so far."""

    path: FunctionPath
    args_json: bytes
    identity: Identity
    session: Session | None
    caller: str
    public: bool
    request_id: str
    on_commit: Callable[[Timestamp], object] = lambda ts: None
    origin: Origin = UNKNOWN_ORIGIN
    parent_execution_id: str | None = None
    """The action that runs it, if one does."""
    errand: Errand | None = None
    args: dict[str, Any] = field(default_factory=dict)
    refusal: CvxError | None = None
    """What is wrong with the arguments, if they are none."""
    conflicts: int = 0
    expired: int = 0
    conflict_keys: set[ConflictKey] = field(default_factory=set)
    attempt: _Attempt | None = None
    """The latest one."""


class MutationRunner:
    """All mutations of a deployment."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._services = execution.services
        self._db: Database = execution.services.db
        self._limits = execution.services.limits
        self._memory = ConflictMemory(self._limits.conflict_hints_max)

    async def mutation(self, request: MutationRequest) -> MutationResult:
        """Run it once and commit it; returns when what it says is on disk."""
        result, durable_ts = await self._until_committed(request)
        # An error, too, may tell of commits that are not on disk yet.
        await self._db.durable(durable_ts)
        return result

    async def _until_committed(self, request: MutationRequest) -> tuple[MutationResult, Timestamp]:
        try:
            request.args, request.args_json = parse_args(request.path, request.args_json, self._limits)
            request.conflict_keys = self._memory.expect(request.path, request.args)
        except CvxError as refusal:
            request.refusal = refusal
        while True:
            started = time.perf_counter()
            try:
                if not request.conflict_keys and not request.conflicts:
                    return await self._attempt(request, started)
                conflicts = max(1, request.conflicts)
                async with self._db.turn(request.conflict_keys, conflicts=conflicts):
                    return await self._attempt(request, started)
            except ConflictError as conflict:
                request.conflicts += 1
                runs_again = request.conflicts < self._limits.mutation_attempts_max
                self._record_conflict(request, conflict, started, runs_again=runs_again)
                if not runs_again:
                    raise
                keys = conflict.details["conflict_keys"]
                request.conflict_keys.update(keys)
                self._memory.learn(request.path, request.args, keys)
            except CvxError as error:
                # It took so long to get a place to run that its snapshot is gone: nothing is decided yet.
                request.expired += 1
                if error.kind != "out_of_retention" or request.expired >= self._limits.snapshot_attempts_max:
                    raise

    async def _attempt(self, request: MutationRequest, started: float) -> tuple[MutationResult, Timestamp]:
        """One run and its commit. The timestamp is what must be durable before anybody hears of the result."""
        with self._db.snapshot() as snapshot:
            files = self._services.files.use()
            attempt = request.attempt = _Attempt(self._begin(request, snapshot), started, files)
            if request.session is not None:
                answer = session_requests.lookup(attempt.tx, *request.session)
                if answer is not None:
                    return self._replayed(request, answer), snapshot.ts
            try:
                if request.errand is not None:
                    request.errand.begin(attempt.tx)
                await self._run(request, attempt, snapshot)
            except CvxError as refusal:
                attempt.value_json, attempt.error = None, self._execution.refusal(refusal)
            finally:
                attempt.tx.close()
                files.reservation.release()  # Committed or not: that is settled now.
        self._record(request, attempt)
        texts = self._execution.texts(attempt.lines)
        result = MutationResult(attempt.ts, attempt.value_json, attempt.error, texts, request.request_id)
        return result, snapshot.ts if attempt.ts is None else attempt.ts

    async def _run(self, request: MutationRequest, attempt: _Attempt, snapshot: Snapshot) -> None:
        """Run the function in `attempt.tx` and commit that; raises CvxError when it is refused."""
        path, identity = request.path, request.identity
        if request.refusal is not None:
            raise request.refusal
        args, args_json = request.args, request.args_json
        registry = self._services.code(snapshot, path.component)
        registry.depend_on(attempt.tx.reads, (path.module,))
        function = check_callable(
            None if path.is_system else registry.find(path),
            path,
            "mutation",
            public=request.public,
            internal_allowed=identity.is_admin,
        )
        check_args(function, args, args_json, snapshot.catalog.table_names(path.component), self._limits)
        # A fresh seed for every attempt.
        origin = request.origin
        metadata = RequestMetadata(request.request_id, origin.ip, origin.user_agent, origin.scheduled_job)
        call = Call(self._services, attempt.tx, identity, os.urandom(32), metadata, files=attempt.files)

        def begin_again() -> Transaction:
            tx = self._begin(request, snapshot)
            if request.session is not None:
                session_requests.lookup(tx, *request.session)  # For its ReadSet.
            if request.errand is not None:
                request.errand.begin(tx)
            return tx

        call, outcome = await self._execution.run(call, function, registry, args_json, begin_again)
        tx = attempt.tx = call.tx
        attempt.lines = self._execution.lines(call, outcome)
        attempt.user_ms = call.user_time_ms
        attempt.value_json, attempt.error = self._execution.result(function, outcome, tx)
        if attempt.value_json is None:
            return
        if request.session is not None:
            texts = [line.pretty() for line in attempt.lines]
            session_requests.record(tx, *request.session, attempt.value_json, texts)
        if request.errand is not None:
            request.errand.end(tx, attempt.value_json, attempt.lines)
        attempt.ts = await self._db.commit(tx, request.on_commit)

    def _begin(self, request: MutationRequest, snapshot: Snapshot) -> Transaction:
        path = request.path
        return self._db.begin(
            request.identity, snapshot=snapshot, write_source=path.udf_path, component=path.component
        )

    def _replayed(self, request: MutationRequest, answer: session_requests.RecordedAnswer) -> MutationResult:
        request.on_commit(answer.ts)
        lines = [] if self._execution.redacted else answer.log_lines
        return MutationResult(answer.ts, answer.value_json, None, lines, request.request_id)

    # ----------------------------------------------------------------------------------------------- log

    def _record(self, request: MutationRequest, attempt: _Attempt) -> None:
        self._execution.record(
            request.path,
            "mutation",
            caller=request.caller,
            identity=request.identity,
            request_id=request.request_id,
            parent_execution_id=request.parent_execution_id,
            started=attempt.started,
            user_ms=attempt.user_ms,
            lines=attempt.lines,
            error=attempt.error,
            value_json=attempt.value_json,
            usage=attempt.tx.usage,
        )

    def _record_conflict(
        self, request: MutationRequest, error: ConflictError, started: float, *, runs_again: bool
    ) -> None:
        details, attempt = error.details, request.attempt
        ran = attempt is not None and attempt.started == started
        self._execution.record(
            request.path,
            "mutation",
            caller=request.caller,
            identity=request.identity,
            request_id=request.request_id,
            parent_execution_id=request.parent_execution_id,
            started=started,
            user_ms=attempt.user_ms if attempt is not None and ran else 0.0,
            lines=attempt.lines if attempt is not None and ran else (),
            usage=attempt.tx.usage if attempt is not None and ran else None,
            error=FunctionError(error.message + "\n"),
            conflict=Conflict(
                details.get("table"),
                details.get("document_id"),
                details.get("write_source") or None,  # Unknown while another one only has its turn.
                request.conflicts,
                runs_again,
            ),
        )
