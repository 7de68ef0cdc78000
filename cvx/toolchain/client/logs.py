"""Follow a deployment's function log, through restarts of the deployment.

Source: reference/cli-and-deploy.md §5.7.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import msgspec

from cvx.errors import CvxError
from cvx.toolchain.client.http import DeploymentClient, LogEntry, LogLine, LogPage
from cvx.toolchain.client.tasks import end_task

RETRY_FIRST_S = 0.25
RETRY_MAX_S = 16.0
REFUSED_WITHIN_S = 0.25
"""A deployment that fails so soon was never there; later, it went away."""
EMPTY_AFTER_S = 3.0
"""A deployment that has answered nothing by then has nothing: it answers when something happens."""


@dataclass(frozen=True)
class LoggedCall:
    """One entry, decoded and as it was sent."""

    entry: LogEntry
    raw: bytes


async def follow_logs(
    client: DeploymentClient, *, history: int | None = 0, follow: bool = True, since: float | None = None
) -> AsyncIterator[LoggedCall]:
    """The last `history` entries (None: all that are kept), then, with `follow`, every new one.

    `since` (ms, the deployment's clock) begins there instead and asks for no history.

    Failures are waited out with a growing delay, except a refused key (`forbidden`), a deployment that
    was never there, and any failure when not following.
    """
    begun: asyncio.Task[LogPage] | None = None
    asked_at = time.time()
    first = LogPage([], since or 0)
    if since is None:
        begun = asyncio.create_task(client.function_logs(0))
        await asyncio.wait({begun}, timeout=REFUSED_WITHIN_S if follow else EMPTY_AFTER_S)
        if begun.done():
            first, begun = begun.result(), None
    waited = begun is not None  # The first answer is still to come, however long that takes.
    for call in _history(first, history, asked_at):
        yield call
    cursor, delay = first.new_cursor, RETRY_FIRST_S
    try:
        while follow:
            try:
                page = await (begun or client.function_logs(cursor))
            except CvxError as error:
                if error.kind in ("forbidden", "unauthenticated", "not_found"):
                    raise
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY_MAX_S)
                continue
            finally:
                begun = None
            delay = RETRY_FIRST_S
            cursor = page.new_cursor
            calls = _history(page, history, asked_at) if waited else map(_decode, page.entries)
            waited = False
            for call in calls:
                yield call
    finally:
        await end_task(begun)


def _history(page: LogPage, history: int | None, asked_at: float) -> list[LoggedCall]:
    """Of the first answer: the last `history` calls (None: all), and those since it was asked for."""
    calls = [_decode(raw) for raw in page.entries]
    if history is None:
        return calls
    news = sum(call.entry.timestamp >= asked_at for call in calls)
    return calls[max(0, len(calls) - history - news) :]


def render_log(call: LoggedCall, *, success: bool = False) -> list[str]:
    """Lines for a person, as the official CLI writes them: `TIME [CONVEX Q(mod:fn)] [LOG] text`."""
    entry = call.entry
    clock = time.strftime("%m/%d/%Y, %I:%M:%S %p", time.localtime(entry.timestamp))
    where = f"{entry.component_path}/{entry.identifier}" if entry.component_path else entry.identifier
    prefix = f"{clock} [CONVEX {entry.udf_type[:1]}({where})]"
    lines = [f"{prefix} {_inside(line, entry)}{_text(line)}" for line in entry.log_lines]
    if entry.error:
        lines.append(f"{prefix} {entry.error}")
    elif success and entry.kind == "Completion":
        lines.append(f"{prefix} Function executed in {_milliseconds(entry)} ms")
    return lines


def _milliseconds(entry: LogEntry) -> int:
    seconds = entry.execution_time or 0.0
    return -int(-seconds * 1000 // 1)


def _inside(line: LogLine | str, entry: LogEntry) -> str:
    """Which component's function wrote a line, when that is another than the one that was called."""
    if isinstance(line, str) or not line.component_path or line.component_path == entry.component_path:
        return ""
    return f"[{line.component_path} {line.udf_path}] " if line.udf_path else f"[{line.component_path}] "


def _text(line: LogLine | str) -> str:
    if isinstance(line, str):
        return line
    end = " (truncated due to length)" if line.is_truncated else ""
    return f"[{line.level}] {' '.join(line.messages)}{end}"


def _decode(raw: msgspec.Raw) -> LoggedCall:
    return LoggedCall(msgspec.json.decode(raw, type=LogEntry), bytes(raw))
