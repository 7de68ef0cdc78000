"""A function call from path and arguments to a result: the one way for sockets, HTTP and the command line.

A query runs on a snapshot and ends in the cache (queries.py); a mutation runs until it commits (mutations.py); an action
runs once (actions.py).

Rules:
- A mutation is answered when it is durable. A query's entry may rest on commits that are not yet: whoever sends
  it out first awaits `db.durable(entry.ts)`.
- What is wrong with a call (unknown function, bad arguments, its own exception) is a result. A CvxError raised
  from here is about the system, about the path's spelling, or about an identity that may not do this.

Source: design.md §5.2; reference/runtime-and-database.md §1.8, §4, §5.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext

from cvx.backend.auth import Admin, Identity, TokenSigner, new_instance_secret, read_only_key
from cvx.backend.config import Limits
from cvx.backend.database import Database, Snapshot
from cvx.backend.functions import system_cli, system_jobs  # noqa: F401 (its functions register themselves)
from cvx.backend.functions.action_syscalls import HttpExchange
from cvx.backend.functions.actions import ActionCalls, ActionRequest
from cvx.backend.functions.calls import Services
from cvx.backend.functions.checks import not_found
from cvx.backend.functions.client_demand import ClientDemand
from cvx.backend.functions.components import ComponentTree, load_components
from cvx.backend.functions.derived import Derived
from cvx.backend.functions.environment import EnvironmentSnapshot, load_environment
from cvx.backend.functions.execution import Execution
from cvx.backend.functions.expiry import keep_forgetting
from cvx.backend.functions.file_storage import FileStorage
from cvx.backend.functions.function_log import FunctionLog
from cvx.backend.functions.http_actions import find_route
from cvx.backend.functions.module_loader import FunctionRegistry, TextCache
from cvx.backend.functions.mutations import (
    UNKNOWN_ORIGIN,
    Errand,
    MutationRequest,
    MutationRunner,
    Origin,
    Session,
)
from cvx.backend.functions.queries import QueryRequest, QueryRunner
from cvx.backend.functions.query_cache import QueryCache, QueryEntry
from cvx.backend.functions.results import (
    ActionResult,
    CallResult,
    HttpActionResult,
    MutationResult,
    new_request_id,
    session_request_id,
)
from cvx.backend.functions.test_query import run_test_query
from cvx.backend.model.deployment import DeploymentInfo
from cvx.backend.runner import ActionRunner, Environment, FunctionRunner, HttpRequestHead, ModuleSource
from cvx.values import FunctionPath, Timestamp


class FunctionExecutor:
    """Runs the functions of one deployment. `close` when done; `db` and `runner` are the caller's to close."""

    def __init__(
        self,
        db: Database,
        runner: FunctionRunner,
        deployment: DeploymentInfo,
        limits: Limits,
        *,
        files: FileStorage,
        actions: Mapping[Environment, ActionRunner] | None = None,
        redacted: bool = False,
        signer: TokenSigner | None = None,
    ) -> None:
        """`actions` are the runners of actions, started. Without a `signer`, functions sign tokens with a key of this
        process alone."""
        self._db = db
        self._limits = limits
        self.log = FunctionLog(limits.function_log_entries_max, limits.function_log_bytes_max, time.time)
        self.demand = ClientDemand(limits.scheduled_quiet_s)
        self.cache = QueryCache(db, limits.query_cache_bytes_max)
        self._texts = TextCache()
        self._code: dict[str, Derived[FunctionRegistry]] = {}
        self._environments: dict[str, Derived[EnvironmentSnapshot]] = {}
        self._components = Derived(db, load_components)
        self._deployment = deployment
        self._services = Services(
            db=db,
            runner=runner,
            limits=limits,
            code=self.registry,
            components=self._components.at,
            environment=self._environment,
            deployment=deployment,
            files=files,
            actions={} if actions is None else actions,
            signer=signer or TokenSigner(new_instance_secret()),
        )
        self._execution = Execution(self._services, self.log, redacted=redacted)
        self._queries = QueryRunner(self._execution, self.cache)
        self._mutations = MutationRunner(self._execution)
        self._actions = ActionCalls(self._execution, self, self._services.actions)
        self._expiry = asyncio.get_running_loop().create_task(keep_forgetting(db, limits))

    def close(self) -> None:
        self._expiry.cancel()
        self._actions.close()
        self._components.close()
        for environment in self._environments.values():
            environment.close()
        for code in self._code.values():
            code.close()

    def registry(self, snapshot: Snapshot, component: str = "") -> FunctionRegistry:
        """The code of a component at a snapshot. Raises CvxError "ComponentPathNotFound"."""
        if component:
            self._components.at(snapshot).require(component)
        code = self._code.get(component)
        if code is None:
            code = self._code[component] = Derived(self._db, lambda tx: self._texts.load(tx, component))
        return code.at(snapshot)

    def lists_route(self, snapshot: Snapshot, method: str, path: str) -> bool:
        """Whether a router, the app's or a mounted component's, has this path among its routes."""
        tree = self._components.at(snapshot)
        found = find_route(tree, lambda each: self.registry(snapshot, each).http_routes, method, path)
        return found is not None and found.route is not None

    def components(self, snapshot: Snapshot) -> ComponentTree:
        """What is mounted at a snapshot."""
        return self._components.at(snapshot)

    def _environment(self, snapshot: Snapshot, component: str) -> EnvironmentSnapshot:
        found = self._environments.get(component)
        if found is None:
            found = self._environments[component] = Derived(
                self._db, lambda tx: load_environment(tx, self._deployment, component)
            )
        return found.at(snapshot)

    def deployed(self, snapshot: Snapshot) -> Mapping[str, ModuleSource]:
        """The modules of the app at a snapshot, by path, with their texts."""
        return self.registry(snapshot).bundle.modules

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
        parent_execution_id: str | None = None,
    ) -> QueryEntry:
        """The result of a query at `snapshot` (None: now), from the cache when it holds there.

        The entry must not leave the process before `db.durable(entry.ts)`. Raises CvxError for trouble of the
        system, and `BadConvexFunctionIdentifier` for a path that is none.
        """
        if isinstance(path, str):
            path = FunctionPath.parse(path, component)
        request = QueryRequest(
            path, identity, caller, public, request_id or new_request_id(), journal, parent_execution_id
        )
        with self.demand:
            return await self._queries.query(request, args_json, snapshot)

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
        on_commit: Callable[[Timestamp], object] = lambda ts: None,
        origin: Origin = UNKNOWN_ORIGIN,
        parent_execution_id: str | None = None,
        errand: Errand | None = None,
    ) -> MutationResult:
        """Run a mutation once, commit it, and answer when that is on disk.

        A `session` makes it idempotent: the same session and number is answered, not run again. `on_commit` is
        called with the timestamp when it has its place in the order, before it is durable. Raises CvxError for
        trouble of the system (among it `OptimisticConcurrencyControlFailure` after very many attempts), and
        ErrandOver when `errand` says so.
        """
        if isinstance(path, str):
            path = FunctionPath.parse(path, component)
        if isinstance(identity, Admin) and identity.read_only:
            raise read_only_key()
        if request_id is None:
            request_id = new_request_id() if session is None else session_request_id(*session)
        request = MutationRequest(
            path,
            args_json,
            identity,
            session,
            caller,
            public,
            request_id,
            on_commit,
            origin,
            parent_execution_id,
            errand,
        )
        with self.demand if errand is None else nullcontext():
            return await self._mutations.mutation(request)

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
        origin: Origin = UNKNOWN_ORIGIN,
        parent_execution_id: str | None = None,
    ) -> ActionResult:
        """Run an action, once. Cancelling whoever awaits this cancels it, unless the `caller` is a client's connection.

        Raises CvxError for trouble of the system, among it `TooManyConcurrentRequests`, when it has not begun.
        """
        if isinstance(path, str):
            path = FunctionPath.parse(path, component)
        if isinstance(identity, Admin) and identity.read_only:
            raise read_only_key()
        request = ActionRequest(
            path,
            args_json,
            identity,
            caller,
            public,
            request_id or new_request_id(),
            origin,
            parent_execution_id,
        )
        return await self._actions.action(request, internal_allowed=identity.is_admin)

    async def http_action(
        self,
        head: HttpRequestHead,
        exchange: HttpExchange,
        identity: Identity,
        *,
        module: str = "http.js",
        component: str = "",
        request_id: str | None = None,
        origin: Origin = UNKNOWN_ORIGIN,
    ) -> HttpActionResult:
        """Let the router of a component answer a request. Its response goes to `exchange` as it comes.

        Cancelling whoever awaits this aborts `request.signal` and ends it. An exception of `exchange` does too, and
        is raised.
        """
        path = FunctionPath(component, module, "default")
        request = ActionRequest(
            path, b"", identity, "HttpEndpoint", True, request_id or new_request_id(), origin
        )
        return await self._actions.http_action(request, head, exchange)

    async def any_function(
        self,
        path: FunctionPath | str,
        args_json: bytes,
        identity: Identity,
        *,
        caller: str,
        component: str = "",
        request_id: str | None = None,
        origin: Origin = UNKNOWN_ORIGIN,
    ) -> CallResult:
        """Run a function for a caller who names it without saying what kind it is. Durable when returned."""
        if isinstance(path, str):
            path = FunctionPath.parse(path, component)
        request_id = request_id or new_request_id()
        kind = "query"
        if not path.is_system:
            with self._db.snapshot() as snapshot:
                function = self.registry(snapshot, path.component).find(path)
                await self._db.durable(snapshot.ts)  # That it is not there is an answer, too.
            if function is None or (function.visibility != "public" and not identity.is_admin):
                failure = self._execution.refusal(not_found(path, public=False))
                return CallResult(None, failure, [], None, request_id)
            kind = function.kind
        if kind == "mutation":
            done = await self.mutation(
                path, args_json, identity, caller=caller, request_id=request_id, origin=origin
            )
            return CallResult(done.value_json, done.error, done.log_lines, done.ts, request_id)
        if kind == "action":
            acted = await self.action(
                path, args_json, identity, caller=caller, request_id=request_id, origin=origin
            )
            return CallResult(acted.value_json, acted.error, acted.log_lines, None, request_id)
        entry = await self.query(path, args_json, identity, caller=caller, request_id=request_id)
        await self._db.durable(entry.ts)
        return CallResult(entry.value_json, entry.error, entry.log_lines, entry.ts, request_id)

    async def test_query(
        self,
        source: str,
        args_json: bytes,
        identity: Identity,
        *,
        request_id: str | None = None,
        component_id: str | None = None,
    ) -> CallResult:
        """Run a query that comes as source, beside the deployed code. Durable when returned.

        `component_id`: in which component, None for the app. Raises CvxError InvalidModules, InvalidTestQuery or
        UnsupportedTestQuery for what is no query, and ComponentNotFound.
        """
        component = ""
        if component_id:
            with self._db.snapshot() as snapshot:
                component = self._components.at(snapshot).by_id(component_id).path
        return await run_test_query(
            self._services,
            source,
            args_json,
            identity,
            request_id or new_request_id(),
            redacted=self._execution.redacted,
            component=component,
        )
