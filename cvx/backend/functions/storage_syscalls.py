"""`ctx.storage` in queries, mutations and actions: what each call means, over a transaction.

`getUrl`, `getMetadata` and `delete` are the same everywhere: functions over a Transaction. In queries and mutations they
run in the caller's (so a query that shows a URL is run again when the file is deleted, and a deletion counts only if its
mutation does); in an action each runs in one of its own (`in_action`).

A mutation may also store and read small files (npm ≥ 1.48). Their bytes travel as base64 inside the call, and count.

Source: reference/runtime-and-database.md §1.3, §1.4, §1.5, §8; npm:server/impl/storage_impl.ts.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from cvx.backend.auth import Identity
from cvx.backend.database import Transaction
from cvx.backend.functions.calls import Call, Services
from cvx.backend.functions.checks import decode_syscall
from cvx.backend.functions.file_storage import FileUse, checked_type
from cvx.backend.model import deployment, file_records
from cvx.errors import CvxError

_ORIGIN = "CONVEX_CLOUD_URL"


class _FileArgs(msgspec.Struct):
    storageId: str


class _StoreArgs(msgspec.Struct):
    blob: str
    contentType: str | None = None
    sha256: str | None = None


_file_args = msgspec.json.Decoder(_FileArgs)
_store_args = msgspec.json.Decoder(_StoreArgs)
_encode = msgspec.json.Encoder().encode


class StorageHost(Protocol):
    """The host of a running query or mutation."""

    call: Call
    tx: Transaction
    component: str
    writable: bool


# ------------------------------------------------------------------------------------- in queries and mutations


def get_url(host: StorageHost, raw: bytes) -> bytes:
    """The URL of a file, or null. It changes when the file goes, and when the deployment's URL does."""
    environment = host.call.environment
    environment.depend_on(host.tx.reads, [_ORIGIN])
    return _url(host.tx, raw, environment.variables[_ORIGIN], host.component)


def get_metadata(host: StorageHost, raw: bytes) -> bytes:
    """What `getMetadata` (deprecated) tells, or null."""
    return _metadata(host.tx, raw, host.component)


def generate_upload_url(host: StorageHost, raw: bytes) -> bytes:
    """A URL that takes one file after the other for an hour."""
    _check_writable(host, "storage.generateUploadUrl")
    environment = host.call.environment
    environment.depend_on(host.tx.reads, [_ORIGIN])
    files = host.call.services.files
    return _encode(files.upload_url(environment.variables[_ORIGIN], host.component, host.tx.begin_time / 1e6))


def delete(host: StorageHost, raw: bytes) -> bytes:
    """Delete a file, with the mutation or not at all."""
    _check_writable(host, "storage.delete")
    return _delete(host.tx, raw, host.component)


async def store(host: StorageHost, raw: bytes) -> bytes:
    """Store a file that comes with the call; its id. The record commits with the mutation."""
    use = _use_of(host, "storage.store")
    args: _StoreArgs = decode_syscall(_store_args, raw, "storage.store")
    services = host.call.services
    limits = services.limits
    size = len(args.blob) // 4 * 3 - args.blob.count("=", -2)
    _count(use.written + 1, limits.files_written_max, "files stored")
    _count(use.written_bytes + size, limits.file_bytes_written_max, "bytes of files stored")
    try:
        data = base64.b64decode(args.blob, validate=True)
    except (binascii.Error, ValueError):
        raise CvxError(
            "InvalidArgument", "Invalid argument `blob` for `storage.store`: not base64."
        ) from None
    content_type = checked_type(args.contentType, limits)
    use.written += 1
    use.written_bytes += len(data)
    host.tx.usage.storage_bytes_written += len(data)
    kept = await services.files.put(_once(data), use.reservation, sha256=parse_sha256(args.sha256))
    return _encode(file_records.add(host.tx, kept, content_type, component=host.component))


async def get(host: StorageHost, raw: bytes) -> bytes:
    """The bytes of a file as the transaction sees it, or null."""
    use = _use_of(host, "storage.get")
    services = host.call.services
    record = file_records.find(host.tx, _file_of(raw, "storage.get"), "storage.get", component=host.component)
    if record is None:
        return b"null"
    limits = services.limits
    _count(use.read + 1, limits.files_read_max, "files read")
    _count(use.read_bytes + record.size, limits.file_bytes_read_max, "bytes of files read")
    use.read += 1
    use.read_bytes += record.size
    host.tx.usage.storage_bytes_read += record.size
    file = await services.files.open(record)
    try:
        data = b"".join([chunk async for chunk in file.chunks()])
    finally:
        await file.close()
    return _encode({"blob": base64.b64encode(data).decode(), "contentType": record.content_type})


