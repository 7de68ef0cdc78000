"""Running actions and HTTP actions: checked before, run once, their result checked, noted in the log.

An action runs at most once: nothing here tries it again, and what it did before it failed stays done. It has no transaction;
what it asks for is answered by its host (action_syscalls.py).

Source: reference/runtime-and-database.md §1.4, §1.8, §1.10, §3.7, §11, §12.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec

from cvx.backend.auth import Identity
from cvx.backend.config import Limits
from cvx.backend.database import Snapshot, Usage
from cvx.backend.functions.action_syscalls import FunctionCaller, HttpExchange, RunningAction, metadata_of
from cvx.backend.functions.calls import RequestMetadata, Services
from cvx.backend.functions.checks import check_args, check_callable, check_result, parse_args
from cvx.backend.functions.execution import Execution
from cvx.backend.functions.function_log import RunningLines, Subject
from cvx.backend.functions.http_actions import (
    HTTP_MODULE,
    HttpRoutes,
    Routed,
    find_route,
    not_enabled,
    not_found,
)
from cvx.backend.functions.module_loader import FunctionRegistry, LoadedFunction
from cvx.backend.functions.mutations import Origin
from cvx.backend.functions.results import (
    ActionResult,
    FunctionError,
    HttpActionResult,
    error_of,
    new_execution_id,
)
from cvx.backend.runner import (
    ActionCall,
    ActionOutcome,
    ActionRunner,
    Environment,
    HttpRequestHead,
    HttpResponseHead,
    inside_action,
)
from cvx.errors import CvxError
from cvx.values import FunctionPath

_LOGGED_PATH_CHARS_MAX = 200
_OUTLIVED = frozenset({"SyncWorker", "HttpApi"})
"""Callers whose connection may end before the action does, which then goes on."""


@dataclass(frozen=True, slots=True)
class ActionRequest:
    """Who wants what done."""

    path: FunctionPath
    args_json: bytes
    identity: Identity
    caller: str
    public: bool
    request_id: str
    origin: Origin
    parent_execution_id: str | None = None


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A call that may be run."""

    call: ActionCall
    function: LoadedFunction | None
    metadata: bytes


