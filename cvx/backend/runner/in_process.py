"""Functions that are written in Python: `_system/...`, which command lines and dashboards call.

Not a mock: these run in production, under the same executor, with the same transactions as functions in JavaScript.
A system function is a coroutine function of a context (the executor's choice, holding the transaction) and the decoded
arguments; what it returns is a Value. A CvxError it raises is a failure its caller sees; anything else is a fault of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cvx.backend.runner.interface import SystemFunction
from cvx.errors import CvxError

SystemKind = Literal["query", "mutation", "action"]


@dataclass(frozen=True)
class RegisteredFunction:
    """One system function: its path in canonical form (`_system/cli/tables.js:default`), kind and body."""

    path: str
    kind: SystemKind
    body: SystemFunction


class InProcessRunner:
    """Looks up and calls system functions. Filled while the backend is built, then only read."""

    def __init__(self) -> None:
        self._functions: dict[str, RegisteredFunction] = {}

    def register(self, path: str, kind: SystemKind) -> Callable[[SystemFunction], SystemFunction]:
        """Decorator: make a coroutine function callable as `path`."""

        def add(body: SystemFunction) -> SystemFunction:
            if path in self._functions:
                raise AssertionError(f"two system functions are called {path}")
            self._functions[path] = RegisteredFunction(path, kind, body)
            return body

        return add

    def find(self, path: str) -> RegisteredFunction | None:
        """The function at a canonical path, or None."""
        return self._functions.get(path)

    @property
    def functions(self) -> Mapping[str, RegisteredFunction]:
        return dict(self._functions)

    async def run(self, path: str, kind: SystemKind, context: Any, args: dict[str, Any]) -> Any:
        """Call it. Raises CvxError "FunctionNotFound" or "InvalidFunctionCall", and what the function raises."""
        found = self._functions.get(path)
        if found is None:
            raise CvxError("FunctionNotFound", f"There is no system function '{path}'.", kind="not_found")
        if found.kind != kind:
            raise CvxError(
                "InvalidFunctionCall",
                f"Trying to execute {path} as {kind.capitalize()}, but it is defined as {found.kind.capitalize()}.",
            )
        return await found.body(context, args)
