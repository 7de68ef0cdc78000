"""A query that arrives as source, runs once, and is kept nowhere: `run --inline-query` and the dashboard's editor.

The module may import `query` and `internalQuery` from "convex:/_system/repl/wrappers.js", which is ours
(js/test_query.js), and nothing else. It runs like any query, read-only, at the latest snapshot.

Source: reference/cli-and-deploy.md §5.6.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files

from cvx.backend.auth import Identity
from cvx.backend.functions.calls import Call, RequestMetadata, Services, merged_lines, run_function
from cvx.backend.functions.checks import check_result, parse_args
from cvx.backend.functions.module_loader import FunctionRegistry, LoadedFunction
from cvx.backend.functions.results import CallResult, error_of
from cvx.backend.functions.syscalls import FunctionHost
from cvx.backend.runner import AnalyzeRequest, CodeBundle, ModuleSource, SyscallHost
from cvx.errors import CvxError
from cvx.values import FunctionPath

WRAPPERS_IMPORT = "convex:/_system/repl/wrappers.js"
_WRAPPERS_PATH = "_repl/wrappers.js"
_MODULE_PATH = "testQuery.js"


@lru_cache(maxsize=1)
def _wrappers() -> ModuleSource:
    return _module(_WRAPPERS_PATH, files("cvx.backend.functions").joinpath("js/test_query.js").read_bytes())


def _module(path: str, source: bytes) -> ModuleSource:
    return ModuleSource(path, hashlib.sha256(source).hexdigest(), source, None, "isolate")


async def run_test_query(
    services: Services,
    source: str,
    args_json: bytes,
    identity: Identity,
    request_id: str,
    *,
    redacted: bool,
    component: str = "",
) -> CallResult:
    """Run the query that `source` exports as its default. Durable when returned.

    Raises CvxError `InvalidModules` (it does not load), `InvalidTestQuery` (it exports anything but one default
    query), `UnsupportedTestQuery` (its default export is another kind of function).
    """
    path = FunctionPath(component, _MODULE_PATH, "default")
    _, canonical = parse_args(path, args_json, services.limits)
    text = source.replace(WRAPPERS_IMPORT, "./" + _WRAPPERS_PATH).encode()
    module = _module(_MODULE_PATH, text)
    bundle = CodeBundle(f"test-query:{module.sha256}", {_MODULE_PATH: module, _WRAPPERS_PATH: _wrappers()})
    with services.db.snapshot() as snapshot:
        environment = services.environment(snapshot, component)
        await _check(services, bundle, environment.variables)
        function = LoadedFunction(path, "query", "public", None, None, "isolate")
        tx = services.db.begin(identity, snapshot=snapshot, read_only=True)
        registry = FunctionRegistry(component, environment.index_id, bundle, {}, {}, [])
        call = Call(services, tx, identity, os.urandom(32), RequestMetadata(request_id))

        def make_host() -> SyscallHost:
            return FunctionHost(call, function, 0)

        outcome = await run_function(
            services, function, registry, canonical, call.seed, environment, tx, make_host
        )
        lines = merged_lines(call.nested_lines, outcome.log_lines, services.limits.log_lines_max)
        texts = [] if redacted else [line.pretty() for line in lines]
        await services.db.durable(snapshot.ts)
        if outcome.error is not None or outcome.value_json is None:
            if outcome.error is None or outcome.error.kind == "system":
                raise CvxError("InternalServerError", "The function runner failed.", kind="internal")
            return CallResult(
                None, error_of(outcome.error, redacted=redacted), texts, snapshot.ts, request_id
            )
        names = snapshot.catalog.table_names(component)
        value = check_result(function, outcome.value_json, names, services.limits, nested=False)
        return CallResult(value, None, texts, snapshot.ts, request_id)


async def _check(services: Services, bundle: CodeBundle, environment: Mapping[str, str]) -> None:
    """Refuse a module that is not one default query, before anything runs."""
    analyzed = await services.runner.analyze(
        AnalyzeRequest(bundle, (_MODULE_PATH,), environment, 0.0, bytes(32))
    )
    if analyzed.failures:
        failure = analyzed.failures[0]
        raise CvxError(failure.code, failure.message, hint="Correct the query.")
    functions = analyzed.modules[_MODULE_PATH].functions
    if [function.name for function in functions] != ["default"]:
        raise CvxError(
            "InvalidTestQuery",
            "The module must have a query as its default export, and no other function.",
            hint="Write `export default query({ handler: async (ctx) => … })`.",
        )
    if functions[0].kind != "query":
        raise CvxError(
            "UnsupportedTestQuery", f"Only queries can be run this way, and this is a {functions[0].kind}."
        )
