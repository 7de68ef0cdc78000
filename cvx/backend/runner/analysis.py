"""What children say of analysed modules, made into the room's own types.

Source: reference/runtime-and-database.md §1.9.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec

from cvx.backend.runner.interface import (
    AnalyzedFunction,
    AnalyzedModule,
    AnalyzedRoute,
    AnalyzeFailure,
    AnalyzeRequest,
    AnalyzeResult,
    FunctionKind,
    FunctionOutcome,
    SourcePosition,
)

_LINES_SHOWN_MAX = 100


class _Position(msgspec.Struct):
    path: str
    line: int
    column: int


class _Function(msgspec.Struct):
    name: str
    kind: FunctionKind
    visibility: Literal["public", "internal"] | None
    args: str | None
    returns: str | None
    position: _Position | None


class _Route(msgspec.Struct):
    path: str
    method: str
    position: _Position | None


class _Module(msgspec.Struct):
    functions: list[_Function]
    routes: list[_Route] | None
    crons: str | None
    sourceIndex: int | None
    reuseContext: bool


_decoder = msgspec.json.Decoder(_Module)


async def analysis(
    request: AnalyzeRequest, analyze_one: Callable[[str, str], Awaitable[FunctionOutcome]]
) -> AnalyzeResult:
    """Everything that is asked for; `analyze_one` gets what it is ("module", "schema", "auth", "definition") and its
    path."""
    jobs: list[tuple[str, str]] = [("module", path) for path in request.paths]
    singles = (
        ("schema", request.schema_path),
        ("auth", request.auth_config_path),
        ("definition", request.definition_path),
    )
    jobs += [(mode, path) for mode, path in singles if path is not None]
    outcomes = await asyncio.gather(*(analyze_one(mode, path) for mode, path in jobs))
    modules: dict[str, AnalyzedModule] = {}
    texts: dict[str, str] = {}
    failures: list[AnalyzeFailure] = []
    env_read: set[str] = set()
    for (mode, path), outcome in zip(jobs, outcomes, strict=True):
        env_read |= outcome.env_read
        if outcome.value_json is None:
            failures.append(failure_text(mode, path, outcome))
        elif mode == "module":
            modules[path] = analyzed_module(path, outcome.value_json)
        else:
            texts[mode] = outcome.value_json.decode()
    return AnalyzeResult(
        modules,
        texts.get("schema"),
        texts.get("auth"),
        texts.get("definition"),
        frozenset(env_read),
        tuple(failures),
    )


def analyzed_module(path: str, value_json: bytes) -> AnalyzedModule:
    """The answer of an `analyze` message in mode "module"."""
    found = _decoder.decode(value_json)
    routes = None
    if found.routes is not None:
        routes = tuple(AnalyzedRoute(r.path, r.method, _position(r.position)) for r in found.routes)
    return AnalyzedModule(
        path,
        tuple(_function(each) for each in found.functions),
        routes,
        found.crons,
        found.sourceIndex,
        found.reuseContext,
    )


def _function(found: _Function) -> AnalyzedFunction:
    return AnalyzedFunction(
        found.name,
        found.kind,
        found.visibility,
        found.args,
        None if found.returns == "null" else found.returns,
        _position(found.position),
    )


def _position(found: _Position | None) -> SourcePosition | None:
    return None if found is None else SourcePosition(found.path, found.line, found.column)


def failure_text(mode: str, path: str, outcome: FunctionOutcome) -> AnalyzeFailure:
    """The whole text that the person who pushed reads: what failed, where, and what the module had logged."""
    error = outcome.error
    assert error is not None
    message = error.message.removeprefix("Uncaught ")
    text = f"Failed to analyze {path}: Uncaught {message}"
    if error.frames:
        text += f"\n{error.frames.rstrip()}"
    if outcome.log_lines:
        lines = [f"[{line.level}] {' '.join(line.messages)}" for line in outcome.log_lines[:_LINES_SHOWN_MAX]]
        text += "\nConsole output:\n" + "\n".join(lines)
    code = "InvalidModules"
    if mode == "schema":
        code = "InvalidSchema"
    elif mode == "auth":
        missing = "Environment variable " in error.message
        code = "AuthConfigMissingEnvironmentVariable" if missing else "InvalidAuthConfig"
    elif mode == "definition":
        code = "InvalidDefinition"
    return AnalyzeFailure(path, text, code)
