"""Everything an action may ask for: one table, syscall name → what it does.

Each thing an action asks for is its own: it begins and ends a transaction of its own, if it needs one, and says nothing
before that is on disk. Several are under way at once, up to a limit; the rest wait their turn. Every failure
can be caught by user code (reference/runtime-and-database.md §1.1).

Rule: user code can ask for nothing that is not in `ACTION_SYSCALLS`. A new one is one line there: a coroutine function
of the host and the raw JSON arguments.

Source: reference/runtime-and-database.md §1.4.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

import msgspec

from cvx.backend.auth import Anonymous, token_of, user_of
from cvx.backend.database import Transaction
from cvx.backend.functions import action_storage, scheduling, storage_syscalls, vector_syscalls
from cvx.backend.functions.addresses import AddressArgs, resolve
from cvx.backend.functions.calls import RequestMetadata, Services
from cvx.backend.functions.checks import decode_syscall
from cvx.backend.functions.function_log import RunningLines
from cvx.backend.functions.module_loader import LoadedFunction
from cvx.backend.functions.results import FunctionError
from cvx.backend.functions.syscalls import not_available_yet
from cvx.backend.runner import HttpResponseHead, LogLine, StoredBlob, Syscall, SyscallFailure, SyscallResult
from cvx.errors import CvxError
from cvx.values import FunctionPath, encode

if TYPE_CHECKING:
    from cvx.backend.auth import Identity
    from cvx.backend.database import Usage
    from cvx.backend.functions.mutations import Origin
    from cvx.backend.functions.query_cache import QueryEntry
    from cvx.backend.functions.results import ActionResult, MutationResult


class FunctionCaller(Protocol):
    """What runs the functions that an action runs: the executor."""

    async def query(
        self,
        path: FunctionPath | str,
        args_json: bytes,
        identity: Identity,
        *,
        caller: str,
        public: bool = True,
        request_id: str | None = None,
        parent_execution_id: str | None = None,
    ) -> QueryEntry: ...

    async def mutation(
        self,
        path: FunctionPath | str,
        args_json: bytes,
        identity: Identity,
        *,
        caller: str,
        public: bool = True,
        request_id: str | None = None,
        origin: Origin = ...,
        parent_execution_id: str | None = None,
    ) -> MutationResult: ...

    async def action(
        self,
        path: FunctionPath | str,
        args_json: bytes,
        identity: Identity,
        *,
        caller: str,
        public: bool = True,
        request_id: str | None = None,
        origin: Origin = ...,
        parent_execution_id: str | None = None,
    ) -> ActionResult: ...


class HttpExchange(Protocol):
    """The other side of an HTTP action: whoever sent the request. As in `ActionHost`."""

    def request_body(self) -> AsyncIterator[bytes]: ...

    async def respond(self, head: HttpResponseHead) -> None: ...

    async def respond_chunk(self, chunk: bytes) -> None: ...


class _RunArgs(AddressArgs, kw_only=True):
    args: msgspec.Raw


_run_args = msgspec.json.Decoder(_RunArgs)
_encode = msgspec.json.Encoder().encode


class RunningAction:
    """An ActionHost: answers one running action. `exchange` is for HTTP actions."""

    def __init__(
        self,
        services: Services,
        caller: FunctionCaller,
        identity: Identity,
        request: RequestMetadata,
        origin: Origin,
        lines: RunningLines,
        usage: Usage,
        *,
        component: str,
        execution_id: str,
        metadata: bytes,
        exchange: HttpExchange | None = None,
    ) -> None:
        self.services = services
        self.caller = caller
        self.identity = identity
        self.request = request
        self.origin = origin
        self.lines = lines
        self.usage = usage
        self.component = component
        self.execution_id = execution_id
        self.metadata = metadata  # What getFunctionMetadata answers.
        self.exchange = exchange
        self.has_responded = False
        self._turns = asyncio.Semaphore(services.limits.action_operations_running_max)

    # -------------------------------------------------------------------------------------- ActionHost

    async def syscall(self, syscall: Syscall) -> SyscallResult:
        handler = ACTION_SYSCALLS.get(syscall.op)
        if handler is None:
            return SyscallFailure(f"Unknown async operation {syscall.op}")
        async with self._turns:
            try:
                return await handler(self, syscall.args)
            except CvxError as error:
                return catchable(error)

    def log(self, line: LogLine) -> None:
        self.lines.add(line)

    async def store_blob(
        self, chunks: AsyncIterator[bytes], content_type: str | None, sha256: str | None
    ) -> str | SyscallFailure:
        async def counted() -> AsyncIterator[bytes]:
            async for chunk in chunks:
                self.usage.storage_bytes_written += len(chunk)
                yield chunk

        async with self._turns:
            try:
                return await action_storage.store_blob(
                    self.services, counted(), content_type, sha256, self.component
                )
            except CvxError as error:
                return catchable(error)

    async def get_blob(self, storage_id: str) -> StoredBlob | SyscallFailure | None:
        async with self._turns:
            try:
                found = await action_storage.get_blob(self.services, storage_id, self.component)
            except CvxError as error:
                return catchable(error)
        if found is not None and not isinstance(found, SyscallFailure):
            self.usage.storage_bytes_read += found.size
        return found

    def request_body(self) -> AsyncIterator[bytes]:
        return self._exchange().request_body()

    async def respond(self, head: HttpResponseHead) -> None:
        self.has_responded = True
        await self._exchange().respond(head)

    async def respond_chunk(self, chunk: bytes) -> None:
        self.usage.network_bytes_sent += len(chunk)
        await self._exchange().respond_chunk(chunk)

    def _exchange(self) -> HttpExchange:
        assert self.exchange is not None, "only HTTP actions have a request"
        return self.exchange

    # ----------------------------------------------------------------------------------- what it shares

    async def reading(self, body: Callable[[Transaction], bytes]) -> bytes:
        """The result of `body` in a transaction that only reads, once what it read is on disk."""
        db = self.services.db
        with db.snapshot() as snapshot:
            result = body(
                db.begin(self.identity, snapshot=snapshot, read_only=True, component=self.component)
            )
            await db.durable(snapshot.ts)
        return result

    async def writing(self, body: Callable[[Transaction], bytes], write_source: str) -> bytes:
        """The result of `body` in a transaction of its own, once that is on disk."""
        result, _ = await self.services.db.run(
            self.identity, body, write_source=write_source, component=self.component
        )
        return result


Handler: TypeAlias = Callable[[RunningAction, bytes], Awaitable[SyscallResult]]


def catchable(error: CvxError) -> SyscallFailure:
    """The failure that user code may catch: in actions, of any kind."""
    return SyscallFailure(error.message, encode(error.data) if error.has_data else None)


# ------------------------------------------------------------------------------------------- other functions


async def _address(host: RunningAction, raw: bytes, api: str) -> tuple[FunctionPath, bytes]:
    """Which function is meant, and with which arguments."""
    args: _RunArgs = decode_syscall(_run_args, raw, api)
    if args.name is not None:
        return FunctionPath.parse(args.name, host.component), bytes(args.args)
    db = host.services.db
    with db.snapshot() as snapshot:
        tx = db.begin(host.identity, snapshot=snapshot, read_only=True, component=host.component)
        path = resolve(args, host.services, tx, host.component, api)
        await db.durable(snapshot.ts)
    return path, bytes(args.args)


def _result(value_json: bytes | None, error: FunctionError | None) -> SyscallResult:
    if value_json is not None:
        return value_json
    assert error is not None, "a call has a value or an error"
    return SyscallFailure(error.message, error.data_json)


async def run_query(host: RunningAction, raw: bytes) -> SyscallResult:
    """`1.0/actions/query`: at a snapshot of its own; it may come from the cache."""
    path, args_json = await _address(host, raw, "ctx.runQuery")
    entry = await host.caller.query(
        path,
        args_json,
        host.identity,
        caller="Action",
        public=False,
        request_id=host.request.request_id,
        parent_execution_id=host.execution_id,
    )
    await host.services.db.durable(entry.ts)
    return _result(entry.value_json, entry.error)


async def run_mutation(host: RunningAction, raw: bytes) -> SyscallResult:
    """`1.0/actions/mutation`: a transaction of its own."""
    path, args_json = await _address(host, raw, "ctx.runMutation")
    done = await host.caller.mutation(
        path,
        args_json,
        host.identity,
        caller="Action",
        public=False,
        request_id=host.request.request_id,
        origin=host.origin,
        parent_execution_id=host.execution_id,
    )
    return _result(done.value_json, done.error)


async def run_action(host: RunningAction, raw: bytes) -> SyscallResult:
    """`1.0/actions/action`: another action, of any runtime."""
    path, args_json = await _address(host, raw, "ctx.runAction")
    done = await host.caller.action(
        path,
        args_json,
        host.identity,
        caller="Action",
        public=False,
        request_id=host.request.request_id,
        origin=host.origin,
        parent_execution_id=host.execution_id,
    )
    return _result(done.value_json, done.error)


async def function_handle(host: RunningAction, raw: bytes) -> SyscallResult:
    """`1.0/createFunctionHandle`."""
    return await host.reading(lambda tx: scheduling.function_handle(host.services, tx, host.component, raw))


async def vector_search(host: RunningAction, raw: bytes) -> SyscallResult:
    """`1.0/actions/vectorSearch`: in the latest state."""
    return await vector_syscalls.vector_search(host.services.db, host.component, raw)


# ------------------------------------------------------------------------------------------------- scheduler


async def schedule(host: RunningAction, raw: bytes) -> SyscallResult:
    """`1.0/actions/schedule`: the job is there, and on disk, when this returns."""
    parent = host.request.scheduled_job
    return await host.writing(
        lambda tx: scheduling.schedule(host.services, tx, host.component, parent, raw), "scheduler"
    )


async def cancel_job(host: RunningAction, raw: bytes) -> SyscallResult:
    """`1.0/actions/cancel_job`."""
    return await host.writing(lambda tx: scheduling.cancel(tx, host.component, raw), "scheduler")


# ------------------------------------------------------------------------------------------------- storage


def _storage(op: str) -> Handler:
    async def answer(host: RunningAction, raw: bytes) -> SyscallResult:
        return await storage_syscalls.in_action(host.services, op, raw, host.identity, host.component)

    return answer


# ------------------------------------------------------------------------------------------- who, what, where


async def user_identity(host: RunningAction, raw: bytes) -> SyscallResult:
    """`1.0/getUserIdentity`: asking is what fails when the token that came with the request did not check out."""
    identity = host.identity
    if host.component:
        return b"null"  # Who calls is the app's business.
    if isinstance(identity, Anonymous) and identity.error is not None:
        raise identity.error
    user = user_of(identity)
    return b"null" if user is None else user.json


async def function_metadata(host: RunningAction, raw: bytes) -> SyscallResult:
    """`1.0/getFunctionMetadata`."""
    return host.metadata


async def deployment_metadata(host: RunningAction, raw: bytes) -> SyscallResult:
    """`1.0/getDeploymentMetadata`."""
    return _encode({"name": host.services.deployment.instance_name, "region": None, "class": "s16"})


async def request_metadata(host: RunningAction, raw: bytes) -> SyscallResult:
    """`1.0/getRequestMetadata`."""
    request = host.request
    job = request.scheduled_job
    return _encode(
        {
            "ip": request.ip,
            "userAgent": request.user_agent,
            "requestId": request.request_id,
            "scheduledFunctionId": None if job is None else job.id,
            "authToken": token_of(host.identity),
        }
    )


def metadata_of(function: LoadedFunction) -> bytes:
    """What `getFunctionMetadata` answers in a function."""
    return _encode(
        {
            "name": function.path.udf_path,
            "componentPath": function.path.component,
            "type": function.kind,
            "visibility": function.visibility,
        }
    )


def _not_yet(what: str) -> Handler:
    async def refuse(host: RunningAction, raw: bytes) -> SyscallResult:
        raise not_available_yet(what)

    return refuse


ACTION_SYSCALLS: dict[str, Handler] = {
    "1.0/actions/query": run_query,
    "1.0/actions/mutation": run_mutation,
    "1.0/actions/action": run_action,
    "1.0/actions/schedule": schedule,
    "1.0/actions/cancel_job": cancel_job,
    "1.0/actions/vectorSearch": vector_search,
    "1.0/storageGetUrl": _storage("1.0/storageGetUrl"),
    "1.0/storageGetMetadata": _storage("1.0/storageGetMetadata"),
    "1.0/storageGenerateUploadUrl": _storage("1.0/storageGenerateUploadUrl"),
    "1.0/storageDelete": _storage("1.0/storageDelete"),
    "1.0/createFunctionHandle": function_handle,
    "1.0/getUserIdentity": user_identity,
    "1.0/getFunctionMetadata": function_metadata,
    "1.0/getDeploymentMetadata": deployment_metadata,
    "1.0/getRequestMetadata": request_metadata,
    "1.0/auditLog": _not_yet("Audit logs are"),
}
