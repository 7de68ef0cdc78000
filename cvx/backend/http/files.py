"""Upload and download of stored files.

Bodies are never whole in memory: an upload goes to the FileStore as it arrives, a download leaves as it is read, and the
client's pace is everybody's pace. An upload may take as long as it likes while it goes on.

What somebody uploaded is served from the deployment's own address with the content type they chose. So browsers are told
not to guess at types, and what could run scripts gets an origin of its own, in which it can reach nothing.

Source: reference/runtime-and-database.md §8; values-and-sync.md §5.1.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cvx.backend.files import OpenFile
from cvx.backend.http.middleware import Call, JsonResponse
from cvx.backend.model import FileRecord
from cvx.backend.model.file_records import parse_storage_id
from cvx.errors import CvxError

PATH = "/api/storage/"

_DIGEST = "sha-256="
_CACHE_CONTROL = "private, max-age=2592000"
_RUNS_SCRIPTS = re.compile(
    r"\s*(text/html|text/xml|application/xml|[\w.-]+/[\w.-]+\+xml)\s*(;.*)?", re.ASCII | re.IGNORECASE
)
_SANDBOX = "sandbox allow-scripts allow-forms allow-popups allow-modals allow-downloads"
_POSITION = re.compile(r"[0-9]{1,18}")
_RANGE = re.compile(r"bytes\s*=\s*([-\d\s,]+)", re.ASCII | re.IGNORECASE)


async def upload(call: Call) -> Response:
    """POST /api/storage/upload?token=…: the body is the file; `{"storageId": …}`.

    Raises CvxError: StorageTokenInvalid, StorageTokenExpired (401), BadHeader, Sha256Mismatch, BadContentType,
    BadRequestEncoding (400), FileTooLarge (413).
    """
    request, files, limits = call.request, call.services.files, call.services.config.limits
    declared = _declared_length(call)
    try:
        component = files.check_upload_token(request.query_params.get("token", ""))
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", ""):
            raise CvxError("BadRequestEncoding", "A file is uploaded as it is, without a Content-Encoding.")
        sha256 = _announced_digest(request.headers.get("digest"))
        if declared is not None and declared > limits.stored_file_bytes_max:
            raise CvxError(
                "FileTooLarge",
                f"The file has {declared} bytes, and {limits.stored_file_bytes_max} is the most that one may have.",
                details={"status": 413},
            )
        id = await files.save(
            _body(call), request.headers.get("content-type"), sha256=sha256, component=component
        )
    except CvxError as error:
        if declared is not None and declared > limits.upload_discarded_bytes_max:
            error.details.setdefault("headers", {"connection": "close"})
        raise
    return JsonResponse(msgspec.json.encode({"storageId": id}))


async def download(call: Call) -> Response:
    """GET and HEAD /api/storage/<storage id>: the file, one range of its bytes, or 304 for who has it already.

    Raises CvxError: InvalidStoragePath (400), FileNotFound (404).
    """
    request, files = call.request, call.services.files
    text: str = request.scope["path"][len(PATH) :]
    storage_id = parse_storage_id(text)
    if storage_id is None:
        raise CvxError(
            "InvalidStoragePath",
            f"'{text[:100]}' does not name a stored file: it is not a UUID.",
            hint="Use the URL that ctx.storage.getUrl() returns; a document id is not part of it.",
        )
    record = await files.record_at_url(storage_id, component=request.query_params.get("component", ""))
    if record is None:
        raise _not_found(storage_id)
    headers = _headers(record)
    if _is_named(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    start, end, status = 0, record.size, 200
    wanted = request.headers.get("range")
    if request.headers.get("if-range", headers["ETag"]).strip() != headers["ETag"]:
        wanted = None
    ranges = None if wanted is None or record.size == 0 else satisfiable_ranges(wanted, record.size)
    if ranges is not None:
        if len(ranges) != 1:
            return Response(status_code=416, headers={"Content-Range": f"bytes */{record.size}"})
        [(start, end)] = ranges
        status = 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{record.size}"
    else:
        headers["Digest"] = _DIGEST + record.sha256_base64
    headers["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    async with AsyncExitStack() as stack:
        stack.enter_context(files.downloading())
        try:
            file = await files.open(record, start, end)
        except CvxError as error:
            # Its bytes may have gone since its record was read.
            raise error if error.code != "FileNotFound" else _not_found(storage_id) from None
        stack.push_async_callback(file.close)
        stalled_s = call.services.config.limits.download_stalled_s
        return _Download(file, stack.pop_all(), status, headers, stalled_s)


def satisfiable_ranges(header: str, size: int) -> list[tuple[int, int]] | None:
    """The byte ranges [start, end) of a Range header that lie in a file of `size` bytes; None for a header that is
    none, which counts as absent."""
    match = _RANGE.fullmatch(header.strip())
    if match is None:
        return None
    found: list[tuple[int, int]] = []
    for part in match[1].split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        digits = [piece for piece in (first, last) if piece]
        if not dash or not digits or not all(_POSITION.fullmatch(piece) for piece in digits):
            return None
        if not first:
            start, end = max(0, size - int(last)), size
        else:
            start, end = int(first), size if not last else min(size, int(last) + 1)
            if last and int(last) < start:
                return None
        if start < end:
            found.append((start, end))
    return found


def _is_named(header: str | None, tag: str) -> bool:
    """Whether an If-None-Match header names this tag; weak spellings of it do, as RFC 9110 §13.1.2 has it."""
    names = [] if header is None else [name.strip() for name in header.split(",")]
    return "*" in names or any(name.removeprefix("W/") == tag for name in names)


class _Download(Response):
    """Sends a part of a file, at the pace at which it is read; stops as soon as nobody reads."""

    def __init__(
        self, file: OpenFile, held: AsyncExitStack, status: int, headers: dict[str, str], stalled_s: float
    ) -> None:
        super().__init__(status_code=status, headers=headers)
        self._file = file
        self._held = held
        self._stalled_s = stalled_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            async for chunk in self._file.chunks():
                sending = asyncio.ensure_future(
                    send({"type": "http.response.body", "body": chunk, "more_body": True})
                )
                await asyncio.wait(
                    {sending, gone}, timeout=self._stalled_s, return_when=asyncio.FIRST_COMPLETED
                )
                if gone.done() or not sending.done():
                    sending.cancel()
                    return
                sending.result()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            await self._held.aclose()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _body(call: Call) -> AsyncIterator[bytes]:
    async for chunk in call.request.stream():
        call.goes_on()
        if chunk:
            yield chunk


def _headers(record: FileRecord) -> dict[str, str]:
    # What is stored never changes, so its digest is a strong validator: broken-off downloads and videos go on by it.
    headers = {
        "ETag": f'"{record.sha256_base64}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": _CACHE_CONTROL,
        "X-Content-Type-Options": "nosniff",
    }
    if record.content_type is not None:
        headers["Content-Type"] = record.content_type
        if _RUNS_SCRIPTS.fullmatch(record.content_type):
            headers["Content-Security-Policy"] = _SANDBOX
    return headers


def _announced_digest(header: str | None) -> bytes | None:
    """The SHA-256 that a `Digest` header announces."""
    if header is None:
        return None
    with contextlib.suppress(binascii.Error, ValueError):
        if header.startswith(_DIGEST):
            digest = base64.b64decode(header[len(_DIGEST) :], validate=True)
            if len(digest) == 32:
                return digest
    raise CvxError(
        "BadHeader",
        f"The header Digest is '{header[:100]}', and must be sha-256= and the digest in base64.",
        hint="Leave the header out, or send `Digest: sha-256=<base64 of the 32 bytes>`.",
    )


def _declared_length(call: Call) -> int | None:
    declared = call.request.headers.get("content-length", "")
    return int(declared) if declared.isdecimal() else None


def _not_found(storage_id: str) -> CvxError:
    return CvxError(
        "FileNotFound",
        f"There is no file at {PATH}{storage_id}: it was deleted, or never existed.",
        kind="not_found",
    )
