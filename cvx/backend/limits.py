"""What people may know and change about `Limits`: groups, units, where a bound is documented, values as text.

Rule: the values are in `config.Limits` alone; this is what is said about them. A field that nobody has written about
here still has its unit (from its name) and a group. Bounds of the data itself are shown beside them and cannot be changed:
clients know them, and stored data rests on them.

Source: reference/runtime-and-database.md §3.3, §4.5; cli-and-deploy.md §2.4, §5.1.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

from cvx.backend.config import Limits
from cvx.errors import CvxError
from cvx.protocol import schema
from cvx.values import (
    ARRAY_LENGTH_MAX,
    DOCUMENT_NESTING_MAX,
    DOCUMENT_SIZE_BYTES_MAX,
    FIELD_NAME_LENGTH_MAX,
    OBJECT_FIELDS_MAX,
    VALUE_NESTING_MAX,
    VALUE_SIZE_BYTES_MAX,
)

Override = tuple[str, object, str]
"""A limit's name, its value (a number, or text as people write it), and where that was said."""


@dataclass(frozen=True)
class LimitInfo:
    """One limit as it is in force. `documented` is None for bounds of cvx's own making."""

    name: str
    value: int | float
    default: int | float
    unit: str
    group: str
    documented: str | None
    origin: str

    @property
    def is_default(self) -> bool:
        return self.value == self.default

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "value": self.value,
            "default": self.default,
            "unit": self.unit,
            "group": self.group,
            "origin": self.origin,
            "documented": self.documented,
        }


_DOCS = "docs.convex.dev/production/state/limits"

# Group → how the names of its limits begin; the first group that fits has it.
_GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "One transaction",
        (
            "documents_",
            "read_",
            "written_",
            "system_documents",
            "system_written",
            "functions_scheduled",
            "scheduled_args",
        ),
    ),
    ("Queries", ("query_operators", "page_size", "scan_")),
    ("Tables and indexes", ("tables_", "indexes_", "index_")),
    ("Text and vector search", ("search_", "text_", "vector_")),
    ("Environment variables", ("environment_",)),
    ("Functions", ("function_args", "function_result", "function_user", "function_system", "nested_calls")),
    ("Actions and HTTP actions", ("action_", "actions_", "nested_actions", "http_", "node_")),
    ("Scheduler and crons", ("scheduled_", "scheduler_", "job_", "jobs_", "cron_", "crons_")),
    ("File storage", ("storage_", "stored_", "file_", "files_", "upload", "download", "blob_")),
    ("Imports and exports", ("import", "export")),
    ("Auth", ("auth_", "signed_", "dev_token", "token_", "jwks_", "oidc_", "identity_", "key_set")),
    ("Logs", ("log_line", "function_log", "log_poll")),
    ("What admins look at", ("shape_",)),
    ("Query cache and retries", ("query_", "mutation_", "conflict_", "snapshot_attempts", "session_request")),
    (
        "Clients and requests",
        ("socket_", "transition_", "request_", "echo_", "keep_alive", "stop_", "health_"),
    ),
    ("Pushes", ("push_", "user_modules", "components", "module_", "schema_wait", "unfinished_push")),
    ("Deno children", ("runner_",)),
    (
        "The engine",
        (
            "snapshot_",
            "pinned_",
            "idle_",
            "write_log",
            "log_retention",
            "retention_",
            "store_",
            "loop_",
            "conflicts_",
            "commit_",
            "backfill_",
            "schema_check",
            "checkpoint_",
            "restart_",
            "page_cache",
        ),
    ),
)
OTHER = "Other"
DATA = "Data (fixed)"
FIXED = "fixed"

_FIXED: Mapping[str, int] = {
    "document_bytes_max": DOCUMENT_SIZE_BYTES_MAX,
    "document_nesting_max": DOCUMENT_NESTING_MAX,
    "value_bytes_max": VALUE_SIZE_BYTES_MAX,
    "value_nesting_max": VALUE_NESTING_MAX,
    "array_length_max": ARRAY_LENGTH_MAX,
    "object_fields_max": OBJECT_FIELDS_MAX,
    "field_name_chars_max": FIELD_NAME_LENGTH_MAX,
    "schema_tables_max": schema.TABLES_MAX,
    "schema_indexes_per_table_max": schema.INDEXES_PER_TABLE_MAX,
    "index_fields_max": schema.INDEX_FIELDS_MAX,
    "index_filter_fields_max": schema.FILTER_FIELDS_MAX,
    "vector_dimensions_max": schema.VECTOR_DIMENSIONS_MAX,
}

_DOCUMENTED: dict[str, str] = {
    **dict.fromkeys(
        (
            "documents_read_max",
            "read_bytes_max",
            "read_intervals_max",
            "documents_written_max",
            "written_bytes_max",
            "functions_scheduled_max",
            "scheduled_args_bytes_max",
            "function_args_bytes_max",
            "function_result_bytes_max",
            "function_user_time_s",
            "document_bytes_max",
            "document_nesting_max",
            "object_fields_max",
            "schema_tables_max",
            "action_time_s",
            "node_action_time_s",
            "node_args_bytes_max",
            "node_heap_bytes_max",
            "array_length_max",
            "index_filter_fields_max",
            "vector_dimensions_max",
            "tables_max",
            "indexes_per_table_max",
            "index_fields_max",
            "environment_name_chars_max",
            "environment_value_bytes_max",
            "environment_variables_max",
            "user_modules_max",
            "log_lines_max",
            "log_line_bytes_max",
            "http_request_bytes_max",
            "http_response_bytes_max",
        ),
        _DOCS,
    ),
    "query_operators_max": "docs.convex.dev/database/reading-data",
    "page_size_max": "docs.convex.dev/database/pagination",
    "nested_calls_max": "docs.convex.dev/functions/query-functions",
}

