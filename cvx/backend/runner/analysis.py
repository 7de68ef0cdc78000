"""What the child says of an analysed module, made into the room's own types.

Source: reference/runtime-and-database.md §1.9.
"""

from __future__ import annotations

import msgspec

from cvx.backend.runner.interface import (
    AnalyzedFunction,
    AnalyzedModule,
    AnalyzedRoute,
    AnalyzeFailure,
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
    visibility: str | None
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
    visibility = found.visibility
    assert visibility in ("public", "internal", None)
    return AnalyzedFunction(
        found.name,
        found.kind,
        visibility,  # type: ignore[arg-type]
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
