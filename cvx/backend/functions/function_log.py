"""The ring of finished calls that `cvx logs` and the dashboard read.

Recording happens on every call and only keeps references; the documented JSON shape is made when somebody reads.
Positions are milliseconds since 1970 that strictly increase, so a reader asks for what came after its last one.

Source: reference/runtime-and-database.md §12; cli-and-deploy.md §5.7.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from cvx.backend.database import Usage
from cvx.backend.functions.results import LoggedLine
from cvx.values import FunctionPath

Caller = Literal["Tester", "HttpApi", "HttpEndpoint", "SyncWorker", "Scheduler", "Cron", "Action"]

_KIND_NAMES = {"query": "Query", "mutation": "Mutation", "action": "Action"}
# A step that every float of this size can express.
_STEP_MS = 1 / 1024


@dataclass(frozen=True, slots=True)
class Conflict:
    """Why a mutation ran again."""

    table: str | None
    document_id: str | None
    write_source: str | None
    retries: int


@dataclass(slots=True)
class FinishedCall:
    """One call, as it happened. `started_s` and `finished_s` are Unix times; `finished_s` is the position."""

    path: FunctionPath
    kind: str
    caller: str
    identity_type: str
    request_id: str
    execution_id: str
    started_s: float
    seconds: float
    user_ms: float
    cached: bool
    log_lines: Sequence[LoggedLine]
    error: str | None
    return_bytes: int | None
    usage: Usage | None
    conflict: Conflict | None = None
    environment: str = "isolate"
    position_ms: float = 0.0
    weight_bytes: int = 0
    """Roughly what its texts occupy."""

    def entry(self, *, structured: bool) -> dict[str, Any]:
        """The `Completion` entry. Log lines are objects for the command line and dashboard, else strings."""
        conflict = self.conflict
        return {
            "kind": "Completion",
            "udfType": _KIND_NAMES[self.kind],
            "componentPath": self.path.component or None,
            "identifier": self.path.udf_path,
            "logLines": [line.structured() if structured else line.pretty() for line in self.log_lines],
            "timestamp": self.position_ms / 1000.0,
            "cachedResult": self.cached,
            "caller": self.caller,
            "parentExecutionId": None,
            "executionTime": self.seconds,
            "userExecutionTime": self.user_ms / 1000.0,
            "success": None,
            "error": self.error,
            "requestId": self.request_id,
            "executionId": self.execution_id,
            "usageStats": _usage_stats(self.usage),
            "returnBytes": self.return_bytes,
            "occInfo": None
            if conflict is None
            else {
                "tableName": conflict.table,
                "documentId": conflict.document_id,
                "writeSource": conflict.write_source,
                "componentPath": self.path.component or None,
                "retryCount": conflict.retries,
            },
            "willRetry": conflict is not None,
            "executionTimestamp": self.started_s,
            "identityType": self.identity_type,
            "environment": self.environment,
        }


class FunctionLog:
    """The newest calls, bounded in number and in the text they hold. `wall_clock` gives Unix seconds."""

    def __init__(self, entries_max: int, bytes_max: int, wall_clock: Callable[[], float]) -> None:
        self._calls: deque[FinishedCall] = deque()
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._wall_clock = wall_clock
        self._last_ms = 0.0
        self._waiting: list[asyncio.Future[None]] = []

    def record(self, call: FinishedCall) -> None:
        self._last_ms = call.position_ms = max(self._wall_clock() * 1000.0, self._last_ms + _STEP_MS)
        call.weight_bytes = _weight(call)
        calls = self._calls
        calls.append(call)
        self._bytes += call.weight_bytes
        while len(calls) > self._entries_max or (self._bytes > self._bytes_max and len(calls) > 1):
            self._bytes -= calls.popleft().weight_bytes
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    def calls(self, cursor_ms: float, *, request_id: str | None = None) -> tuple[list[FinishedCall], float]:
        """Calls after the cursor (of one request only, if given), and the cursor to ask with next."""
        calls = self._calls
        start = bisect_right(calls, cursor_ms, key=lambda call: call.position_ms)
        found = [
            call for call in islice(calls, start, None) if request_id is None or call.request_id == request_id
        ]
        return found, calls[-1].position_ms if len(calls) > start else cursor_ms

    async def wait(self, cursor_ms: float, timeout_s: float) -> None:
        """Return when there is a call after the cursor, or after `timeout_s`."""
        if self._calls and self._calls[-1].position_ms > cursor_ms:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await asyncio.wait_for(future, timeout_s)
        except asyncio.TimeoutError:
            pass
        finally:
            if future in self._waiting:
                self._waiting.remove(future)


def _weight(call: FinishedCall) -> int:
    size = 0 if call.error is None else len(call.error)
    for logged in call.log_lines:
        size += sum(map(len, logged.line.messages))
    return size


def _usage_stats(usage: Usage | None) -> dict[str, float]:
    stats: dict[str, float] = dict.fromkeys(_USAGE_NAMES, 0)
    if usage is not None:
        stats["databaseReadBytes"] = stats["databaseIoReadBytes"] = usage.bytes_read
        stats["databaseWriteBytes"] = stats["databaseIoWriteBytes"] = usage.bytes_written
        stats["databaseReadDocuments"] = usage.documents_read
        stats["databaseWriteDocuments"] = usage.documents_written
    return stats


_USAGE_NAMES = (
    "databaseReadBytes",
    "databaseWriteBytes",
    "databaseIoReadBytes",
    "databaseIoWriteBytes",
    "databaseReadDocuments",
    "databaseWriteDocuments",
    "storageReadBytes",
    "storageWriteBytes",
    "vectorIndexReadBytes",
    "vectorIndexWriteBytes",
    "textIndexQueryBytes",
    "textIndexWriteQueryBytes",
    "vectorIndexReadQueryBytes",
    "vectorIndexWriteQueryBytes",
    "networkEgressBytes",
    "memoryUsedMb",
)
