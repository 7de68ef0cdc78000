"""The ring of calls, and of lines that running actions log, that `cvx logs` and the dashboard read.

Recording happens on every call and only keeps references; the documented JSON shape is made when somebody reads.
A query's or mutation's lines are in the entry of its end; an action's are there as it writes them.
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
from cvx.backend.runner import LogLine

Caller = Literal["Tester", "HttpApi", "HttpEndpoint", "SyncWorker", "Scheduler", "Cron", "Action"]

_KIND_NAMES = {"query": "Query", "mutation": "Mutation", "action": "Action", "http_action": "HttpAction"}
# A step that every float of this size can express.
_STEP_MS = 1 / 1024


@dataclass(frozen=True, slots=True)
class Conflict:
    """Why a mutation ran again."""

    table: str | None
    document_id: str | None
    write_source: str | None
    retries: int
    runs_again: bool = True


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose call it is: what all its entries begin with. `identifier` is `mod:fn`, or `POST /path` for an HTTP
    action; `kind` is query, mutation, action or http_action."""

    kind: str
    identifier: str
    request_id: str
    execution_id: str
    component: str = ""


@dataclass(slots=True)
class LoggedLines:
    """What an action wrote while it ran."""

    subject: Subject
    log_lines: Sequence[LoggedLine]
    position_ms: float = 0.0
    weight_bytes: int = 0

    error = None

    @property
    def request_id(self) -> str:
        return self.subject.request_id

    def entry(self, *, structured: bool) -> dict[str, Any]:
        """The `Progress` entry."""
        subject = self.subject
        return {
            "kind": "Progress",
            "udfType": _KIND_NAMES[subject.kind],
            "componentPath": subject.component or None,
            "identifier": subject.identifier,
            "timestamp": self.position_ms / 1000.0,
            "logLines": _rendered(self.log_lines, structured),
            "requestId": subject.request_id,
            "executionId": subject.execution_id,
        }


@dataclass(slots=True)
class FinishedCall:
    """One call, as it happened. `started_s` is a Unix time; when it ended is its position.

    `http_status` is an HTTP action's answer. `lines_streamed`: its lines have entries of their own already.
    """

    subject: Subject
    caller: str
    identity_type: str
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
    parent_execution_id: str | None = None
    http_status: int | None = None
    lines_streamed: bool = False
    position_ms: float = 0.0
    weight_bytes: int = 0
    """Roughly what its texts occupy."""

    @property
    def kind(self) -> str:
        return self.subject.kind

    @property
    def request_id(self) -> str:
        return self.subject.request_id

    def entry(self, *, structured: bool, all_lines: bool = False) -> dict[str, Any]:
        """The `Completion` entry. Log lines are objects for the command line and dashboard, else strings; those that
        were streamed are left out unless `all_lines`."""
        conflict, subject = self.conflict, self.subject
        lines = () if self.lines_streamed and not all_lines else self.log_lines
        return {
            "kind": "Completion",
            "udfType": _KIND_NAMES[subject.kind],
            "componentPath": subject.component or None,
            "identifier": subject.identifier,
            "logLines": _rendered(lines, structured),
            "timestamp": self.position_ms / 1000.0,
            "cachedResult": self.cached,
            "caller": self.caller,
            "parentExecutionId": self.parent_execution_id,
            "executionTime": self.seconds,
            "userExecutionTime": self.user_ms / 1000.0,
            "success": None if self.http_status is None else {"status": str(self.http_status)},
            "error": self.error,
            "requestId": subject.request_id,
            "executionId": subject.execution_id,
            "usageStats": _usage_stats(self.usage),
            "returnBytes": self.return_bytes,
            "occInfo": None
            if conflict is None
            else {
                "tableName": conflict.table,
                "documentId": conflict.document_id,
                "writeSource": conflict.write_source,
                "componentPath": subject.component or None,
                "retryCount": conflict.retries,
            },
            "willRetry": conflict is not None and conflict.runs_again,
            "executionTimestamp": self.started_s,
            "identityType": self.identity_type,
            "environment": self.environment,
        }


LogEntry = FinishedCall | LoggedLines


class FunctionLog:
    """The newest entries, bounded in number and in the text they hold. `wall_clock` gives Unix seconds."""

    def __init__(self, entries_max: int, bytes_max: int, wall_clock: Callable[[], float]) -> None:
        self._calls: deque[LogEntry] = deque()
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._wall_clock = wall_clock
        self._last_ms = 0.0
        self._waiting: list[asyncio.Future[None]] = []

    def record(self, call: LogEntry) -> None:
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
        """Finished calls after the cursor; otherwise as `entries`."""
        found, cursor_ms = self.entries(cursor_ms, request_id=request_id)
        return [entry for entry in found if isinstance(entry, FinishedCall)], cursor_ms

    def entries(self, cursor_ms: float, *, request_id: str | None = None) -> tuple[list[LogEntry], float]:
        """What came after the cursor (of one request only, if given), and the cursor to ask with next."""
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
            # Not wait_for: before Python 3.12 it may swallow a cancellation that comes together with the entry.
            await asyncio.wait([future], timeout=timeout_s)
        finally:
            if future in self._waiting:
                self._waiting.remove(future)


class RunningLines:
    """The lines of one running action: counted, kept for its end, and told to the log as they come.

    Lines that arrive in one turn of the loop make one entry. Past `lines_max` one line says that there were more.
    """

    def __init__(self, log: FunctionLog, subject: Subject, lines_max: int) -> None:
        self._log = log
        self._subject = subject
        self._lines_max = lines_max
        self._lines: list[LoggedLine] = []
        self._unsent: list[LoggedLine] = []

    def add(self, line: LogLine) -> None:
        """Note a line, as it is written."""
        count = len(self._lines)
        if count >= self._lines_max:
            return
        logged = LoggedLine(line if count < self._lines_max - 1 else overflow_line(self._lines_max, line))
        self._lines.append(logged)
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._tell)
        self._unsent.append(logged)

    def end(self) -> list[LoggedLine]:
        """All of them; whatever was not told yet is now."""
        self._tell()
        return self._lines

    def _tell(self) -> None:
        if self._unsent:
            lines, self._unsent = self._unsent, []
            self._log.record(LoggedLines(self._subject, lines))


def overflow_line(lines_max: int, cut: LogLine) -> LogLine:
    """What stands in the place of the last line allowed when there were more."""
    text = f"Log overflow (maximum {lines_max}). Remaining log lines omitted."
    return LogLine("ERROR", (text,), False, cut.timestamp_ms)


def _rendered(lines: Sequence[LoggedLine], structured: bool) -> list[Any]:
    return [line.structured() if structured else line.pretty() for line in lines]


def _weight(call: LogEntry) -> int:
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
        stats["storageReadBytes"] = usage.storage_bytes_read
        stats["storageWriteBytes"] = usage.storage_bytes_written
        stats["textIndexQueryBytes"] = usage.text_index_query_bytes
        stats["textIndexWriteQueryBytes"] = usage.text_index_bytes_written
        stats["vectorIndexReadBytes"] = stats["vectorIndexReadQueryBytes"] = usage.vector_index_query_bytes
        stats["vectorIndexWriteBytes"] = usage.vector_index_bytes_written
        stats["vectorIndexWriteQueryBytes"] = usage.vector_index_bytes_written
        stats["networkEgressBytes"] = usage.network_bytes_sent
        stats["memoryUsedMb"] = -(-usage.memory_used_bytes // 1_000_000)
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
