"""Asks a host for everything an execution wants, strictly in order.

A generator, so that the caller decides how to wait: it yields what has to be awaited and is sent the result. A host
that answers at once is never waited for.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Generator
from typing import Any

import msgspec

from cvx.backend.runner import messages
from cvx.backend.runner.interface import QueryPage, Syscall, SyscallFailure, SyscallHost, TablesChanged

Answers = tuple[list[Any], list[bytes]] | SyscallFailure
Steps = Generator[Awaitable[Any], Any, Answers]


def answers(host: SyscallHost, asked: messages.SyscallsIssued, payload: list[bytes]) -> Steps:
    """Ask the host for everything in order. Yields what has to be awaited; returns what to send, or the failure
    that ends the call."""
    if not isinstance(asked.closed, int):
        for query, count, reached_end in asked.closed:
            host.consumed(query, count, reached_end)
    kinds: list[Any] = []
    lines: list[bytes] = []
    batch: list[Syscall] = []
    at = 0
    for op in asked.ops:
        if isinstance(op, str):
            batch.append(Syscall(op, payload[at], asked.logged))
            at += 1
            continue
        if batch:
            failure = yield from _ask(host, batch, kinds, lines)
            if failure is not None:
                return failure
            batch = []
        query, want, first = op
        page = host.next_page(query, payload[at] if first else None, want)
        at += first
        if inspect.isawaitable(page):
            page = yield page
        failure = _add_page(page, kinds, lines)
        if failure is not None:
            return failure
    if batch:
        failure = yield from _ask(host, batch, kinds, lines)
        if failure is not None:
            return failure
    return kinds, lines


def writes_stand(host: SyscallHost, names: list[str], arguments: list[bytes]) -> bool:
    """Whether the host accepts, at once, writes that user code was already told are done."""
    for name, line in zip(names, arguments, strict=True):
        # One by one: what is behind a refusal might never have been asked for.
        results = host.syscalls([Syscall(name, line)])
        if inspect.isawaitable(results):
            asyncio.ensure_future(results).cancel()
            return False
        if not isinstance(results[0], bytes):
            return False
    return True


def _ask(
    host: SyscallHost, batch: list[Syscall], kinds: list[Any], lines: list[bytes]
) -> Generator[Awaitable[Any], Any, SyscallFailure | None]:
    results = host.syscalls(batch)
    if inspect.isawaitable(results):
        results = yield results
    if len(results) != len(batch):
        raise AssertionError(f"a host answered {len(batch)} syscalls with {len(results)} results")
    for result in results:
        if isinstance(result, bytes):
            kinds.append(0)
            lines.append(result)
            continue
        if isinstance(result, TablesChanged):
            kinds.append({"t": 1})
            lines += (msgspec.json.encode(result.tables), result.result)
            continue
        if result.fatal:
            return result
        _add_failure(result, kinds, lines)
    return None


def _add_page(
    page: QueryPage | SyscallFailure, kinds: list[Any], lines: list[bytes]
) -> SyscallFailure | None:
    if isinstance(page, SyscallFailure):
        if page.fatal:
            return page
        _add_failure(page, kinds, lines)
        return None
    if not page.documents and not page.done:
        raise AssertionError("a host gave an empty page that is not the last")
    kinds.append({"p": len(page.documents), "d": 1 if page.done else 0})
    lines.extend(page.documents)
    return None


def _add_failure(failure: SyscallFailure, kinds: list[Any], lines: list[bytes]) -> None:
    kinds.append((failure.message, 0 if failure.data_json is None else 1))
    if failure.data_json is not None:
        lines.append(failure.data_json)
