"""What every request has around it: who calls, with which library; bodies; CORS; errors as JSON.

Handlers raise CvxError and nothing else; `answer` is the edge where an error of any kind becomes a status and
a body with `code` and `message`, which the official clients need both of.

Source: reference/values-and-sync.md §5; cli-and-deploy.md §0.1.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import brotli
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Scope

from cvx.backend.auth import Identity
from cvx.backend.functions import Origin, new_request_id
from cvx.backend.http.services import Services
from cvx.errors import CvxError, ErrorKind
from cvx.protocol.calls import CallingClient, decode_body, failure_body
from cvx.protocol.codec import check_supported

_log = logging.getLogger("cvx.http")

STATUS_OF: Mapping[ErrorKind, int] = {
    "bad_request": 400,
    "pagination_limit": 400,
    "unauthenticated": 401,
    "auth_update_failed": 401,
    "forbidden": 403,
    "not_found": 404,
    "conflict": 409,
    "rate_limited": 429,
    "overloaded": 503,
    "occ": 503,
    "out_of_retention": 503,
    "unavailable": 503,
    "internal": 500,
}
INTERNAL_MESSAGE = "Your request couldn't be completed. Try again later."

_DISCARDED_MAX = 4  # Times the size allowed: so much of a refused body is taken and thrown away.

_Body = TypeVar("_Body")


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request and what its handler needs to answer it."""

    request: Request
    services: Services
    client: CallingClient | None
    request_id: str
    goes_on: Callable[[], None]
    """Tells that the request is getting on: `request_time_s` begins again."""

    async def identity(self) -> Identity:
        """Who calls: by the Authorization header, else the `adminKey` parameter. Raises 400 and 401."""
        request = self.request
        admin_key = request.query_params.get("adminKey") if request.scope["query_string"] else None
        return await self.services.authenticator.from_header(
            request.headers.get("authorization"), admin_key=admin_key
        )

    async def admin(self, *, write: bool = False) -> Identity:
        """The caller, who must be an admin. Raises 403 `BadDeployKey`, `ReadOnlyAdminKey`."""
        return self.services.authenticator.require_admin(await self.identity(), write=write)

    async def body(self, *, bytes_max: int | None = None) -> bytes:
        """The decompressed body. Raises 413-class `RequestTooLarge`, 400 `BadRequestEncoding`."""
        return await read_body(self.request, bytes_max or self.services.config.limits.request_body_bytes_max)

    async def json(self, expected: type[_Body], *, bytes_max: int | None = None) -> _Body:
        """The JSON body as a struct. Raises 400 `BadJsonBody`, also for another Content-Type."""
        content_type = self.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != "application/json" and not (
            content_type.startswith("application/") and content_type.endswith("+json")
        ):
            raise CvxError("BadJsonBody", "The request needs the header `Content-Type: application/json`.")
        return decode_body(await self.body(bytes_max=bytes_max), expected)


def origin_of(scope: Scope) -> Origin:
    """Who is at the other end: the first of X-Forwarded-For (a proxy's word, taken as it is), else the peer."""
    headers = Headers(scope=scope)
    forwarded = headers.get("x-forwarded-for", "").partition(",")[0].strip()
    peer = scope.get("client")
    return Origin(forwarded or (peer[0] if peer else None), headers.get("user-agent"))


Handler = Callable[[Call], Awaitable[Response]]


class _Deadline:
    """Cancels the task of a request that did not get on for too long."""

    def __init__(self, task: asyncio.Task[Any], seconds: float) -> None:
        self._task = task
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._ends = self._loop.time() + seconds
        self._timer = self._loop.call_later(seconds, self._look)
        self.is_over = False

    def extend(self) -> None:
        self._ends = self._loop.time() + self._seconds

    def close(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        left = self._ends - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self.is_over = True
            self._task.cancel()


class JsonResponse(Response):
    """JSON text that is already bytes."""

    media_type = "application/json"


async def answer(handler: Handler, request: Request, services: Services) -> Response:
    """The edge: run a handler and turn whatever happens into a response."""
    task = asyncio.current_task()
    assert task is not None
    deadline = _Deadline(task, services.config.limits.request_time_s)
    try:
        client = CallingClient.parse(request.headers.get("convex-client"))
        check_supported(client)
        request_id = request.headers.get("convex-request-id") or new_request_id()
        return await handler(Call(request, services, client, request_id, deadline.extend))
    except CvxError as error:
        return error_response(error)
    except ClientDisconnect:
        return Response(status_code=408)
    except asyncio.CancelledError:
        if not deadline.is_over:
            return JsonResponse(failure_body("Stopping", "The backend is stopping."), status_code=503)
        body = failure_body("RequestTimeout", "The request took too long.")
        # What else would come of its body is not worth waiting for.
        return JsonResponse(body, status_code=408, headers={"connection": "close"})
    except Exception:
        _log.exception("%s %s failed", request.method, request.url.path)
        return JsonResponse(failure_body("InternalServerError", INTERNAL_MESSAGE), status_code=500)
    finally:
        deadline.close()


def error_response(error: CvxError) -> Response:
    """An error as clients expect it; a refused client library also learns so from headers."""
    if error.kind == "internal":
        _log.error("internal error: %s", error)
    status = error.details.get("status") or STATUS_OF[error.kind]
    response = JsonResponse(
        failure_body(error.code, error.message), status_code=status, headers=error.details.get("headers")
    )
    if error.code == "ClientVersionUnsupported":
        response.headers["x-convex-deprecation-state"] = "Unsupported"
        response.headers["x-convex-deprecation-message"] = error.message
    return response


# --- bodies -------------------------------------------------------------------------------------------------


class _Inflater(Protocol):
    def more(self, data: bytes, size_max: int) -> bytes:
        """The next output, at most about `size_max` bytes of it; empty data to go on with what is held."""
        ...

    @property
    def pending(self) -> bool:
        """Whether there is more to come without more input."""
        ...

    @property
    def finished(self) -> bool: ...


class _Zlib:
    def __init__(self, window_bits: int) -> None:
        self._stream = zlib.decompressobj(window_bits)

    def more(self, data: bytes, size_max: int) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail + data, size_max)

    @property
    def pending(self) -> bool:
        return bool(self._stream.unconsumed_tail)

    @property
    def finished(self) -> bool:
        return self._stream.eof


