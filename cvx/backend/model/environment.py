"""Environment variables: one row each in `_environment_variables`.

Rule: a change is checked as a whole before anything is written, so it happens completely or not at all.

Source: reference/cli-and-deploy.md §5.1; runtime-and-database.md §3.1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cvx.backend.config import Limits
from cvx.backend.database import Transaction
from cvx.errors import CvxError
from cvx.values import KeyRange, encode_key, prefix_range

VARIABLES = "_environment_variables"
BY_NAME = "by_name"

BUILT_IN_NAMES = frozenset({"CONVEX_CLOUD_URL", "CONVEX_SITE_URL"})

_name_pattern = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class EnvironmentChange:
    """Set a variable, or remove it when `value` is None."""

    name: str
    value: str | None


def environment(tx: Transaction) -> dict[str, str]:
    """All variables set by the user, in name order (built-in ones are not listed)."""
    return {document["name"]: document["value"] for document in documents(tx)}


def documents(tx: Transaction) -> list[dict[str, Any]]:
    """The rows themselves, in name order."""
    return list(tx.all(VARIABLES, BY_NAME, [], privileged=True))


def variable(tx: Transaction, name: str) -> str | None:
    document = tx.first(VARIABLES, BY_NAME, [name], privileged=True)
    return None if document is None else document["value"]


def name_range(name: str) -> KeyRange:
    """Where the row of this variable is, or would be, in `_environment_variables.by_name`."""
    return prefix_range(encode_key([name]))


def change_environment(tx: Transaction, changes: Sequence[EnvironmentChange], limits: Limits) -> None:
    """Apply all changes or none. Raises CvxError with the code of the first rule broken:

    EnvVarNameNotUnique, EnvironmentVariableNameInvalid, EnvironmentVariableNameTooLong, EnvVarNameForbidden,
    EnvironmentVariableValueTooLarge, EnvVarLimitMet, EnvVarTotalSizeLimitMet.
    """
    seen: set[str] = set()
    for change in changes:
        if change.name in seen:
            raise CvxError(
                "EnvVarNameNotUnique", f"Environment variable '{change.name}' occurs twice in one request."
            )
        seen.add(change.name)
        _check(change, limits)
    rows = {document["name"]: document for document in documents(tx)}
    after = {name: document["value"] for name, document in rows.items()}
    for change in changes:
        if change.value is None:
            after.pop(change.name, None)
        else:
            after[change.name] = change.value
    _check_totals(after, limits)
    for change in changes:
        row = rows.get(change.name)
        if change.value is None:
            if row is not None:
                tx.delete(row["_id"], privileged=True)
        elif row is None:
            tx.insert(VARIABLES, {"name": change.name, "value": change.value}, privileged=True)
        elif row["value"] != change.value:
            tx.patch(row["_id"], {"value": change.value}, privileged=True)


def _check(change: EnvironmentChange, limits: Limits) -> None:
    name = change.name
    if len(name) > limits.environment_name_chars_max:
        raise CvxError(
            "EnvironmentVariableNameTooLong",
            f"Environment variable name '{name[:40]}…' has {len(name)} characters; "
            f"at most {limits.environment_name_chars_max} are allowed.",
            hint="Choose a shorter name.",
        )
    if _name_pattern.fullmatch(name) is None:
        raise CvxError(
            "EnvironmentVariableNameInvalid",
            f"'{name}' is not a valid name for an environment variable.",
            hint="Start with a letter or underscore; use letters, digits and underscores.",
        )
    if change.value is None:
        return
    if name in BUILT_IN_NAMES:
        raise CvxError(
            "EnvVarNameForbidden", f"Environment variable '{name}' is built in and cannot be set.",
            hint="Choose another name.",
        )  # fmt: skip
    size = len(change.value.encode())
    if size > limits.environment_value_bytes_max:
        raise CvxError(
            "EnvironmentVariableValueTooLarge",
            f"The value of environment variable '{name}' has {size} bytes; "
            f"at most {limits.environment_value_bytes_max} are allowed.",
            hint="Keep large configuration in a table or in file storage.",
        )


def _check_totals(after: dict[str, str], limits: Limits) -> None:
    if len(after) > limits.environment_variables_max:
        raise CvxError(
            "EnvVarLimitMet",
            f"There would be {len(after)} environment variables; "
            f"at most {limits.environment_variables_max} are allowed.",
            hint="Remove variables that are no longer used.",
            retry_when="env",
        )
    total = sum(len(name) + len(value.encode()) for name, value in after.items())
    if total > limits.environment_bytes_max:
        raise CvxError(
            "EnvVarTotalSizeLimitMet",
            f"All environment variables together would have {total} bytes; "
            f"at most {limits.environment_bytes_max} are allowed.",
            hint="Remove variables that are no longer used.",
            retry_when="env",
        )
