"""A function call from path and arguments to a result: executor, query cache, syscalls, system functions."""

from cvx.backend.functions.calls import RequestMetadata
from cvx.backend.functions.executor import FunctionExecutor
from cvx.backend.functions.function_log import FinishedCall, FunctionLog
from cvx.backend.functions.module_loader import FunctionRegistry, LoadedFunction
from cvx.backend.functions.mutations import Origin
from cvx.backend.functions.query_cache import QueryEntry
from cvx.backend.functions.results import (
    ActionResult,
    CallResult,
    FunctionError,
    LoggedLine,
    MutationResult,
    error_of_cvx,
    new_request_id,
    session_request_id,
)

__all__ = [
    "ActionResult",
    "CallResult",
    "FinishedCall",
    "FunctionError",
    "FunctionExecutor",
    "FunctionLog",
    "FunctionRegistry",
    "LoadedFunction",
    "LoggedLine",
    "MutationResult",
    "Origin",
    "QueryEntry",
    "RequestMetadata",
    "error_of_cvx",
    "new_request_id",
    "session_request_id",
]
