"""Environment variables that the app declares in convex.config.ts: which must be set, and to what.

Rule: pure.

Source: reference/cli-and-deploy.md §2.9, §2.10, §5.1.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from cvx.backend.model.environment import EnvironmentChange
from cvx.errors import CvxError
from cvx.values import TableNames, TableNumber, parse_validator_text

Declared = Sequence[Sequence[Any]]
"""Pairs of a name and `{type: "value", value: <validator JSON text>, optional?}`."""


class _NoTables:
    """Ids mean nothing in an environment variable."""

    def name_of(self, table: TableNumber) -> str | None:
        return None


NO_TABLES: TableNames = _NoTables()


def check_declared(
    declared: Declared | None, variables: Mapping[str, str], *, only: Collection[str] | None = None
) -> None:
    """Raise CvxError MissingEnvironmentVariables or InvalidEnvironmentVariable when a declaration is not met.

    With `only`, look at the values of these variables alone, and do not ask that they are set.
    """
    missing = [
        name
        for name, spec in declared or ()
        if not spec.get("optional") and name not in variables and only is None
    ]
    if missing:
        raise CvxError(
            "MissingEnvironmentVariables",
            f"Environment variables that the app declares as required are not set: {', '.join(sorted(missing))}. "
            "Set them and push again.",
            hint=f"Set it with `cvx env set {missing[0]} <value>`.",
            retry_when="env",
        )
    for name, spec in declared or ():
        if name not in variables or (only is not None and name not in only):
            continue
        validator = parse_validator_text(spec["value"])
        if not validator.accepts(variables[name], NO_TABLES):
            raise CvxError(
                "InvalidEnvironmentVariable",
                f"The value of environment variable {name} does not match its declaration {validator.source()} "
                "in convex.config.ts.",
                hint=f"Set {name} to a value that does.",
                retry_when="env",
            )


def check_removed(declared: Declared | None, changes: Sequence[EnvironmentChange]) -> None:
    """Raise CvxError RequiredEnvironmentVariable when a change removes what the app declares as required."""
    required = {name for name, spec in declared or () if not spec.get("optional")}
    for change in changes:
        if change.value is None and change.name in required:
            raise CvxError(
                "RequiredEnvironmentVariable",
                f"Environment variable {change.name} is declared as required in convex.config.ts "
                "and cannot be removed.",
                hint="Set it to another value, or remove its declaration and push first.",
                retry_when="files",
            )
