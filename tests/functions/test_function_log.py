"""The ring of calls and of running actions' lines: order, cursors, waiting, bounds, the documented shape."""

from __future__ import annotations

import asyncio

from cvx.backend.database import Usage
from cvx.backend.functions.function_log import (
    Conflict,
    FinishedCall,
    FunctionLog,
    LoggedLines,
    RunningLines,
    Subject,
)
from cvx.backend.functions.results import LoggedLine
from cvx.backend.runner import LogLine


def call(request_id: str = "r", text: str = "", **more: object) -> FinishedCall:
    fields: dict[str, object] = {
        "subject": Subject("mutation", "messages:send", request_id, "e"),
        "caller": "HttpApi",
        "identity_type": "unknown",
        "started_s": 1.0,
        "seconds": 0.5,
        "user_ms": 2.0,
        "cached": False,
        "log_lines": (LoggedLine(LogLine("LOG", (text,), False, 3.0)),) if text else (),
        "error": None,
        "return_bytes": 4,
        "usage": None,
        **more,
    }
    return FinishedCall(**fields)  # type: ignore[arg-type]


def test_positions_increase_even_when_the_clock_does_not() -> None:
    log = FunctionLog(10, 1000, lambda: 1_700_000_000.0)
    for _ in range(5):
        log.record(call())
    calls, cursor = log.calls(0)
    positions = [one.position_ms for one in calls]
    assert positions == sorted(set(positions)) and cursor == positions[-1]
    assert log.calls(positions[2])[0] == calls[3:]
    assert log.calls(cursor) == ([], cursor)


def test_the_oldest_go_first() -> None:
    log = FunctionLog(3, 1000, lambda: 1.0)
    for number in range(5):
        log.record(call(str(number)))
    assert [one.request_id for one in log.calls(0)[0]] == ["2", "3", "4"]


def test_long_texts_push_out_more() -> None:
    log = FunctionLog(100, 1000, lambda: 1.0)
    log.record(call("old", "x" * 400))
    log.record(call("middle", "x" * 400))
    log.record(call("new", "x" * 700))
    assert [one.request_id for one in log.calls(0)[0]] == ["new"]
    log.record(call("huge", "x" * 5000))
    assert [one.request_id for one in log.calls(0)[0]] == ["huge"]


def test_one_request_alone() -> None:
    log = FunctionLog(10, 1000, lambda: 1.0)
    for request in ("a", "b", "a"):
        log.record(call(request))
    found, cursor = log.calls(0, request_id="a")
    assert len(found) == 2
    assert log.calls(cursor, request_id="a")[0] == []


def test_waiting_ends_with_the_next_call_or_with_time() -> None:
    async def main() -> None:
        log = FunctionLog(10, 1000, lambda: 1.0)
        await log.wait(0, 0.01)
        waiting = [asyncio.create_task(log.wait(0, 3600)) for _ in range(3)]
        await asyncio.sleep(0)
        log.record(call())
        await asyncio.wait_for(asyncio.gather(*waiting), 60)
        await asyncio.wait_for(log.wait(0, 3600), 60)  # There is one already.
        assert log._waiting == []

    asyncio.run(main())


def test_the_documented_shape() -> None:
    log = FunctionLog(10, 1000, lambda: 2.0)
    log.record(call(text="hi", conflict=Conflict("rows", "id", "other:fn", 2), error="Conflict\n"))
    entry = log.calls(0)[0][0].entry(structured=True)
    assert entry["kind"] == "Completion" and entry["identifier"] == "messages:send"
    assert (entry["udfType"], entry["timestamp"], entry["executionTime"]) == ("Mutation", 2.0, 0.5)
    assert entry["occInfo"] == {
        "tableName": "rows",
        "documentId": "id",
        "writeSource": "other:fn",
        "componentPath": None,
        "retryCount": 2,
    }
    assert entry["willRetry"] is True
    assert entry["logLines"] == [{"messages": ["hi"], "isTruncated": False, "timestamp": 3.0, "level": "LOG"}]
    plain = log.calls(0)[0][0].entry(structured=False)
    assert plain["logLines"] == ["[LOG] hi"]
    final = call(conflict=Conflict("rows", "id", "other:fn", 100, runs_again=False), error="Conflict\n")
    assert final.entry(structured=True)["willRetry"] is False


def test_what_an_action_writes_is_there_before_it_ends_and_once() -> None:
    async def main() -> None:
        log = FunctionLog(100, 100_000, lambda: 1.0)
        subject = Subject("http_action", "POST /hook", "r", "e1", "counter")
        lines = RunningLines(log, subject, 4)
        lines.add(LogLine("LOG", ("one",), False, 1.0))
        lines.add(LogLine("WARN", ("two",), False, 2.0))
        await asyncio.sleep(0)
        found, cursor = log.entries(0)
        assert [entry.entry(structured=False) for entry in found] == [
            {
                "kind": "Progress",
                "udfType": "HttpAction",
                "componentPath": "counter",
                "identifier": "POST /hook",
                "timestamp": 1.0,
                "logLines": ["[LOG] one", "[WARN] two"],
                "requestId": "r",
                "executionId": "e1",
            }
        ]
        for number in range(5):
            lines.add(LogLine("LOG", (str(number),), False, 3.0))
        told = lines.end()
        assert [line.pretty() for line in told] == [
            "[LOG] one",
            "[WARN] two",
            "[LOG] 0",
            "[ERROR] Log overflow (maximum 4). Remaining log lines omitted.",
        ]
        log.record(
            FinishedCall(
                subject=subject,
                caller="HttpEndpoint",
                identity_type="unknown",
                started_s=1.0,
                seconds=0.1,
                user_ms=1.0,
                cached=False,
                log_lines=told,
                error=None,
                return_bytes=None,
                usage=Usage(storage_bytes_read=3, network_bytes_sent=7, memory_used_bytes=1_500_000),
                parent_execution_id="e0",
                http_status=201,
                lines_streamed=True,
            )
        )
        found, _ = log.entries(cursor)
        assert isinstance(found[0], LoggedLines) and len(found[0].log_lines) == 2
        assert isinstance(found[1], FinishedCall)
        end = found[1].entry(structured=True)
        assert end["success"] == {"status": "201"} and end["parentExecutionId"] == "e0"
        assert end["identifier"] == "POST /hook" and end["udfType"] == "HttpAction"
        assert end["logLines"] == []
        assert len(found[1].entry(structured=False, all_lines=True)["logLines"]) == 4
        usage = end["usageStats"]
        assert (usage["storageReadBytes"], usage["networkEgressBytes"], usage["memoryUsedMb"]) == (3, 7, 2)
        assert [type(one) for one in log.calls(0)[0]] == [FinishedCall]

    asyncio.run(main())
