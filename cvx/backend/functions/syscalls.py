"""Everything a query or a mutation may ask for: one table, syscall name → what it does.

Hosts answer without a task switch whenever they can; only a nested function makes an answer wait. What user code
may catch comes back as a `SyscallFailure`; anything else (conflict, overload, our own faults) is raised and ends
the call (reference/runtime-and-database.md §1.1).

Rule: user code can ask for nothing that is not in `SYSCALLS`; writes are refused in queries before they are tried.

Source: reference/runtime-and-database.md §1.2, §1.3, §4.3.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import msgspec

from cvx.backend.auth import token_of, user_of
from cvx.backend.database import QueryStream
from cvx.backend.functions import storage_syscalls
from cvx.backend.functions.calls import Call, NestedLines
from cvx.backend.functions.checks import decode_syscall
from cvx.backend.functions.jwt_signing import sign_jwt
from cvx.backend.functions.module_loader import LoadedFunction
from cvx.backend.functions.nested import NestedFailure, run_nested
from cvx.backend.functions.scheduling import cancel_in_mutation, handle_in_transaction, schedule_in_mutation
from cvx.backend.runner import QueryPage, Syscall, SyscallFailure, SyscallResult, TablesChanged
from cvx.errors import DETERMINISTIC_KINDS, CvxError
from cvx.values import FIRST_USER_TABLE_NUMBER, DocumentId, decode, encode

PUBLIC_SYSTEM_TABLES = {"_storage": 540, "_scheduled_functions": 539}
"""System tables that `ctx.db.system` reads, and their numbers (values-and-sync.md §2.2)."""
_PUBLIC_SYSTEM_NUMBERS = frozenset(PUBLIC_SYSTEM_TABLES.values())


class _DocumentArgs(msgspec.Struct):
    id: str = ""
    table: str | None = None
    value: msgspec.Raw = msgspec.Raw()
    isSystem: bool = False


class _TableArgs(msgspec.Struct):
    table: str


class _StreamArgs(msgspec.Struct):
    query: dict[str, Any]


class _PageArgs(msgspec.Struct):
    query: dict[str, Any]
    pageSize: float
    cursor: str | None = None
    endCursor: str | None = None
    maximumRowsRead: float | None = None
    maximumBytesRead: float | None = None


_document_args = msgspec.json.Decoder(_DocumentArgs)
_table_args = msgspec.json.Decoder(_TableArgs)
_stream_args = msgspec.json.Decoder(_StreamArgs)
_page_args = msgspec.json.Decoder(_PageArgs)
_encode = msgspec.json.Encoder().encode


class FunctionHost:
    """Answers one running function. `writable` is false for queries, also for those a mutation runs."""

    __slots__ = (
        "_catalog",
        "_paginated",
        "_streams",
        "call",
        "component",
        "depth",
        "function",
        "nested_lines",
        "tx",
        "writable",
    )

    def __init__(self, call: Call, function: LoadedFunction, depth: int) -> None:
        self.call = call
        self.tx = call.tx
        self.function = function
        self.component = function.path.component
        self.depth = depth
        self.writable = function.kind == "mutation"
        self.nested_lines: list[NestedLines] = call.nested_lines if depth == 0 else []
        self._streams: dict[int, QueryStream] = {}
        self._paginated = False
        self._catalog = self.tx.catalog  # What the function was told of.

    def child(self, call: Call, function: LoadedFunction) -> FunctionHost:
        """The host of a function that this one runs; a query's children are queries all the way down."""
        return FunctionHost(call, function, self.depth + 1)

    # ------------------------------------------------------------------------------------- SyscallHost

    def syscalls(self, batch: list[Syscall]) -> list[SyscallResult] | Awaitable[list[SyscallResult]]:
        results: list[SyscallResult] = []
        for position, syscall in enumerate(batch):
            handler = SYSCALLS.get(syscall.op)
            if handler is None:
                if syscall.op == "1.0/runUdf" or syscall.op in WAITING_SYSCALLS:
                    return self._syscalls_waiting(batch, position, results)
                results.append(SyscallFailure(f"Unknown async operation {syscall.op}"))
                continue
            try:
                results.append(handler(self, syscall.args))
            except CvxError as error:
                results.append(syscall_failure(error))
        return results

    async def _syscalls_waiting(
        self, batch: list[Syscall], position: int, results: list[SyscallResult]
    ) -> list[SyscallResult]:
        """The rest of a batch from its first nested function or file on: strictly in order, one at a time."""
        while position < len(batch):
            syscall = batch[position]
            if syscall.op == "1.0/runUdf":
                try:
                    results.append(self._with_tables(await run_nested(self, syscall.args, syscall.logged)))
                except CvxError as error:
                    results.append(syscall_failure(error))
                except NestedFailure as failed:
                    results.append(failed.failure)
                position += 1
                continue
            waiting = WAITING_SYSCALLS.get(syscall.op)
            if waiting is not None:
                try:
                    results.append(await waiting(self, syscall.args))
                except CvxError as error:
                    results.append(syscall_failure(error))
                position += 1
                continue
            rest = self.syscalls(batch[position : position + 1])
            assert isinstance(rest, list)
            results += rest
            position += 1
        return results

    def next_page(
        self, query_id: int, query_json: bytes | None, want: int
    ) -> QueryPage | SyscallFailure | Awaitable[QueryPage | SyscallFailure]:
        try:
            stream = self._streams.get(query_id)
            if stream is None:
                if query_json is None:
                    raise CvxError("InvalidArgument", f"Query {query_id} was never started.")
                query = decode_syscall(_stream_args, query_json, "db.query").query
                stream = self._streams[query_id] = self.tx.stream(
                    query, component=self.component, privileged=_is_public_system(query)
                )
            documents, done = stream.next_page(want, rows_max=self.call.services.limits.scan_turn_rows)
        except CvxError as error:
            return syscall_failure(error)
        return QueryPage(documents, done) if documents or done else self._found_later(stream, want)

    async def _found_later(self, stream: QueryStream, want: int) -> QueryPage | SyscallFailure:
        """The next page of a query whose filters let hardly anything pass: others get their turn meanwhile."""
        documents, done = list[bytes](), False
        try:
            while not documents and not done:
                await asyncio.sleep(0)
                documents, done = stream.next_page(want, rows_max=self.call.services.limits.scan_turn_rows)
        except CvxError as error:
            return syscall_failure(error)
        return QueryPage(documents, done)

    def consumed(self, query_id: int, count: int, reached_end: bool) -> None:
        stream = self._streams.get(query_id)
        if stream is not None:
            stream.consumed(count, reached_end)

    # ---------------------------------------------------------------------------------------- reading

    def get(self, raw: bytes) -> bytes:
        args = decode_syscall(_document_args, raw, "db.get")
        id = self._read_id(args.id, args.table, "db.system.get" if args.isSystem else "db.get")
        system = id.table < FIRST_USER_TABLE_NUMBER
        if system and id.table not in _PUBLIC_SYSTEM_NUMBERS:
            return b"null"  # To user code other system tables do not exist.
        if system != args.isSystem:
            wanted, other = ("db.get", "db.system.get") if args.isSystem else ("db.system.get", "db.get")
            raise CvxError(
                "SystemTableError",
                f'Cannot read the {"system" if system else "user"} table of ID "{args.id}" with `{other}`.',
                hint=f"Use `{wanted}`.",
            )
        document = self.tx.get(id, component=self.component, privileged=system)
        return b"null" if document is None else document

    def query_page(self, raw: bytes) -> bytes:
        args = decode_syscall(_page_args, raw, "db.query.paginate")
        if self._paginated:
            raise CvxError(
                "MultiplePaginatedDatabaseQueries",
                "This query or mutation function ran multiple paginated queries. "
                "Convex only supports a single paginated query in each function.",
                hint="Use .collect() or .take(n) for the other one, or put it into a function of its own.",
            )
        self._paginated = True
        if self.component:
            raise CvxError("PaginationUnsupportedInComponents", "Components cannot use .paginate().")
        call = self.call
        page = self.tx.paginate(
            args.query,
            args.cursor,
            args.endCursor,
            _whole(args.pageSize, "numItems"),
            _optional_whole(args.maximumRowsRead, "maximumRowsRead"),
            _optional_whole(args.maximumBytesRead, "maximumBytesRead"),
            component=self.component,
            privileged=_is_public_system(args.query),
            journal_end=call.journal_end if self.depth == 0 else None,
        )
        if self.depth == 0:
            call.journal_next = page.continue_cursor
        return b"".join(
            (
                b'{"page":[',
                b",".join(page.documents),
                b'],"isDone":',
                b"true" if page.is_done else b"false",
                b',"continueCursor":',
                _encode(page.continue_cursor),
                b',"splitCursor":',
                _encode(page.split_cursor),
                b',"pageStatus":',
                _encode(page.page_status),
                b"}",
            )
        )

    def count(self, raw: bytes) -> bytes:
        table = decode_syscall(_table_args, raw, "db.count").table
        number = self.tx.count(table, component=self.component, privileged=table in PUBLIC_SYSTEM_TABLES)
        return str(number).encode()

    # ---------------------------------------------------------------------------------------- writing

    def insert(self, raw: bytes) -> SyscallResult:
        args = decode_syscall(_document_args, raw, "db.insert")
        self.check_writable("db.insert")
        if args.table is None:
            raise CvxError("InvalidArgument", "Invalid argument `table` for `db.insert`: it is missing.")
        id = self.tx.insert(args.table, _fields(args.value, "db.insert"), component=self.component)
        return self._with_tables(b'{"_id":"' + str(id).encode() + b'"}')

    def patch(self, raw: bytes) -> bytes:
        args = decode_syscall(_document_args, raw, "db.patch")
        id = self._write_id(args, "db.patch")
        self.tx.patch(id, _fields(args.value, "db.patch"), component=self.component)
        return b"null"

    def replace(self, raw: bytes) -> bytes:
        args = decode_syscall(_document_args, raw, "db.replace")
        id = self._write_id(args, "db.replace")
        self.tx.replace(id, _fields(args.value, "db.replace"), component=self.component)
        return b"null"

    def remove(self, raw: bytes) -> bytes:
        args = decode_syscall(_document_args, raw, "db.delete")
        self.tx.delete(self._write_id(args, "db.delete"), component=self.component)
        return b"null"

    # ------------------------------------------------------------------------------- who, what, where

    def user_identity(self, raw: bytes) -> bytes:
        if self.component:
            return b"null"  # Who calls is the app's business.
        self.call.observed_identity = True
        user = user_of(self.call.identity)
        return b"null" if user is None else user.json

    def transaction_metrics(self, raw: bytes) -> bytes:
        usage, limits, files = self.tx.usage, self.call.services.limits, self.call.files
        pairs = {
            "bytesRead": (usage.bytes_read, limits.read_bytes_max),
            "bytesWritten": (usage.bytes_written, limits.written_bytes_max),
            "databaseQueries": (usage.intervals, limits.read_intervals_max),
            "documentsRead": (usage.documents_read, limits.documents_read_max),
            "documentsWritten": (usage.documents_written, limits.documents_written_max),
            "functionsScheduled": (usage.functions_scheduled, limits.functions_scheduled_max),
            "scheduledFunctionArgsBytes": (usage.scheduled_args_bytes, limits.scheduled_args_bytes_max),
            "filesRead": (files.read if files else 0, limits.files_read_max),
            "fileReadBytes": (files.read_bytes if files else 0, limits.file_bytes_read_max),
            "filesWritten": (files.written if files else 0, limits.files_written_max),
            "fileWriteBytes": (files.written_bytes if files else 0, limits.file_bytes_written_max),
        }
        return _encode(
            {name: {"used": u, "remaining": max(0, most - u)} for name, (u, most) in pairs.items()}
        )

    def function_metadata(self, raw: bytes) -> bytes:
        function = self.function
        return _encode(
            {
                "name": function.path.udf_path,
                "componentPath": function.path.component,
                "type": function.kind,
                "visibility": function.visibility,
            }
        )

    def deployment_metadata(self, raw: bytes) -> bytes:
        return _encode({"name": self.call.services.deployment.instance_name, "region": None, "class": "s16"})

    def request_metadata(self, raw: bytes) -> bytes:
        if not self.writable:
            raise CvxError("InvalidFunctionCall", "Request metadata is not available in queries.")
        request = self.call.request
        job = request.scheduled_job
        return _encode(
            {
                "ip": request.ip,
                "userAgent": request.user_agent,
                "requestId": request.request_id,
                "scheduledFunctionId": None if job is None else job.id,
                "authToken": token_of(self.call.identity),
            }
        )

    # ---------------------------------------------------------------------------------------- helpers

    def _with_tables(self, result: bytes) -> SyscallResult:
        """A result, and the tables if it made one: `normalizeId` is answered in the child."""
        catalog = self.tx.catalog
        if catalog is self._catalog:
            return result
        self._catalog = catalog
        return TablesChanged(result, self.call.services.table_numbers(catalog, self.component))

    def _read_id(self, text: str, table: str | None, api: str) -> DocumentId:
        id = DocumentId.try_parse(text)
        if id is None:
            raise CvxError(
                "InvalidArgument",
                f"Invalid argument `id` for `{api}`: Unable to decode ID: '{text[:64]}' is not a document id.",
            )
        if table is not None:
            found = self.tx.table_name_of(id, component=self.component)
            if found is not None and found != table:
                raise CvxError(
                    "InvalidArgument",
                    f'Invalid argument `id` for `{api}`: expected to be an Id<"{table}">, got Id<"{found}">.',
                )
        return id

    def _write_id(self, args: _DocumentArgs, api: str) -> DocumentId:
        self.check_writable(api)
        id = self._read_id(args.id, args.table, api)
        if id.table in _PUBLIC_SYSTEM_NUMBERS:
            raise CvxError("ReadOnlyTable", f"`{api}` cannot change a system table: it is read-only.")
        return id

    def check_writable(self, api: str) -> None:
        """Raise CvxError "WriteInQuery" in a query."""
        if not self.writable:
            raise CvxError(
                "WriteInQuery", f"`{api}` was called in a query, and queries cannot write.",
                hint="Make the function a mutation.", retry_when="files",
            )  # fmt: skip


