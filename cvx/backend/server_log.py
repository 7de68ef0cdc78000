"""What a server writes to standard error: its own words, and with `--log-functions` every finished call.

As text for people, or as one JSON object a line for programs that collect logs. Function logs are data and live in the
`FunctionLog`; here they are only passed on, as they come.

Rule: the log never holds a value of the user's but what their functions print, and never a secret of ours.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal

from cvx.backend.functions import FunctionLog

_functions = logging.getLogger("cvx.functions")
_POLL_S = 60.0


class JsonLines(logging.Formatter):
    """A record as one line of JSON: `time` (ISO 8601, UTC), `level`, `logger`, `message`, and what came with it."""

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure_logging(form: Literal["text", "json"]) -> None:
    """Send the process's log to standard error: warnings of everything, and the calls of functions."""
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if form == "json" else text)
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    _functions.setLevel(logging.INFO)


@asynccontextmanager
async def logged_functions(log: FunctionLog | None) -> AsyncIterator[None]:
    """While it is open, finished calls go to the server's log (not with None)."""
    if log is None:
        yield
        return
    task = asyncio.create_task(_pass_on(log))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _pass_on(log: FunctionLog) -> None:
    cursor = time.time() * 1000.0
    while True:
        calls, cursor = log.calls(cursor)
        for call in calls:
            entry = call.entry(structured=True, all_lines=True)
            _functions.log(
                logging.WARNING if call.error else logging.INFO,
                "%s",
                _line(entry),
                extra={"fields": _fields(entry)},
            )
        if not calls:
            await log.wait(cursor, _POLL_S)


def _line(entry: dict[str, Any]) -> str:
    """`mutation messages:send 12 ms`, then the first line of its error."""
    error = f" failed: {str(entry['error']).splitlines()[0]}" if entry["error"] else ""
    return f"{entry['udfType'].lower()} {entry['identifier']} {entry['executionTime'] * 1000:.0f} ms{error}"


def _fields(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "function": entry["identifier"],
        "component": entry["componentPath"],
        "kind": entry["udfType"],
        "seconds": round(entry["executionTime"], 6),
        "cached": entry["cachedResult"],
        "caller": entry["caller"],
        "requestId": entry["requestId"],
        "error": entry["error"],
        "console": entry["logLines"],
    }
