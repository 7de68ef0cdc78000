"""What admins ask besides pushing: environment variables, URLs, and the stream of finished calls.

Source: reference/cli-and-deploy.md §5.1, §5.2, §5.7; runtime-and-database.md §12.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Struct, UnsetType

LogLevelName: TypeAlias = Literal["DEBUG", "INFO", "LOG", "WARN", "ERROR"]
FunctionTypeName: TypeAlias = Literal["Query", "Mutation", "Action", "HttpAction"]


class _Camel(Struct, rename="camel", frozen=True, kw_only=True):
    """Base of everything here: camelCase keys on the wire."""


# ----------------------------------------------------------------------------------------- environment, URLs


class EnvironmentChange(_Camel, frozen=True, kw_only=True):
    """Set a variable, or remove it when `value` is null."""

    name: str
    value: str | None = None


class UpdateEnvironmentRequest(_Camel, frozen=True, kw_only=True):
    """All changes happen, or none."""

    changes: list[EnvironmentChange]


class ListEnvironmentResponse(_Camel, frozen=True, kw_only=True):
    environment_variables: dict[str, str]


class CanonicalUrls(_Camel, frozen=True, kw_only=True):
    """Where clients reach the deployment (`convex_cloud_url`) and its HTTP actions (`convex_site_url`)."""

    convex_cloud_url: str
    convex_site_url: str


class UpdateCanonicalUrlRequest(_Camel, frozen=True, kw_only=True):
    """`url` null goes back to the default."""

    request_destination: Literal["convexCloud", "convexSite"]
    url: str | None = None


class CancelJobRequest(_Camel, frozen=True, kw_only=True):
    """`id` is that of a document in `_scheduled_functions`."""

    id: str
    component_id: str | None = None
    component_path: str | None = None


class CancelAllJobsRequest(_Camel, frozen=True, kw_only=True):
    """Without `udf_path`: the jobs of all functions."""

    udf_path: str | None = None
    component_id: str | None = None
    component_path: str | None = None


class CheckAdminKeyResponse(_Camel, frozen=True, kw_only=True):
    success: bool = True
    allowed_ops: list[str] = []
    is_read_only: bool = False


# ------------------------------------------------------------------------------------------------------- logs


class LogLineSystemMetadata(_Camel, frozen=True, kw_only=True):
    """Marks a line that the server wrote, not the function."""

    code: str


class LogLineJson(_Camel, frozen=True, kw_only=True):
    """One console call. `timestamp` in ms."""

    messages: list[str]
    level: LogLevelName
    timestamp: float
    is_truncated: bool = False
    system_metadata: LogLineSystemMetadata | UnsetType = UNSET
    component_path: str | UnsetType = UNSET
    udf_path: str | UnsetType = UNSET

    def text(self) -> str:
        """As clients get it that do not know the structured form: `[LOG] 'hello' 1`."""
        return log_line_text(self.level, self.messages, self.is_truncated)


def log_line_text(level: str, messages: Sequence[str], is_truncated: bool = False) -> str:
    """`[LEVEL] message message`, and a mark when the line was cut."""
    text = f"[{level}] {' '.join(messages)}"
    return text + " (truncated due to length)" if is_truncated else text


class UsageStats(_Camel, frozen=True, kw_only=True):
    """What one call used. Bytes, documents, and MB of memory."""

    database_read_bytes: int = 0
    database_write_bytes: int = 0
    database_io_read_bytes: int = 0
    database_io_write_bytes: int = 0
    database_read_documents: int = 0
    database_write_documents: int = 0
    storage_read_bytes: int = 0
    storage_write_bytes: int = 0
    vector_index_read_bytes: int = 0
    vector_index_write_bytes: int = 0
    text_index_query_bytes: int = 0
    text_index_write_query_bytes: int = 0
    vector_index_read_query_bytes: int = 0
    vector_index_write_query_bytes: int = 0
    network_egress_bytes: int = 0
    memory_used_mb: int = 0


class OccInfo(_Camel, frozen=True, kw_only=True):
    """Which write made a mutation run again."""

    table_name: str | None = None
    document_id: str | None = None
    write_source: str | None = None
    component_path: str | None = None
    retry_count: int = 0


class HttpSuccess(_Camel, frozen=True, kw_only=True):
    status: str


class Completion(_Camel, frozen=True, kw_only=True, tag_field="kind", tag="Completion"):
    """A finished call. `timestamp` and `execution_timestamp` in s since 1970, `execution_time` in s.

    `identifier` is `mod:fn`, or `POST /path` for an HTTP action. Log lines are objects or texts, as the
    client asked for.
    """

    udf_type: FunctionTypeName
    identifier: str
    timestamp: float
    execution_time: float
    request_id: str
    execution_id: str
    caller: str
    environment: Literal["isolate", "node"] = "isolate"
    component_path: str | None = None
    log_lines: Sequence[LogLineJson | str] = ()
    cached_result: bool = False
    parent_execution_id: str | None = None
    user_execution_time: float | None = None
    success: HttpSuccess | None = None
    error: str | None = None
    usage_stats: UsageStats = UsageStats()
    return_bytes: int | None = None
    occ_info: OccInfo | None = None
    will_retry: bool = False
    execution_timestamp: float | None = None
    identity_type: str = "unknown"


class Progress(_Camel, frozen=True, kw_only=True, tag_field="kind", tag="Progress"):
    """Log lines of an action that is still running."""

    udf_type: FunctionTypeName
    identifier: str
    timestamp: float
    request_id: str
    execution_id: str
    component_path: str | None = None
    log_lines: Sequence[LogLineJson | str] = ()


LogEntry: TypeAlias = Completion | Progress


class StreamLogsResponse(_Camel, frozen=True, kw_only=True):
    """The entries after the cursor that was asked for, and the cursor to ask with next (ms)."""

    entries: list[Any]
    new_cursor: float


def with_text_lines(entry: LogEntry) -> LogEntry:
    """The entry for clients that expect log lines as text."""
    lines = [line.text() if isinstance(line, LogLineJson) else line for line in entry.log_lines]
    return msgspec.structs.replace(entry, log_lines=lines)
