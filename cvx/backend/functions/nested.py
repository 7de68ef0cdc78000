"""`ctx.runQuery` and `ctx.runMutation` inside a query or mutation: another function in the same transaction.

A nested mutation that fails takes its writes back and leaves its reads, so that what its caller then decides is
validated too. A nested function whose *return value* is refused has already kept its writes (a documented quirk).

Source: reference/runtime-and-database.md §1.3 (runUdf), §3.5, §4.3.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from cvx.backend.functions.addresses import AddressArgs, resolve
from cvx.backend.functions.calls import Call, NestedLines, in_order, run_function
from cvx.backend.functions.checks import (
    check_args,
    check_callable,
    check_result,
    decode_syscall,
    parse_args,
)
from cvx.backend.functions.module_loader import LoadedFunction
from cvx.backend.functions.results import LoggedLine, failure_text
from cvx.backend.runner import FunctionFailure, FunctionKind, SyscallFailure, SyscallHost
from cvx.errors import CvxError

_KINDS: dict[str, FunctionKind] = {"query": "query", "mutation": "mutation", "snapshotQuery": "query"}

# How the npm package spells the limits a caller may set, and the fields of `Limits` they lower.
_LIMITS = {
    "documentsRead": "documents_read_max",
    "bytesRead": "read_bytes_max",
    "databaseQueries": "read_intervals_max",
    "documentsWritten": "documents_written_max",
    "bytesWritten": "written_bytes_max",
}


class _UdfArgs(AddressArgs, kw_only=True):
    udfType: str
    args: msgspec.Raw
    transactionLimits: dict[str, Any] | None = None


_udf_args = msgspec.json.Decoder(_UdfArgs)


class ParentHost(Protocol):
    """The host of the function that runs another one."""

    call: Call
    component: str
    depth: int
    writable: bool
    nested_lines: list[NestedLines]

    def child(self, call: Call, function: LoadedFunction) -> ChildHost:
        """A host for a function that this one runs."""
        ...


class ChildHost(SyscallHost, Protocol):
    """The host of a function that another one runs."""

    nested_lines: list[NestedLines]


class NestedFailure(Exception):
    """A nested function failed; `failure` is what its caller gets."""

    def __init__(self, failure: SyscallFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


async def run_nested(host: ParentHost, raw: bytes, logged: int) -> bytes:
    """The canonical result of the function that a `runUdf` names, issued after `logged` lines of the caller.

    Raises CvxError when the call is refused or its result is, NestedFailure when the function fails.
    """
    call, limits = host.call, host.call.services.limits
    args = decode_syscall(_udf_args, raw, "ctx.runQuery / ctx.runMutation")
    kind = _KINDS.get(args.udfType)
    if kind is None:
        raise CvxError("InvalidArgument", f"Invalid argument `udfType`: '{args.udfType[:64]}'.")
    if args.udfType != "query" and not host.writable:
        # A stale query, too: a result must not rest on reads that nobody watches.
        raise CvxError(
            "InvalidFunctionCall", "Queries can run queries only, not mutations or snapshot queries."
        )
    if host.depth + 1 > limits.nested_calls_max:
        raise CvxError(
            "NestedCallsTooDeep",
            f"Functions ran each other more than {limits.nested_calls_max} levels deep. "
            "Is there an infinite loop of ctx.runQuery or ctx.runMutation?",
        )
    path = resolve(args, call.services, call.tx, host.component, "ctx.runQuery / ctx.runMutation")
    registry = call.registry(path.component)
    registry.depend_on(call.tx.reads, (path.module,))
    function = check_callable(registry.find(path), path, kind, public=False, internal_allowed=True)
    value, args_json = parse_args(path, bytes(args.args), limits, internal=True)
    check_args(function, value, args_json, call.tx.catalog.table_names(path.component), limits)
    if args.udfType == "snapshotQuery":
        # Its own transaction at the same snapshot: it sees no pending writes, and its reads are not ours.
        inner = call.beside()
        return await _run(host, inner, function, args_json, logged, keep_writes=False)
    if args.transactionLimits is None:
        return await _run(host, call, function, args_json, logged, keep_writes=kind == "mutation")
    with call.tx.budget(_budget(args.transactionLimits)):
        return await _run(host, call, function, args_json, logged, keep_writes=kind == "mutation")


async def _run(
    host: ParentHost,
    call: Call,
    function: LoadedFunction,
    args_json: bytes,
    logged: int,
    *,
    keep_writes: bool,
) -> bytes:
    tx, component = call.tx, function.path.component
    registry = call.registry(component)
    savepoint = tx.savepoint() if keep_writes else None
    child: ChildHost | None = None

    def make_host() -> SyscallHost:
        nonlocal child
        if child is not None and savepoint is not None:
            tx.rollback_to(savepoint)  # The runner starts the function again, from its beginning.
        child = host.child(call, function)
        return child

    outcome = await run_function(
        call.services,
        function,
        registry,
        args_json,
        call.next_seed(),
        call.environment_of(component),
        tx,
        make_host,
    )
    call.absorb(outcome, registry)
    own = [LoggedLine(line, function.path.udf_path, component) for line in outcome.log_lines]
    lines = in_order(child.nested_lines if child is not None else (), own)
    if lines:
        host.nested_lines.append((logged, lines))
    host.call.take_notes_of(call)
    if outcome.error is not None or outcome.value_json is None:
        if savepoint is not None:
            tx.rollback_to(savepoint)
        raise nested_failure(
            outcome.error or FunctionFailure("The function ended without a result.", kind="system")
        )
    if savepoint is not None:
        tx.release(savepoint)
    tables = tx.catalog.table_names(component)
    return check_result(function, outcome.value_json, tables, call.services.limits, nested=True)


def nested_failure(failure: FunctionFailure) -> NestedFailure:
    """Limits end the whole stack of calls; anything else is an error its caller may catch (§3.3, §3.5)."""
    if failure.kind in ("user", "developer"):
        return NestedFailure(SyscallFailure(failure_text(failure), failure.data_json))
    return NestedFailure(SyscallFailure(failure.message, fatal=True, kind=failure.kind))


def _budget(asked: dict[str, Any]) -> dict[str, int]:
    budget = {}
    for name, number in asked.items():
        field = _LIMITS.get(name)
        if field is None or number is None:
            continue  # Kinds of use that a query or mutation cannot have here.
        if not isinstance(number, (int, float)) or number < 0:
            raise CvxError("InvalidArgument", f"Invalid argument `transactionLimits.{name}`: {number}.")
        budget[field] = int(number)
    return budget