class ActionCalls:
    """All actions of a deployment. `caller` runs the functions that they run."""

    def __init__(
        self, execution: Execution, caller: FunctionCaller, runners: Mapping[Environment, ActionRunner]
    ) -> None:
        self._execution = execution
        self._services: Services = execution.services
        self._limits: Limits = execution.services.limits
        self._caller = caller
        self._runners = runners
        self._under_way: set[asyncio.Task[ActionResult]] = set()

    async def action(self, request: ActionRequest, *, internal_allowed: bool) -> ActionResult:
        """Run an action to its end, which does not depend on whether a client stays (`_OUTLIVED`). What is wrong with
        the call is its result."""
        if request.caller not in _OUTLIVED:
            return await self._action(request, internal_allowed)
        task = asyncio.get_running_loop().create_task(self._action(request, internal_allowed))
        self._under_way.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[ActionResult]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # Whoever asked may be gone; the log has it.

    def close(self) -> None:
        """Give up what is under way."""
        for task in self._under_way:
            task.cancel()

    async def _action(self, request: ActionRequest, internal_allowed: bool) -> ActionResult:
        run = _Run(self._execution, request, "action", request.path.udf_path)
        try:
            prepared = await self._prepare(request, internal_allowed)
        except CvxError as refusal:
            run.error = self._execution.refusal(refusal)
            run.record()
            return ActionResult(None, run.error, [], request.request_id)
        outcome = await self._run(run, request, prepared, None)
        value_json = None
        if outcome is not None:
            try:
                value_json = self._value(prepared, outcome)
            except CvxError as refusal:
                run.error = self._execution.refusal(refusal)
        run.record(value_json)
        texts = self._execution.texts(run.lines.end())
        return ActionResult(value_json, run.error, texts, request.request_id)

    async def http_action(
        self, request: ActionRequest, head: HttpRequestHead, exchange: HttpExchange
    ) -> HttpActionResult:
        """Run the HTTP action that a path belongs to; `exchange` gets the response as it comes. Raises CvxError
        "HttpActionsNotEnabled" when there is no router at all, and "NoRoute" when none is for this path.

        Without an `error` the response was given in full. With one, `has_responded` says whether its head was.
        """
        watched = _Watched(exchange)
        with self._services.db.snapshot() as snapshot:
            try:
                routed = self._routed(snapshot, head)
            finally:
                await self._services.db.durable(snapshot.ts)
            request = replace(request, path=FunctionPath(routed.component, HTTP_MODULE, "default"))
            registry = self._services.code(snapshot, routed.component)
            if routed.path != _path_of(head.url):
                head = replace(head, path=routed.path)
            call = self._call(request, "isolate", b"", registry, snapshot, head)
        method = "GET" if head.method == "HEAD" else head.method
        name = routed.route or routed.path[:_LOGGED_PATH_CHARS_MAX]
        run = _Run(self._execution, request, "http_action", f"{method} {name}")
        metadata = {"name": "http", "componentPath": routed.component, "type": "action", "visibility": None}
        prepared = _Prepared(call, None, msgspec.json.encode(metadata))
        await self._run(run, request, prepared, watched)
        run.http_status = watched.status
        run.record()
        return HttpActionResult(run.error, watched.status is not None, request.request_id)

    def _routed(self, snapshot: Snapshot, head: HttpRequestHead) -> Routed:
        """Whose router answers. Raises CvxError "HttpActionsNotEnabled" and "NoRoute"."""
        services = self._services
        tree = services.components(snapshot)

        def routes_of(component: str) -> HttpRoutes | None:
            return services.code(snapshot, component).http_routes

        found = find_route(tree, routes_of, head.method, _path_of(head.url))
        if found is not None:
            return found
        raise not_found() if any(routes_of(path) is not None for path in tree.active) else not_enabled()

    # ----------------------------------------------------------------------------------------------- before

    async def _prepare(self, request: ActionRequest, internal_allowed: bool) -> _Prepared:
        path, services = request.path, self._services
        with services.db.snapshot() as snapshot:
            try:
                args, canonical = parse_args(path, request.args_json, self._limits)
                registry = services.code(snapshot, path.component)
                found = None if path.is_system else registry.find(path)
                function = check_callable(
                    found, path, "action", public=request.public, internal_allowed=internal_allowed
                )
                check_args(
                    function, args, canonical, snapshot.catalog.table_names(path.component), self._limits
                )
                call = self._call(request, function.environment, canonical, registry, snapshot, None)
            finally:
                await services.db.durable(snapshot.ts)  # That it is not there is an answer, too.
        return _Prepared(call, function, metadata_of(function))

    def _call(
        self,
        request: ActionRequest,
        environment: Environment,
        args_json: bytes,
        registry: FunctionRegistry,
        snapshot: Snapshot,
        head: HttpRequestHead | None,
    ) -> ActionCall:
        variables = self._services.environment(snapshot, request.path.component)
        limits = self._limits
        return ActionCall(
            bundle=registry.bundle,
            path=request.path,
            args_json=args_json,
            env=variables.variables,
            request_id=request.request_id,
            deadline_s=limits.node_action_time_s if environment == "node" else limits.action_time_s,
            import_phase_ms=variables.import_phase_ms,
            import_seed=variables.import_seed,
            environment=environment,
            component_args=b"{}" if request.path.component else None,
            request=head,
        )

    # -------------------------------------------------------------------------------------------------- run

    async def _run(
        self, run: _Run, request: ActionRequest, prepared: _Prepared, exchange: HttpExchange | None
    ) -> ActionOutcome | None:
        """The outcome, or None when `run.error` says why there is none."""
        runner = self._runners.get(prepared.call.environment)
        if runner is None:
            kind = prepared.call.environment
            refusal = CvxError(
                "RuntimeNotEnabled",
                f"{request.path.display} is an action of the runtime '{kind}', which this backend does not run.",
            )
            run.error = self._execution.refusal(refusal)
            return None
        origin = request.origin
        metadata = RequestMetadata(request.request_id, origin.ip, origin.user_agent, origin.scheduled_job)
        host = RunningAction(
            self._services,
            self._caller,
            request.identity,
            metadata,
            origin,
            run.lines,
            run.usage,
            component=request.path.component,
            execution_id=run.subject.execution_id,
            metadata=prepared.metadata,
            exchange=exchange,
        )
        inside_action.set(request.caller == "Action")  # Whatever the context was made in.
        try:
            outcome = await runner.run_action(prepared.call, host)
            if outcome.error is not None and outcome.error.kind == "system":
                why = f"The function runner failed: {outcome.error.message}"
                raise CvxError("InternalServerError", why, kind="internal")
        except BaseException as error:
            run.error = FunctionError(f"{_why(error)}\n", None, self._execution.redacted)
            run.record()
            raise
        run.user_ms = outcome.user_time_ms
        run.usage.memory_used_bytes = outcome.memory_used_bytes
        run.environment = prepared.call.environment
        if outcome.error is None:
            return outcome
        run.error = error_of(outcome.error, redacted=self._execution.redacted)
        return None

    def _value(self, prepared: _Prepared, outcome: ActionOutcome) -> bytes:
        """The canonical result. Raises CvxError for one that is refused."""
        function, value_json = prepared.function, outcome.value_json
        if function is None or value_json is None:
            raise CvxError("InternalServerError", "An action ended without a result.", kind="internal")
        with self._services.db.snapshot() as snapshot:  # Tables may have come while it ran.
            tables = snapshot.catalog.table_names(function.path.component)
            return check_result(function, value_json, tables, self._limits, nested=False)