# --------------------------------------------------------------------------------------------------- in actions

ACTION_SYSCALLS = frozenset(
    {
        "1.0/storageGetUrl",
        "1.0/storageGetMetadata",
        "1.0/storageGenerateUploadUrl",
        "1.0/storageDelete",
    }
)


async def in_action(services: Services, op: str, raw: bytes, identity: Identity, component: str) -> bytes:
    """One of `ACTION_SYSCALLS`, now and by itself. Raises CvxError as in mutations."""
    db = services.db
    if op == "1.0/storageDelete":
        await db.run(
            identity,
            lambda tx: _delete(tx, raw, component),
            write_source="storage.delete",
            component=component,
        )
        return b"null"
    with db.snapshot() as snapshot:
        tx = db.begin(identity, snapshot=snapshot, read_only=True, component=component)
        origin = deployment.canonical_urls(tx, services.deployment).cloud
        if op == "1.0/storageGetUrl":
            result = _url(tx, raw, origin, component)
        elif op == "1.0/storageGetMetadata":
            result = _metadata(tx, raw, component)
        else:
            result = _encode(services.files.upload_url(origin, component, db.clock.now_ns() / 1e6))
        await db.durable(snapshot.ts)
    return result


def parse_sha256(text: str | None) -> bytes | None:
    """The digest that `storage.store` is given, in base64 or hexadecimal digits. Raises CvxError "InvalidArgument"."""
    if text is None:
        return None
    try:
        digest = bytes.fromhex(text) if len(text) == 64 else base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 32:
        raise CvxError(
            "InvalidArgument",
            f"Invalid argument `sha256` for `storage.store`: '{text[:100]}' is not a SHA-256 digest.",
            hint="Pass it in base64 or in 64 hexadecimal digits.",
        )
    return digest


# ------------------------------------------------------------------------------------------- over a transaction


def _url(tx: Transaction, raw: bytes, origin: str, component: str) -> bytes:
    record = file_records.find(tx, _file_of(raw, "storage.getUrl"), "storage.getUrl", component=component)
    if record is None:
        return b"null"
    suffix = f"?component={component}" if component else ""
    return _encode(f"{origin}/api/storage/{record.storage_id}{suffix}")


def _metadata(tx: Transaction, raw: bytes, component: str) -> bytes:
    api = "storage.getMetadata"
    record = file_records.find(tx, _file_of(raw, api), api, component=component)
    if record is None:
        return b"null"
    return _encode(
        {
            "storageId": record.storage_id,
            "sha256": record.sha256.hex(),
            "size": float(record.size),
            "contentType": record.content_type,
        }
    )


def _delete(tx: Transaction, raw: bytes, component: str) -> bytes:
    file = _file_of(raw, "storage.delete")
    record = file_records.find(tx, file, "storage.delete", component=component)
    if record is None:
        raise CvxError(
            "StorageIdNotFound",
            f"storage id {file[:64]} not found: the file does not exist, or was deleted before.",
            hint="Read the file with ctx.db.system.get first, if it may be gone.",
        )
    file_records.remove(tx, record)
    return b"null"


def _file_of(raw: bytes, api: str) -> str:
    args: _FileArgs = decode_syscall(_file_args, raw, api)
    return args.storageId


def _use_of(host: StorageHost, api: str) -> FileUse:
    _check_writable(host, api)
    assert host.call.files is not None, "every mutation has one"
    return host.call.files


def _check_writable(host: StorageHost, api: str) -> None:
    if not host.writable:
        raise CvxError(
            "WriteInQuery", f"`{api}` was called in a query, and is for mutations and actions.",
            hint="Make the function a mutation.", retry_when="files",
        )  # fmt: skip


def _count(number: int, most: int, what: str) -> None:
    if number > most:
        raise CvxError(
            "TooManyFileBytes" if "bytes" in what else "TooManyFiles",
            f"Too many {what} in a single function execution (limit: {most}).",
            hint="Handle large files in an action, or let clients upload them with generateUploadUrl.",
        )


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