def syscall_failure(error: CvxError) -> SyscallFailure:
    """The catchable failure of a refusal; raises `error` itself when user code must not see it."""
    if error.kind not in DETERMINISTIC_KINDS:
        raise error
    return SyscallFailure(error.message, encode(error.data) if error.has_data else None)


def _fields(raw: msgspec.Raw, api: str) -> dict[str, Any]:
    try:
        value = decode(bytes(raw), internal=True)
    except CvxError as error:
        raise CvxError(error.code, f"Invalid argument `value` for `{api}`: {error.message}") from None
    if type(value) is not dict:
        raise CvxError("InvalidArgument", f"Invalid argument `value` for `{api}`: it must be an object.")
    return value


def _whole(number: float, name: str) -> int:
    if number < 0 or number != int(number):
        raise CvxError("InvalidArgument", f"Invalid argument `{name}` for `paginate`: {number}.")
    return int(number)


def _optional_whole(number: float | None, name: str) -> int | None:
    return None if number is None else _whole(number, name)


def _is_public_system(query: dict[str, Any]) -> bool:
    """Whether a query is one of a public system table. Of such, user code knows the built-in indexes only."""
    source = query.get("source")
    if type(source) is not dict:
        return False
    name = source.get("tableName") or source.get("indexName")
    if type(name) is not str or not name.startswith("_"):
        return False
    table, _, index = name.partition(".")
    if table not in PUBLIC_SYSTEM_TABLES:
        return False
    if index not in _BUILT_IN_INDEXES:
        raise CvxError(
            "IndexNotFoundError", f"Index {name} not found.",
            hint="System tables have the indexes by_id and by_creation_time.", retry_when="files",
        )  # fmt: skip
    return True


