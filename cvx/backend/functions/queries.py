"""Running queries: from the cache, with somebody else, or on a snapshot.

Source: design.md §5.2; reference/runtime-and-database.md §1.8, §5.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from typing import Any

from cvx.backend.auth import Identity
from cvx.backend.database import Database, Snapshot, Transaction
from cvx.backend.functions.calls import Call, RequestMetadata, depend_on_table_names
from cvx.backend.functions.checks import check_args, check_callable, not_found, parse_args
from cvx.backend.functions.execution import Execution
from cvx.backend.functions.module_loader import FunctionRegistry, LoadedFunction
from cvx.backend.functions.query_cache import QueryCache, QueryEntry, QueryKey
from cvx.backend.functions.results import FunctionError, LoggedLine, fingerprint
from cvx.backend.functions.system_functions import SystemContext, find_system_function
from cvx.backend.model import components
from cvx.errors import CvxError
from cvx.values import FunctionPath, Timestamp, encode


@dataclass(frozen=True, slots=True)
class QueryRequest:
    """Who asks what. `public`: internal functions are not to be found, unless the caller is an admin."""

    path: FunctionPath
    identity: Identity
    caller: str
    public: bool
    request_id: str
    journal: str | None = None
    parent_execution_id: str | None = None
    """The action that runs it, if one does."""


@dataclass(slots=True)
class _Found:
    """What a run came to, while it is put together."""

    tx: Transaction
    value_json: bytes | None = None
    error: FunctionError | None = None
    lines: list[LoggedLine] | None = None
    journal: str | None = None
    observed_identity: bool = False
    observed_time: bool = False
    user_ms: float = 0.0


class QueryRunner:
    """All queries of a deployment."""

    def __init__(self, execution: Execution, cache: QueryCache) -> None:
        self._execution = execution
        self._services = execution.services
        self._db: Database = execution.services.db
        self._limits = execution.services.limits
        self._cache = cache

    async def query(self, request: QueryRequest, args_json: bytes, snapshot: Snapshot | None) -> QueryEntry:
        """The result at `snapshot` (None: now)."""
        started = time.perf_counter()
        ts = self._db.latest_ts if snapshot is None else snapshot.ts
        try:
            args, canonical = parse_args(request.path, args_json, self._limits)
        except CvxError as error:
            return self._refused(request, error, ts, started)
        identity = request.identity
        key = QueryKey(request.path, canonical, request.journal, not request.public or identity.is_admin)
        identity_key = identity.cache_key()
        loop = asyncio.get_running_loop()
        while True:
            entry = self._cache.find(key, identity_key, ts, loop.time())
            if entry is None:
                running = self._cache.running(key, identity_key, ts)
                if running is None:
                    break
                try:
                    entry = await asyncio.shield(running.done)  # Ours to wait for, not to cancel.
                except CvxError as error:
                    if error.kind != "out_of_retention":
                        raise
                    continue  # Its snapshot was too old; ours need not be.
                if entry is None or not entry.serves(identity_key, ts):
                    continue
            self._record_cached(request, entry, started)
            return entry
        if snapshot is not None:
            return await self._run_shared(request, key, args, identity_key, snapshot)
        expired = 0
        while True:
            try:
                with self._db.snapshot() as latest:
                    return await self._run_shared(request, key, args, identity_key, latest)
            except CvxError as error:
                # It took so long to get a place to run that its snapshot is gone: a newer one is as good.
                expired += 1
                if error.kind != "out_of_retention" or expired >= self._limits.snapshot_attempts_max:
                    raise

    async def _run_shared(
        self,
        request: QueryRequest,
        key: QueryKey,
        args: dict[str, Any],
        identity_key: bytes,
        snapshot: Snapshot,
    ) -> QueryEntry:
        """Run it while others who ask the same may wait for it."""
        running = self._cache.begin(key, identity_key, snapshot.ts)
        result: QueryEntry | CvxError | None = None
        try:
            entry = await self._run(request, args, key.args_json, identity_key, snapshot)
            self._cache.add(key, entry)
            result = entry
            return entry
        except CvxError as error:
            result = error
            raise
        finally:
            self._cache.finish(key, running, result)

    async def _run(
        self,
        request: QueryRequest,
        args: dict[str, Any],
        args_json: bytes,
        identity_key: bytes,
        snapshot: Snapshot,
    ) -> QueryEntry:
        started = time.perf_counter()
        path, identity = request.path, request.identity
        found = _Found(self._db.begin(identity, snapshot=snapshot, read_only=True, component=path.component))
        try:
            if path.is_system:
                found.value_json = self._run_system(request, args, found.tx)
            else:
                registry = self._services.code(snapshot, path.component)
                registry.depend_on(found.tx.reads, (path.module,))
                function = check_callable(
                    registry.find(path),
                    path,
                    "query",
                    public=request.public,
                    internal_allowed=identity.is_admin,
                )
                tables = snapshot.catalog.table_names(path.component)
                try:
                    check_args(function, args, args_json, tables, self._limits)
                except CvxError:
                    depend_on_table_names(found.tx, path.component)  # An id may be of a table yet to come.
                    raise
                await self._run_function(request, found, function, registry, args_json)
        except CvxError as refusal:
            found.value_json, found.error = None, self._execution.refusal(refusal)
        return self._finished(request, found, identity_key, started)

    async def _run_function(
        self,
        request: QueryRequest,
        found: _Found,
        function: LoadedFunction,
        registry: FunctionRegistry,
        args_json: bytes,
    ) -> None:
        """Run a function in `found.tx`, and note there what came of it."""
        snapshot, identity = found.tx.snapshot, request.identity
        call = Call(
            self._services,
            found.tx,
            identity,
            os.urandom(32),
            RequestMetadata(request.request_id),
            request.journal,
        )

        def begin_again() -> Transaction:
            return self._db.begin(identity, snapshot=snapshot, read_only=True, component=registry.component)

        call, outcome = await self._execution.run(call, function, registry, args_json, begin_again)
        found.tx = call.tx
        found.lines = self._execution.lines(call, outcome)
        found.observed_identity, found.observed_time = call.observed_identity, call.observed_time
        found.user_ms = call.user_time_ms
        found.journal = call.journal_next
        found.value_json, found.error = self._execution.result(function, outcome, call.tx)
        if found.error is not None and found.journal is None:
            found.journal = request.journal  # It may have failed before it came to its page.

    def _run_system(self, request: QueryRequest, args: dict[str, Any], tx: Transaction) -> bytes:
        path = request.path
        function = find_system_function(path) if request.identity.is_admin else None
        if function is None:
            raise not_found(path, public=not request.identity.is_admin)
        complaint = function.args.check(args, tx.catalog.table_names(path.component))
        if complaint is not None:
            raise CvxError("InvalidArgs", f"ArgumentValidationError: {complaint.text()}")
        return encode(function.body(SystemContext(tx, _component_of(tx, path, args), self._services), args))

    def _refused(self, request: QueryRequest, error: CvxError, ts: Timestamp, started: float) -> QueryEntry:
        """The result of a query whose arguments are no arguments: it depends on nothing but the request."""
        refusal = self._execution.refusal(error)
        self._execution.record(
            request.path,
            "query",
            caller=request.caller,
            identity=request.identity,
            request_id=request.request_id,
            parent_execution_id=request.parent_execution_id,
            started=started,
            error=refusal,
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
            request_id=request.request_id,
        )

    def _record_cached(self, request: QueryRequest, entry: QueryEntry, started: float) -> None:
        self._execution.record(
            request.path,
            "query",
            caller=request.caller,
            identity=request.identity,
            request_id=request.request_id,
            parent_execution_id=request.parent_execution_id,
            started=started,
            error=entry.error,
            value_json=entry.value_json,
            cached=True,
        )

    # ------------------------------------------------------------------------------------------- results

    def _finished(
        self, request: QueryRequest, found: _Found, identity_key: bytes, started: float
    ) -> QueryEntry:
        lines = found.lines or []
        expires_at = None
        if found.observed_time:
            expires_at = asyncio.get_running_loop().time() + self._limits.query_time_validity_s
        tx, texts = found.tx, self._execution.texts(lines)
        self._execution.record(
            request.path,
            "query",
            caller=request.caller,
            identity=request.identity,
            request_id=request.request_id,
            parent_execution_id=request.parent_execution_id,
            started=started,
            user_ms=found.user_ms,
            lines=lines,
            error=found.error,
            value_json=found.value_json,
            usage=tx.usage,
        )
        return QueryEntry(
            self._db,
            ts=tx.snapshot.ts,
            reads=tx.reads,
            value_json=found.value_json,
            error=found.error,
            log_lines=texts,
            journal=found.journal,
            result_hash=fingerprint(found.value_json, found.error, texts),
            identity_key=identity_key if found.observed_identity else None,
            expires_at=expires_at,
            request_id=request.request_id,
        )


def _component_of(tx: Transaction, path: FunctionPath, args: dict[str, Any]) -> str:
    """Which component a system function is asked about: the caller's, or one named by its id.

    Raises CvxError "ComponentNotFound".
    """
    id = args.get("componentId")
    found = components.by_id(tx, id) if isinstance(id, str) else components.instance(tx, path.component)
    if found is None and (isinstance(id, str) or path.component):
        raise CvxError(
            "ComponentNotFound",
            f"There is no component '{id if isinstance(id, str) else path.component}'.",
            kind="not_found",
            hint="Check its path: names of mounts, with a slash between.",
        )
    return path.component if found is None else found.path
