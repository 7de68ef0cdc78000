"""A function call from path and arguments to a result.

One way for everybody: sockets, HTTP, the command line. A query runs on a snapshot and ends in the cache; a
mutation runs in a transaction that is committed, or run again when something it read has changed, first by
chance and then in turn, so that it gets through under any contention.

Rules:
- A mutation is answered when it is durable. A query's entry may rest on commits that are not yet: whoever sends
  it out first awaits `db.durable(entry.ts)`.
- What is wrong with a call (unknown function, bad arguments, its own exception) is a result. A CvxError raised
  from here is about the system, or about an identity that may not do this.

Source: design.md §5.2; reference/runtime-and-database.md §1.8, §4, §5.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

from cvx.backend.auth import Admin, Identity, identity_type, read_only_key
from cvx.backend.config import Limits
from cvx.backend.database import Database, Snapshot, Transaction
from cvx.backend.functions import system_cli  # noqa: F401 (its functions register themselves)
from cvx.backend.functions.calls import Call, RequestMetadata, Services, begin_ms, merged_lines, run_function
from cvx.backend.functions.checks import check_args, check_callable, check_result, not_found, parse_args
from cvx.backend.functions.derived import Derived
from cvx.backend.functions.environment import load_environment
from cvx.backend.functions.function_log import Conflict, FinishedCall, FunctionLog
from cvx.backend.functions.module_loader import FunctionRegistry, LoadedFunction, TextCache
from cvx.backend.functions.query_cache import QueryCache, QueryEntry, QueryKey
from cvx.backend.functions.results import (
    ActionResult,
    CallResult,
    FunctionError,
    LoggedLine,
    MutationResult,
    error_of,
    error_of_cvx,
    fingerprint,
    new_request_id,
    session_request_id,
)
from cvx.backend.functions.syscalls import FunctionHost
from cvx.backend.functions.system_functions import SystemContext, find_system_function
from cvx.backend.functions.test_query import run_test_query
from cvx.backend.functions.warnings import near_limits
from cvx.backend.model import session_requests
from cvx.backend.model.deployment import DeploymentInfo
from cvx.backend.runner import FunctionOutcome, FunctionRunner, SyscallHost
from cvx.errors import DETERMINISTIC_KINDS, ConflictError, CvxError
from cvx.values import FunctionPath, Timestamp, encode

Session = tuple[str, int]
"""A socket's session id and the request's number in it."""


class FunctionExecutor:
    """Runs the functions of one deployment. `close` when done; `db` and `runner` are the caller's to close."""

    def __init__(
        self,
        db: Database,
        runner: FunctionRunner,
        deployment: DeploymentInfo,
        limits: Limits,
        *,
        redacted: bool = False,
    ) -> None:
        self._db = db
        self._limits = limits
        self._redacted = redacted
        self.log = FunctionLog(limits.function_log_entries_max, time.time)
        self.cache = QueryCache(db, limits.query_cache_bytes_max)
        self._texts = TextCache()
        self._code: dict[str, Derived[FunctionRegistry]] = {}
        self._environment = Derived(db, lambda tx: load_environment(tx, deployment))
        self._services = Services(
            db=db,
            runner=runner,
            limits=limits,
            code=self.registry,
            environment=self._environment.at,
            deployment=deployment,
        )

    def close(self) -> None:
        self._environment.close()
        for code in self._code.values():
            code.close()

    def registry(self, snapshot: Snapshot, component: str = "") -> FunctionRegistry:
        """The code of a component at a snapshot."""
        code = self._code.get(component)
        if code is None:
            code = self._code[component] = Derived(self._db, lambda tx: self._texts.load(tx, component))
        return code.at(snapshot)

    # ------------------------------------------------------------------------------------------- queries

    async def query(
        self,
        path: FunctionPath | str,
        args_json: bytes,
        identity: Identity,
        *,
        snapshot: Snapshot | None = None,
        journal: str | None = None,
        caller: str,
        public: bool = True,
        component: str = "",
        request_id: str | None = None,
    ) -> QueryEntry:
        """The result of a query at `snapshot` (None: now), from the cache when it holds there.

        The entry must not leave the process before `db.durable(entry.ts)`. Raises CvxError for trouble of the
        system, and `BadConvexFunctionIdentifier` for a path that is none.
        """
        if isinstance(path, str):
            path = FunctionPath.parse(path, component)
        started = time.perf_counter()
        ts = self._db.latest_ts if snapshot is None else snapshot.ts
        try:
            args, canonical = parse_args(path, args_json, self._limits)
        except CvxError as error:
            return self._refused_query(path, error, ts, identity, caller, request_id)
        key = QueryKey(path, canonical, journal, not public or identity.is_admin)
        identity_key = identity.cache_key()
        loop = asyncio.get_running_loop()
        while True:
            entry = self.cache.find(key, identity_key, ts, loop.time())
            if entry is not None:
                self._log_cached(path, entry, identity, caller, request_id, started)
                return entry
            running = self.cache.running(key, identity_key, ts)
            if running is None:
                break
            entry = await asyncio.shield(running.done)  # Ours to wait for, not to cancel.
            if entry is not None and entry.valid_at(ts) and entry.identity_key in (None, identity_key):
                self._log_cached(path, entry, identity, caller, request_id, started)
                return entry
        if snapshot is not None:
            return await self._run_shared(
                key, args, identity, identity_key, snapshot, caller, public, request_id
            )
        with self._db.snapshot() as latest:
            return await self._run_shared(
                key, args, identity, identity_key, latest, caller, public, request_id
            )

    async def _run_shared(
        self,
        key: QueryKey,
        args: dict[str, Any],
        identity: Identity,
        identity_key: bytes,
        snapshot: Snapshot,
        caller: str,
        public: bool,
        request_id: str | None,
    ) -> QueryEntry:
        """Run a query while others who ask the same may wait for it."""
        running = self.cache.begin(key, identity_key, snapshot.ts)
        result: QueryEntry | CvxError | None = None
        try:
            entry = await self._run_query(
                key, args, identity, identity_key, snapshot, caller, public, request_id
            )
            self.cache.add(key, entry)
            result = entry
            return entry
        except CvxError as error:
            result = error
            raise
        finally:
            self.cache.finish(key, running, result)

    async def _run_query(
        self,
        key: QueryKey,
        args: dict[str, Any],
        identity: Identity,
        identity_key: bytes,
        snapshot: Snapshot,
        caller: str,
        public: bool,
        request_id: str | None,
    ) -> QueryEntry:
        path, db = key.path, self._db
        started = time.perf_counter()
        request = RequestMetadata(request_id or new_request_id())
        tx = db.begin(identity, snapshot=snapshot, read_only=True, component=path.component)
        value_json: bytes | None = None
        error: FunctionError | None = None
        lines: list[LoggedLine] = []
        observed_identity = observed_time = False
        journal: str | None = None
        user_ms = 0.0
        try:
            if path.is_system:
                value_json = self._run_system(path, args, tx, identity)
            else:
                registry = self.registry(snapshot, path.component)
                registry.depend_on(tx.reads, (path.module,))
                function = check_callable(
                    registry.find(path), path, "query", public=public, internal_allowed=identity.is_admin
                )
                tables = snapshot.catalog.table_names(path.component)
                check_args(function, args, key.args_json, tables, self._limits)
                call = Call(self._services, tx, identity, os.urandom(32), request, key.journal)
                call, outcome = await self._run(call, function, registry, key.args_json, snapshot)
                tx = call.tx
                lines = self._lines(call, outcome)
                observed_identity, observed_time = call.observed_identity, call.observed_time
                user_ms = call.user_time_ms
                value_json, error = self._result(function, outcome, tx)
                journal = call.journal_next
                if error is not None and journal is None:
                    journal = key.journal  # It may have failed before it came to its page.
        except CvxError as refusal:
            if refusal.kind not in DETERMINISTIC_KINDS:
                raise
            error = error_of_cvx(refusal, redacted=self._redacted)
        texts = self._texts_of(lines)
        entry = QueryEntry(
            db,
            ts=snapshot.ts,
            reads=tx.reads,
            value_json=value_json,
            error=error,
            log_lines=texts,
            journal=journal,
            result_hash=fingerprint(value_json, error, texts),
            identity_key=identity_key if observed_identity else None,
            expires_at=self._now() + self._limits.query_time_validity_s if observed_time else None,
            request_id=request.request_id,
        )
        self._log_call(
            path,
            "query",
            caller,
            identity,
            request.request_id,
            started,
            user_ms,
            lines,
            error,
            value_json,
            tx,
        )
        return entry

    def _run_system(
        self, path: FunctionPath, args: dict[str, Any], tx: Transaction, identity: Identity
    ) -> bytes:
        function = find_system_function(path) if identity.is_admin else None
        if function is None:
            raise not_found(path, public=not identity.is_admin)
        complaint = function.args.check(args, tx.snapshot.catalog.table_names(path.component))
        if complaint is not None:
            raise CvxError("InvalidArgs", f"ArgumentValidationError: {complaint.text()}")
        return encode(function.body(SystemContext(tx, path.component, self._services), args))

    def _refused_query(
        self,
        path: FunctionPath,
        error: CvxError,
        ts: Timestamp,
        identity: Identity,
        caller: str,
        request_id: str | None,
    ) -> QueryEntry:
        """The result of a query whose arguments are no arguments: it depends on nothing but the request."""
        refusal = error_of_cvx(error, redacted=self._redacted)
        request_id = request_id or new_request_id()
        self._log_call(
            path, "query", caller, identity, request_id, time.perf_counter(), 0.0, [], refusal, None, None
        )
        return QueryEntry(
            self._db,
            ts=ts,
            reads=None,
            value_json=None,
            error=refusal,
            log_lines=[],
            journal=None,
            result_hash=fingerprint(None, refusal, ()),
            identity_key=None,
            expires_at=None,
            request_id=request_id,
        )

    # ----------------------------------------------------------------------------------------- mutations

    async def mutation(
        self,
        path: FunctionPath | str,
        args_json: bytes,
        identity: Identity,
        *,
        session: Session | None = None,
        caller: str,
        public: bool = True,
        component: str = "",
        request_id: str | None = None,
        on_commit: Callable[[Timestamp], None] | None = None,
    ) -> MutationResult:
        """Run a mutation once, commit it, and answer when that is on disk.

        A `session` makes it idempotent: the same session and number is answered, not run again. `on_commit` is
        called with the timestamp when it has its place in the order, before it is durable. Raises CvxError for
        trouble of the system (among it `OptimisticConcurrencyControlFailure` after very many attempts).
        """
        if isinstance(path, str):
            path = FunctionPath.parse(path, component)
        if isinstance(identity, Admin) and identity.read_only:
            raise read_only_key()
        if request_id is None:
            request_id = new_request_id() if session is None else session_request_id(*session)
        attempt = _MutationAttempt(
            path, args_json, identity, session, caller, public, RequestMetadata(request_id)
        )
        result, durable_ts = await self._until_committed(attempt, on_commit)
        await self._db.durable(durable_ts)
        return result

    async def _until_committed(
        self, attempt: _MutationAttempt, on_commit: Callable[[Timestamp], None] | None
    ) -> tuple[MutationResult, Timestamp]:
        """Run it until it commits. After a conflict it waits for its turn on what it conflicted on."""
        keys: set[Any] = set()
        while True:
            started = time.perf_counter()
            try:
                if attempt.conflicts == 0:
                    return await self._attempt_mutation(attempt, on_commit, started)
                async with self._db.turn(keys, conflicts=attempt.conflicts):
                    return await self._attempt_mutation(attempt, on_commit, started)
            except ConflictError as conflict:
                attempt.conflicts += 1
                self._log_conflict(attempt, conflict, started)
                if attempt.conflicts >= self._limits.mutation_attempts_max:
                    raise
                keys.update(conflict.details.get("conflict_keys", ()))

    async def _attempt_mutation(
        self, attempt: _MutationAttempt, on_commit: Callable[[Timestamp], None] | None, started: float
    ) -> tuple[MutationResult, Timestamp]:
        """One run and its commit. The timestamp is what must be durable before anybody hears of the result."""
        path, identity, session = attempt.path, attempt.identity, attempt.session
        with self._db.snapshot() as snapshot:
            tx = self._begin_mutation(attempt, snapshot)
            if session is not None:
                answer = session_requests.lookup(tx, *session)
                if answer is not None:
                    lines = [] if self._redacted else answer.log_lines
                    if on_commit is not None:
                        on_commit(answer.ts)
                    replay = MutationResult(
                        answer.ts, answer.value_json, None, lines, attempt.request.request_id
                    )
                    return replay, snapshot.ts
            lines_: list[LoggedLine] = []
            value_json: bytes | None = None
            error: FunctionError | None = None
            user_ms = 0.0
            ts: Timestamp | None = None
            try:
                args, canonical = parse_args(path, attempt.args_json, self._limits)
                registry = self.registry(snapshot, path.component)
                registry.depend_on(tx.reads, (path.module,))
                found = None if path.is_system else registry.find(path)
                function = check_callable(
                    found, path, "mutation", public=attempt.public, internal_allowed=identity.is_admin
                )
                tables = snapshot.catalog.table_names(path.component)
                check_args(function, args, canonical, tables, self._limits)
                call = Call(self._services, tx, identity, os.urandom(32), attempt.request)
                call, outcome = await self._run(call, function, registry, canonical, snapshot, attempt)
                tx, user_ms = call.tx, call.user_time_ms
                lines_ = self._lines(call, outcome)
                value_json, error = self._result(function, outcome, tx)
                if value_json is not None:
                    if session is not None:
                        texts = [line.pretty() for line in lines_]
                        session_requests.record(tx, *session, value_json, texts)
                    ts = await self._db.commit(tx)
                    if on_commit is not None:
                        on_commit(ts)
            except CvxError as refusal:
                if refusal.kind not in DETERMINISTIC_KINDS:
                    raise
                value_json, error = None, error_of_cvx(refusal, redacted=self._redacted)
        self._log_call(
            path,
            "mutation",
            attempt.caller,
            identity,
            attempt.request.request_id,
            started,
            user_ms,
            lines_,
            error,
            value_json,
            tx,
        )
        result = MutationResult(ts, value_json, error, self._texts_of(lines_), attempt.request.request_id)
        return result, snapshot.ts if ts is None else ts

    def _begin_mutation(self, attempt: _MutationAttempt, snapshot: Snapshot) -> Transaction:
        return self._db.begin(
            attempt.identity,
            snapshot=snapshot,
            write_source=attempt.path.udf_path,
            component=attempt.path.component,
        )

    # --------------------------------------------------------------------------------- actions, anything

    async def action(
        self,
        path: FunctionPath | str,
        args_json: bytes,
        identity: Identity,
        *,
        caller: str,
        public: bool = True,
        component: str = "",
        request_id: str | None = None,
    ) -> ActionResult:
        """Check an action as it would be checked, and say that actions cannot run yet."""
        if isinstance(path, str):
            path = FunctionPath.parse(path, component)
        request_id = request_id or new_request_id()
        started = time.perf_counter()
        with self._db.snapshot() as snapshot:
            try:
                args, canonical = parse_args(path, args_json, self._limits)
                found = None if path.is_system else self.registry(snapshot, path.component).find(path)
                function = check_callable(
                    found, path, "action", public=public, internal_allowed=identity.is_admin
                )
                tables = snapshot.catalog.table_names(path.component)
                check_args(function, args, canonical, tables, self._limits)
                refusal = CvxError(
                    "NotAvailableYet",
                    f"{path.display} is an action, and actions are not available yet in this version of cvx.",
                )
            except CvxError as error:
                refusal = error
            error_ = error_of_cvx(refusal, redacted=self._redacted)
            await self._db.durable(snapshot.ts)
        self._log_call(path, "action", caller, identity, request_id, started, 0.0, [], error_, None, None)
        return ActionResult(None, error_, [], request_id)

    async def any_function(
        self,
        path: FunctionPath | str,
        args_json: bytes,
        identity: Identity,
        *,
        caller: str,
        component: str = "",
        request_id: str | None = None,
    ) -> CallResult:
        """Run a function of any kind, for callers that name it without saying what it is. Durable when returned."""
        if isinstance(path, str):
            path = FunctionPath.parse(path, component)
        request_id = request_id or new_request_id()
        with self._db.snapshot() as snapshot:
            kind = "query"
            if not path.is_system:
                function = self.registry(snapshot, path.component).find(path)
                if function is None or (function.visibility != "public" and not identity.is_admin):
                    error = error_of_cvx(not_found(path, public=False), redacted=self._redacted)
                    return CallResult(None, error, [], None, request_id)
                kind = function.kind
        if kind == "mutation":
            done = await self.mutation(path, args_json, identity, caller=caller, request_id=request_id)
            return CallResult(done.value_json, done.error, done.log_lines, done.ts, request_id)
        if kind == "action":
            acted = await self.action(path, args_json, identity, caller=caller, request_id=request_id)
            return CallResult(acted.value_json, acted.error, acted.log_lines, None, request_id)
        entry = await self.query(path, args_json, identity, caller=caller, request_id=request_id)
        await self._db.durable(entry.ts)
        return CallResult(entry.value_json, entry.error, entry.log_lines, entry.ts, request_id)

    async def test_query(
        self, source: str, args_json: bytes, identity: Identity, *, request_id: str | None = None
    ) -> CallResult:
        """Run a query that comes as source (test_query.py). Durable when returned."""
        request_id = request_id or new_request_id()
        return await run_test_query(
            self._services, source, args_json, identity, request_id, redacted=self._redacted
        )

    # -------------------------------------------------------------------------------------------- shared

    async def _run(
        self,
        call: Call,
        function: LoadedFunction,
        registry: FunctionRegistry,
        args_json: bytes,
        snapshot: Snapshot,
        attempt: _MutationAttempt | None = None,
    ) -> tuple[Call, FunctionOutcome]:
        """Run a function; the call it ended in (another one if the runner had to start again), and its end."""
        current, started = call, False

        def make_host() -> SyscallHost:
            nonlocal current, started
            if started:
                if attempt is None:
                    tx = self._db.begin(
                        call.identity, snapshot=snapshot, read_only=True, component=registry.component
                    )
                else:
                    tx = self._begin_mutation(attempt, snapshot)
                    if attempt.session is not None:
                        session_requests.lookup(tx, *attempt.session)
                registry.depend_on(tx.reads, (function.path.module,))
                current = Call(self._services, tx, call.identity, call.seed, call.request, call.journal_end)
            started = True
            return FunctionHost(current, function, 0)

        outcome = await run_function(
            self._services, function, registry, args_json, call.seed, call.environment, call.tx, make_host
        )
        current.absorb(outcome, registry)
        return current, outcome

    def _result(
        self, function: LoadedFunction, outcome: FunctionOutcome, tx: Transaction
    ) -> tuple[bytes | None, FunctionError | None]:
        if outcome.error is not None or outcome.value_json is None:
            if outcome.error is None or outcome.error.kind == "system":
                message = "no result" if outcome.error is None else outcome.error.message
                raise CvxError(
                    "InternalServerError", f"The function runner failed: {message}", kind="internal"
                )
            return None, error_of(outcome.error, redacted=self._redacted)
        tables = tx.catalog.table_names(function.path.component)
        return check_result(function, outcome.value_json, tables, self._limits, nested=False), None

    def _lines(self, call: Call, outcome: FunctionOutcome) -> list[LoggedLine]:
        warnings = near_limits(call.tx.usage, self._limits, outcome.log_lines, begin_ms(call.tx))
        if not (call.nested_lines or outcome.log_lines or warnings):
            return []
        return merged_lines(call.nested_lines, [*outcome.log_lines, *warnings], self._limits.log_lines_max)

    def _texts_of(self, lines: Iterable[LoggedLine]) -> list[str]:
        return [] if self._redacted else [line.pretty() for line in lines]

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    # ----------------------------------------------------------------------------------------------- log

    def _log_cached(
        self,
        path: FunctionPath,
        entry: QueryEntry,
        identity: Identity,
        caller: str,
        request_id: str | None,
        started: float,
    ) -> None:
        seconds = time.perf_counter() - started
        self.log.record(
            FinishedCall(
                path=path,
                kind="query",
                caller=caller,
                identity_type=identity_type(identity),
                request_id=request_id or entry.request_id,
                execution_id="",
                started_s=time.time() - seconds,
                seconds=seconds,
                user_ms=0.0,
                cached=True,
                log_lines=(),
                error=None if entry.error is None else entry.error.message,
                return_bytes=None if entry.value_json is None else len(entry.value_json),
                usage=None,
            )
        )

    def _log_call(
        self,
        path: FunctionPath,
        kind: str,
        caller: str,
        identity: Identity,
        request_id: str,
        started: float,
        user_ms: float,
        lines: list[LoggedLine],
        error: FunctionError | None,
        value_json: bytes | None,
        tx: Transaction | None,
        conflict: Conflict | None = None,
    ) -> None:
        seconds = time.perf_counter() - started
        self.log.record(
            FinishedCall(
                path=path,
                kind=kind,
                caller=caller,
                identity_type=identity_type(identity),
                request_id=request_id,
                execution_id=os.urandom(8).hex(),
                started_s=time.time() - seconds,
                seconds=seconds,
                user_ms=user_ms,
                cached=False,
                log_lines=lines,
                error=None if error is None else error.message,
                return_bytes=None if value_json is None else len(value_json),
                usage=None if tx is None else tx.usage,
                conflict=conflict,
            )
        )

    def _log_conflict(self, attempt: _MutationAttempt, error: ConflictError, started: float) -> None:
        details = error.details
        conflict = Conflict(
            details.get("table"), details.get("document_id"), details.get("write_source"), attempt.conflicts
        )
        failure = FunctionError(error.message + "\n")
        self._log_call(
            attempt.path,
            "mutation",
            attempt.caller,
            attempt.identity,
            attempt.request.request_id,
            started,
            0.0,
            [],
            failure,
            None,
            None,
            conflict,
        )


class _MutationAttempt:
    """A mutation that is to be run until it commits."""

    __slots__ = ("args_json", "caller", "conflicts", "identity", "path", "public", "request", "session")

    def __init__(
        self,
        path: FunctionPath,
        args_json: bytes,
        identity: Identity,
        session: Session | None,
        caller: str,
        public: bool,
        request: RequestMetadata,
    ) -> None:
        self.path = path
        self.args_json = args_json
        self.identity = identity
        self.session = session
        self.caller = caller
        self.public = public
        self.request = request
        self.conflicts = 0
