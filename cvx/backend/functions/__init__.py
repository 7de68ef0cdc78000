"""A function call from path and arguments to a result: executor, query cache, syscalls, system functions."""

from cvx.backend.functions.action_syscalls import HttpExchange
from cvx.backend.functions.calls import RequestMetadata
from cvx.backend.functions.executor import FunctionExecutor
from cvx.backend.functions.file_storage import FileStorage, FileUse, Reservation
from cvx.backend.functions.function_log import FinishedCall, FunctionLog
from cvx.backend.functions.module_loader import FunctionRegistry, LoadedFunction
from cvx.backend.functions.mutations import Errand, ErrandOver, Origin
from cvx.backend.functions.query_cache import QueryEntry
from cvx.backend.functions.results import (
    ActionResult,
    CallResult,
    FunctionError,
    HttpActionResult,
    LoggedLine,
    MutationResult,
    error_of_cvx,
    new_request_id,
    session_request_id,
)
from cvx.backend.functions.table_shapes import shape_of
from cvx.backend.functions.trusted_providers import TrustedProviders

__all__ = [
    "ActionResult",
    "CallResult",
    "Errand",
    "ErrandOver",
    "FileStorage",
    "FileUse",
    "FinishedCall",
    "FunctionError",
    "FunctionExecutor",
    "FunctionLog",
    "FunctionRegistry",
    "HttpActionResult",
    "HttpExchange",
    "LoadedFunction",
    "LoggedLine",
    "MutationResult",
    "Origin",
    "QueryEntry",
    "RequestMetadata",
    "Reservation",
    "TrustedProviders",
    "error_of_cvx",
    "new_request_id",
    "session_request_id",
    "shape_of",
]