class _Brotli:
    def __init__(self) -> None:
        self._stream = brotli.Decompressor()

    def more(self, data: bytes, size_max: int) -> bytes:
        out: bytes = self._stream.process(data, output_buffer_limit=size_max)
        return out

    @property
    def pending(self) -> bool:
        return not self._stream.can_accept_more_data()

    @property
    def finished(self) -> bool:
        return bool(self._stream.is_finished())


_ENCODINGS: Mapping[str, Callable[[], _Inflater]] = {
    "br": _Brotli,
    "gzip": lambda: _Zlib(31),
    "x-gzip": lambda: _Zlib(31),
    "deflate": lambda: _Zlib(15),
}


async def read_body(request: Request, bytes_max: int) -> bytes:
    """The body, decompressed. The limit is on the decompressed size, and is kept while decompressing."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    inflater: _Inflater | None = None
    if encoding not in ("identity", ""):
        if encoding not in _ENCODINGS:
            raise CvxError(
                "BadRequestEncoding", f"The body's Content-Encoding '{encoding[:40]}' is not known."
            )
        inflater = _ENCODINGS[encoding]()
    else:
        _check_declared(request, bytes_max)
    pieces: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        for piece in [chunk] if inflater is None else _inflate(inflater, chunk, bytes_max - size + 1):
            size += len(piece)
            if size > bytes_max:
                raise _too_large(bytes_max)
            pieces.append(piece)
    if inflater is not None and not inflater.finished:
        raise CvxError("BadRequestEncoding", f"The body is cut short: it ends inside its {encoding} data.")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _check_declared(request: Request, bytes_max: int) -> None:
    """Refuse a body before it is sent when it says that it is too large."""
    declared = request.headers.get("content-length", "")
    if not declared.isdecimal() or int(declared) <= bytes_max:
        return
    # A client that is still sending may not see an answer on a connection that closes: only if it is not worth it.
    raise _too_large(bytes_max, close=int(declared) > _DISCARDED_MAX * bytes_max)


def _too_large(bytes_max: int, *, close: bool = False) -> CvxError:
    return CvxError(
        "RequestTooLarge",
        f"The request body is larger than {bytes_max} bytes.",
        details={"status": 413, "headers": {"connection": "close"} if close else None},
    )


def _inflate(inflater: _Inflater, data: bytes, size_max: int) -> list[bytes]:
    """What `data` unpacks to, stopping once it is more than allowed."""
    pieces, size = [], 0
    try:
        while (data or inflater.pending) and not inflater.finished and size < size_max:
            piece = inflater.more(data, size_max - size)
            data = b""
            size += len(piece)
            pieces.append(piece)
    except (zlib.error, brotli.error) as error:
        raise CvxError(
            "BadRequestEncoding", f"The body is not what its Content-Encoding says: {error}"
        ) from None
    return pieces


# --- CORS ---------------------------------------------------------------------------------------------------

_METHODS = b"GET, POST, OPTIONS, PATCH, DELETE, PUT"


def cors_headers(request: Request) -> list[tuple[bytes, bytes]]:
    """Headers for a page of any origin: the origin is mirrored, credentials are allowed."""
    origin = request.headers.get("origin")
    if origin is None:
        return []
    return [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-allow-credentials", b"true"),
        (b"vary", b"origin, access-control-request-method, access-control-request-headers"),
    ]


def preflight_response(request: Request) -> Response | None:
    """The answer to a CORS preflight; None for any other request."""
    if request.method != "OPTIONS" or "access-control-request-method" not in request.headers:
        return None
    response = Response(status_code=200)
    asked = request.headers.get("access-control-request-headers")
    response.raw_headers.append((b"access-control-allow-methods", _METHODS))
    response.raw_headers.append((b"access-control-max-age", b"86400"))
    if asked is not None:
        response.raw_headers.append((b"access-control-allow-headers", asked.encode("latin-1")))
    return response
