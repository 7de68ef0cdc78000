"""Functions of the backend's own, written in Python: `_system/…` paths.

They are called, cached and kept up to date exactly like a user's queries: each runs in a read-only transaction
whose ReadSet decides when it must run again. Only admins may call them; for anybody else they do not exist.

Source: design.md §1.5, §4; reference/cli-and-deploy.md §5.9.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from cvx.backend.database import Transaction
from cvx.backend.functions.calls import Services
from cvx.values import FunctionPath, Validator, Value, parse_validator


@dataclass(frozen=True, slots=True)
class SystemContext:
    """What a system function works with. `component` is whose tables and modules it is asked about."""

    tx: Transaction
    component: str
    services: Services


SystemQuery: TypeAlias = Callable[[SystemContext, dict[str, Any]], Value]


@dataclass(frozen=True, slots=True)
class SystemFunction:
    """One registered query."""

    path: str
    args: Validator
    body: SystemQuery


_functions: dict[tuple[str, str], SystemFunction] = {}


def system_query(path: str, args: dict[str, Any]) -> Callable[[SystemQuery], SystemQuery]:
    """Register a Python function as the query at `path`. `args`: field → validator JSON, "?" after optional ones."""
    fields = {
        name.rstrip("?"): {"fieldType": validator, "optional": name.endswith("?")}
        for name, validator in args.items()
    }
    parsed = FunctionPath.parse(path)

    def register(body: SystemQuery) -> SystemQuery:
        validator = parse_validator({"type": "object", "value": fields})
        _functions[parsed.module, parsed.export] = SystemFunction(path, validator, body)
        return body

    return register


def find_system_function(path: FunctionPath) -> SystemFunction | None:
    return _functions.get((path.module, path.export))
