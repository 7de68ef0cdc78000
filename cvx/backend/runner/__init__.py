"""The runner room's face: runs functions in Deno children; knows no database."""

from __future__ import annotations

from cvx.backend.runner.interface import (
    AnalyzedFunction,
    AnalyzedModule,
    AnalyzedRoute,
    AnalyzeFailure,
    AnalyzeRequest,
    AnalyzeResult,
    CodeBundle,
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
)
from cvx.backend.runner.pool import IsolatePool

__all__ = [
    "AnalyzeFailure",
    "AnalyzeRequest",
    "AnalyzeResult",
    "AnalyzedFunction",
    "AnalyzedModule",
    "AnalyzedRoute",
    "CodeBundle",
    "FunctionCall",
    "FunctionFailure",
    "FunctionKind",
    "FunctionOutcome",
    "FunctionRunner",
    "IsolatePool",
    "LogLevel",
    "LogLine",
    "ModuleSource",
    "QueryPage",
    "SourcePosition",
    "Syscall",
    "SyscallFailure",
    "SyscallHost",
    "SyscallResult",
]