_BUILT_IN_INDEXES = frozenset({"", "by_id", "by_creation_time"})


def _not_yet(what: str) -> Callable[[FunctionHost, bytes], bytes]:
    def refuse(host: FunctionHost, raw: bytes) -> bytes:
        raise not_available_yet(what)

    return refuse


def not_available_yet(what: str) -> CvxError:
    return CvxError(
        "NotAvailableYet",
        f"{what} not available yet in this version of cvx.",
        hint="See docs/COMPATIBILITY.md for what works today.",
    )


Handler: TypeAlias = Callable[[FunctionHost, bytes], SyscallResult]

SYSCALLS: dict[str, Handler] = {
    "1.0/get": FunctionHost.get,
    "1.0/queryPage": FunctionHost.query_page,
    "1.0/count": FunctionHost.count,
    "1.0/insert": FunctionHost.insert,
    "1.0/shallowMerge": FunctionHost.patch,
    "1.0/replace": FunctionHost.replace,
    "1.0/remove": FunctionHost.remove,
    "1.0/getUserIdentity": FunctionHost.user_identity,
    "1.0/getTransactionMetrics": FunctionHost.transaction_metrics,
    "1.0/getFunctionMetadata": FunctionHost.function_metadata,
    "1.0/getDeploymentMetadata": FunctionHost.deployment_metadata,
    "1.0/getRequestMetadata": FunctionHost.request_metadata,
    "1.0/createFunctionHandle": handle_in_transaction,
    "1.0/schedule": schedule_in_mutation,
    "1.0/cancel_job": cancel_in_mutation,
    "1.0/signJwt": sign_jwt,
    "1.0/auditLog": _not_yet("Audit logs are"),
    "1.0/storageGetUrl": storage_syscalls.get_url,
    "1.0/storageGetMetadata": storage_syscalls.get_metadata,
    "1.0/storageGenerateUploadUrl": storage_syscalls.generate_upload_url,
    "1.0/storageDelete": storage_syscalls.delete,
}
WAITING_SYSCALLS: dict[str, Callable[[FunctionHost, bytes], Awaitable[SyscallResult]]] = {
    "1.0/storageStore": storage_syscalls.store,
    "1.0/storageGet": storage_syscalls.get,
}
