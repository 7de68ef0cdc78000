"""The runner room's face: runs functions in Deno children; knows no database."""

from __future__ import annotations

from cvx.backend.runner.action_child import ActionProfile, inside_action
from cvx.backend.runner.action_pool import ActionPool
from cvx.backend.runner.actions import (
    ActionCall,
    ActionHost,
    ActionOutcome,
    ActionRunner,
    HeaderPairs,
    HttpRequestHead,
    HttpResponseHead,
    StoredBlob,
)
from cvx.backend.runner.interface import (
    AnalyzedFunction,
    AnalyzedModule,
    AnalyzedRoute,
    AnalyzeFailure,
    AnalyzeRequest,
    AnalyzeResult,
    CodeBundle,
    Environment,
    FunctionCall,
    FunctionFailure,
    FunctionKind,
    FunctionOutcome,
    FunctionRunner,
    LogLevel,
    LogLine,
    ModuleSource,
    QueryPage,
    SourcePosition,
    Syscall,
    SyscallFailure,
    SyscallHost,
    SyscallResult,
    TablesChanged,
)
from cvx.backend.runner.node_packages import package_set_key
from cvx.backend.runner.node_pool import NodePool
from cvx.backend.runner.pool import IsolatePool

__all__ = [
    "ActionCall",
    "ActionHost",
    "ActionOutcome",
    "ActionPool",
    "ActionProfile",
    "ActionRunner",
    "AnalyzeFailure",
    "AnalyzeRequest",
    "AnalyzeResult",
    "AnalyzedFunction",
    "AnalyzedModule",
    "AnalyzedRoute",
    "CodeBundle",
    "Environment",
    "FunctionCall",
    "FunctionFailure",
    "FunctionKind",
    "FunctionOutcome",
    "FunctionRunner",
    "HeaderPairs",
    "HttpRequestHead",
    "HttpResponseHead",
    "IsolatePool",
    "LogLevel",
    "LogLine",
    "ModuleSource",
    "NodePool",
    "QueryPage",
    "SourcePosition",
    "StoredBlob",
    "Syscall",
    "SyscallFailure",
    "SyscallHost",
    "SyscallResult",
    "TablesChanged",
    "inside_action",
    "package_set_key",
]