class _Run:
    """What one run comes to, for the log."""

    def __init__(self, execution: Execution, request: ActionRequest, kind: str, identifier: str) -> None:
        self._execution = execution
        self._request = request
        self.subject = Subject(
            kind, identifier, request.request_id, new_execution_id(), request.path.component
        )
        self.lines = RunningLines(execution.log, self.subject, execution.services.limits.log_lines_max)
        self.started = time.perf_counter()
        self.usage = Usage()
        self.user_ms = 0.0
        self.error: FunctionError | None = None
        self.environment = "isolate"
        self.http_status: int | None = None

    def record(self, value_json: bytes | None = None) -> None:
        """It is over."""
        request = self._request
        self._execution.record(
            request.path,
            self.subject.kind,
            caller=request.caller,
            identity=request.identity,
            request_id=request.request_id,
            started=self.started,
            user_ms=self.user_ms,
            lines=self.lines.end(),
            error=self.error,
            value_json=value_json,
            usage=self.usage,
            execution_id=self.subject.execution_id,
            parent_execution_id=request.parent_execution_id,
            environment=self.environment,
            identifier=self.subject.identifier,
            http_status=self.http_status,
            lines_streamed=True,
        )


class _Watched:
    """An exchange, and the status that went through it."""

    def __init__(self, exchange: HttpExchange) -> None:
        self._exchange = exchange
        self.request_body = exchange.request_body
        self.respond_chunk = exchange.respond_chunk
        self.status: int | None = None

    async def respond(self, head: HttpResponseHead) -> None:
        self.status = head.status
        await self._exchange.respond(head)


def _path_of(url: str) -> str:
    rest = url.partition("://")[2] or url
    return "/" + rest.partition("/")[2].partition("?")[0].partition("#")[0]


def _why(error: BaseException) -> str:
    if isinstance(error, CvxError):
        return error.message
    return "It was given up before its end" if isinstance(error, Exception) else "It was cancelled"