# Of these none at all is a choice; anything else of which there may be none would stop the backend.
_MAY_BE_ZERO = frozenset({"runner_early_writes_max"})

_BYTE_UNITS = {
    "": 1,
    "b": 1,
    "kb": 1_000,
    "mb": 1_000_000,
    "gb": 1_000_000_000,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
}
_SECOND_UNITS = {"": 1.0, "s": 1.0, "ms": 0.001, "min": 60.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_UNITS: Mapping[str, Mapping[str, int | float]] = {"bytes": _BYTE_UNITS, "s": _SECOND_UNITS}
_number = re.compile(r"([0-9][0-9_]*(?:\.[0-9]+)?)\s*([A-Za-z]*)", re.ASCII)


def limits_with(overrides: Iterable[Override]) -> Limits:
    """The default limits with these changed; a later one wins. Raises CvxError UnknownLimit, InvalidLimitValue."""
    values = {name: _value(name, given, origin) for name, given, origin in overrides}
    return replace(Limits(), **values)  # type: ignore[arg-type]  # Names and kinds have been checked.


def described(overrides: Iterable[Override] = ()) -> list[LimitInfo]:
    """Every limit, group by group, with the values that `limits_with` gives it."""
    overrides = list(overrides)
    limits = limits_with(overrides)
    origins = {name: origin for name, _, origin in overrides}
    order = [group for group, _ in _GROUPS] + [OTHER, DATA]
    found = [
        LimitInfo(
            name=name,
            value=default if name in _FIXED else getattr(limits, name),
            default=default,
            unit=unit_of(name),
            group=group_of(name),
            documented=_DOCUMENTED.get(name),
            origin=FIXED if name in _FIXED else origins.get(name, "default"),
        )
        for name, default in {**_defaults(), **_FIXED}.items()
    ]
    return sorted(found, key=lambda info: order.index(info.group))


def group_of(name: str) -> str:
    """The heading a limit stands under."""
    if name in _FIXED:
        return DATA
    return next((group for group, beginnings in _GROUPS if name.startswith(beginnings)), OTHER)


def unit_of(name: str) -> str:
    """The unit, which every limit has in its name: bytes, s, ms, rows, chars, or a number of things."""
    words = name.removesuffix("_max").split("_")
    return words[-1] if words[-1] in ("bytes", "s", "ms", "rows", "chars") else "count"


def shown(value: int | float, unit: str) -> str:
    """A value as people read it: `16 MiB`, `1.5 s`, `32,000`."""
    if unit == "bytes":
        for word, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
            if value >= size and value % size == 0:
                return f"{int(value) // size} {word}"
        return f"{value:,} bytes"
    number = f"{value:,}" if isinstance(value, int) else f"{value:,.10g}"
    return number if unit == "count" else f"{number} {unit}"


def known(name: str) -> None:
    """Raise CvxError UnknownLimit unless there is a limit of this name."""
    names = [*_defaults(), *_FIXED]
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    raise CvxError(
        "UnknownLimit",
        f"There is no limit called {name!r}.",
        hint=f"Did you mean {near[0]}?" if near else "See them all: cvx backend limits",
        retry_when="files",
    )


def _defaults() -> Mapping[str, int | float]:
    return {field.name: field.default for field in fields(Limits) if field.default is not MISSING}


def _value(name: str, given: object, origin: str) -> int | float:
    known(name)
    if name in _FIXED:
        raise CvxError(
            "InvalidLimitValue",
            f"The limit {name} cannot be changed ({origin}): data that is stored rests on it.",
            hint="Leave it away.",
            retry_when="files",
        )
    whole, unit = isinstance(_defaults()[name], int), unit_of(name)
    value = _parsed(given, unit)
    if whole and value is not None and value == int(value):
        value = int(value)
    if value is None or (whole and not isinstance(value, int)):
        wanted = "a whole number" if whole else "a number"
        example = {"bytes": " (or as in 16MiB)", "s": " of seconds (or as in 10min)"}.get(unit, "")
        raise _invalid(name, given, origin, f"it must be {wanted}{example}")
    if value == 0 and name not in _MAY_BE_ZERO:
        raise _invalid(name, given, origin, "it must be greater than 0")
    return value if whole else float(value)


def _parsed(given: object, unit: str) -> int | float | None:
    """None for what is no number that is 0 or more."""
    if isinstance(given, bool):
        return None
    if isinstance(given, (int, float)):
        return given if given >= 0 and math.isfinite(given) else None
    match = _number.fullmatch(given.strip()) if isinstance(given, str) else None
    if match is None:
        return None
    units = _UNITS.get(unit) or {"": 1, unit: 1}
    factor = units.get(match[2].lower())
    digits = match[1].replace("_", "")
    if factor is None:
        return None
    return (float(digits) if "." in digits else int(digits)) * factor


def _invalid(name: str, given: object, origin: str, why: str) -> CvxError:
    return CvxError(
        "InvalidLimitValue",
        f"The limit {name} cannot be {str(given)[:40]!r} ({origin}): {why}.",
        hint=f"Its default is {_defaults()[name]}.",
        retry_when="files",
    )
