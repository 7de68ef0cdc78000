"""HTTP actions: the site port, and `/http/…` on the API port.

Both bodies are streams, at the pace of whoever reads them: a part of the request is taken when user code wants it, a part
of the response leaves before the next is asked for. A client that goes away cancels the action. What goes wrong
before the head of the response is a JSON answer; after it, the connection is cut, so that nobody takes a part for the whole.

Rule: nothing is added to what user code answers, CORS headers neither, but for what HTTP itself needs.

Source: reference/runtime-and-database.md §3.5, §11.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator

import msgspec
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from cvx.backend.config import Limits
from cvx.backend.functions import FunctionError, HttpActionResult, new_request_id
from cvx.backend.functions.http_actions import METHODS
from cvx.backend.http.middleware import INTERNAL_MESSAGE, JsonResponse, error_response, origin_of
from cvx.backend.http.services import Services
from cvx.backend.runner import HttpRequestHead, HttpResponseHead
from cvx.errors import CvxError
from cvx.protocol.calls import failure_body

_log = logging.getLogger("cvx.http")

_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})
# They are about one connection, and the server's own; a response's length is looked at apart.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_host = re.compile(r"[A-Za-z0-9._~\-]+(:[0-9]+)?|\[[0-9A-Fa-f:.]+\](:[0-9]+)?", re.ASCII)
_LOOK_AGAIN_S = 1.0


async def serve_http_action(
    scope: Scope, receive: Receive, send: Send, services: Services, mount: str = ""
) -> None:
    """Answer one request to the site, from its head to the end of the response. `mount` is not part of the path."""
    method: str = scope["method"]
    if method not in METHODS and method != "HEAD":
        await _wrong_method()(scope, receive, send)
        return
    limits = services.config.limits
    declared = Headers(scope=scope).get("content-length", "")
    if declared.isdecimal() and int(declared) > limits.http_request_bytes_max:
        # A client that is still sending may not see an answer on a connection that closes: only if it is not worth it.
        close = int(declared) > limits.upload_discarded_bytes_max
        await error_response(_request_too_large(limits, close=close))(scope, receive, send)
        return
    exchange = _Exchange(scope, receive, send, limits)
    request_id = new_request_id()
    response: Response | None
    try:
        result = await _run(exchange, services, _head(scope, mount), request_id)
        response = _answer_to(result, exchange)
    except _ClientGone:
        return
    except CvxError as error:
        if error.code in ("HttpActionsNotEnabled", "NoRoute"):
            response = PlainTextResponse(error.message, status_code=404)
        else:
            response = error_response(error)
    except asyncio.CancelledError:
        response = JsonResponse(failure_body("Stopping", "The backend is stopping."), status_code=503)
    except Exception:
        _log.exception("%s %s failed", method, scope["path"][:200])
        response = JsonResponse(failure_body("InternalServerError", INTERNAL_MESSAGE), status_code=500)
    if response is not None and not exchange.has_begun:
        await response(scope, receive, send)
    elif not exchange.is_complete and (response is not None or not await exchange.finish()):
        await exchange.abort()


async def _run(
    exchange: _Exchange, services: Services, head: HttpRequestHead, request_id: str
) -> HttpActionResult:
    """Run the action beside a look at whether its client is still there. Raises _ClientGone when it is not."""
    identity = await services.authenticator.from_header_or_error(
        Headers(scope=exchange.scope).get("authorization")
    )
    action = asyncio.ensure_future(
        services.executor.http_action(
            head, exchange, identity, request_id=request_id, origin=origin_of(exchange.scope)
        )
    )
    client = asyncio.ensure_future(exchange.take_request())
    try:
        await asyncio.wait({action, client}, return_when=asyncio.FIRST_COMPLETED)
        if not action.done():
            raise _ClientGone
        return action.result()
    finally:
        for task in (action, client):
            if not task.done():
                task.cancel()
        await asyncio.gather(action, client, return_exceptions=True)


def _answer_to(result: HttpActionResult, exchange: _Exchange) -> Response | None:
    """What is left to answer: an error, or None when the response was given in full."""
    if result.error is None:
        return None
    if exchange.refusal is not None:
        return error_response(exchange.refusal)
    return _failure(result.error, result.request_id)


class _ClientGone(Exception):
    """Nobody is there any more to be answered."""


class _Exchange:
    """An HttpExchange over ASGI: one request, one response."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, limits: Limits) -> None:
        self.scope = scope
        self.has_begun = False
        """Whether the head of the response is on its way."""
        self.refusal: CvxError | None = None
        """What is wrong with the request's body, if that came out while it was read."""
        self._receive = receive
        self._send = send
        self._limits = limits
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._taken: asyncio.Future[None] | None = None
        self._sent_bytes = 0
        self._announced: int | None = None  # The Content-Length that user code set.
        self.is_complete = False
        """Whether the client has all of the response."""
        # uvicorn knows of a client that has gone before its `receive` is asked again.
        self._cycle = getattr(send, "__self__", None)

    # ---- the request

    async def take_request(self) -> None:
        """Hand on what arrives, as it is wanted. Returns when the client has gone."""
        more = True
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                if not self.is_complete:
                    return
                await (
                    asyncio.Event().wait()
                )  # It has all it wanted; the action may still have something to do.
            if not more:
                continue
            more = message.get("more_body", False)
            for part in (message.get("body", b""), None if not more else b""):
                if part != b"" and not await self._hand_on(part):
                    return

    async def _hand_on(self, part: bytes | None) -> bool:
        """Whether the client is still there once somebody took the part before this one."""
        while self._parts.full():
            # Not `wait_for`: it loses a cancellation that comes when what it waits for does (Python 3.11).
            self._taken = asyncio.get_running_loop().create_future()
            await asyncio.wait({self._taken}, timeout=_LOOK_AGAIN_S)
            if getattr(self._cycle, "disconnected", False):
                return False
        self._parts.put_nowait(part)
        return True

    async def request_body(self) -> AsyncIterator[bytes]:
        """Its parts. Raises CvxError "RequestTooLarge"."""
        size = 0
        while (part := await self._parts.get()) is not None:
            if self._taken is not None and not self._taken.done():
                self._taken.set_result(None)
            size += len(part)
            if size > self._limits.http_request_bytes_max:
                self.refusal = _request_too_large(self._limits, close=True)
                raise self.refusal
            yield part

    # ---- the response

    async def respond(self, head: HttpResponseHead) -> None:
        headers: list[tuple[bytes, bytes]] = []
        for name, value in head.headers:
            if name in _HOP_BY_HOP:
                continue
            if name == "content-length":
                if head.status in (204, 304) or not value.isdecimal():
                    continue
                self._announced = int(value)
            headers.append((name.encode("latin-1"), value.encode("latin-1")))
        if not head.has_body and self._announced is None and head.status not in (204, 304):
            headers.append((b"content-length", b"0"))
            self._announced = 0
        self.has_begun = True
        await self._send({"type": "http.response.start", "status": head.status, "headers": headers})
        if self._is_head or self._announced == 0:
            await self._end()

    async def respond_chunk(self, chunk: bytes) -> None:
        """Raises CvxError "HttpResponseTooLarge"."""
        self._sent_bytes += len(chunk)
        if self._sent_bytes > self._limits.http_response_bytes_max:
            raise CvxError(
                "HttpResponseTooLarge",
                f"HttpResponseTooLarge: the body of the response is larger than "
                f"{self._limits.http_response_bytes_max} bytes, and was cut there.",
                hint="Store it with ctx.storage and answer with a redirect to its URL.",
            )
        if self._announced is not None and self._sent_bytes > self._announced and not self._is_head:
            raise CvxError(
                "HttpResponseLengthMismatch",
                f"The response announced {self._announced} bytes (Content-Length) and has more.",
                hint="Leave the header Content-Length away.",
            )
        if not self.is_complete:
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
            if self._sent_bytes == self._announced:
                await self._end()

    async def finish(self) -> bool:
        """End the response; False when it is shorter than it announced."""
        if self.is_complete:
            return True
        if self._announced is not None:
            return False
        await self._end()
        return True

    async def _end(self) -> None:
        self.is_complete = True
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def abort(self) -> None:
        """Cut the connection in the middle of the response."""
        transport = getattr(self._cycle, "transport", None)
        if transport is None:
            return  # The server ends a response that was not completed.
        transport.abort()
        message: Message = {"type": ""}
        while message["type"] != "http.disconnect":
            message = await self._receive()

    @property
    def _is_head(self) -> bool:
        return bool(self.scope["method"] == "HEAD")


# --- the head of a request -----------------------------------------------------------------------------------


def _head(scope: Scope, mount: str) -> HttpRequestHead:
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    return HttpRequestHead(
        method=scope["method"],
        url=absolute_url(scope, mount),
        headers=headers,
        has_body=scope["method"] not in _WITHOUT_BODY and _announces_body(Headers(scope=scope)),
    )


def _announces_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0").strip() != "0"


def absolute_url(scope: Scope, mount: str = "") -> str:
    """The URL that the client asked for, as far as it and the proxies in between tell, without `mount`."""
    headers = Headers(scope=scope)
    forwarded = _forwarded(headers.get("forwarded"))
    protocol = (forwarded.get("proto") or _first(headers.get("x-forwarded-proto"))).lower()
    host = forwarded.get("host") or _first(headers.get("x-forwarded-host")) or headers.get("host", "")
    if _host.fullmatch(host) is None:
        name, port = scope.get("server") or ("localhost", None)
        host = name if port is None else f"{name}:{port}"
    raw: bytes = scope["raw_path"].partition(b"?")[0].removeprefix(mount.encode())
    path = raw.decode("latin-1")
    query = scope["query_string"].decode("latin-1")
    scheme = protocol if protocol in ("http", "https") else "http"
    return f"{scheme}://{host}/{path.removeprefix('/')}" + (f"?{query}" if query else "")


def _forwarded(header: str | None) -> dict[str, str]:
    """The parameters of the first hop of a Forwarded header (RFC 7239)."""
    found = {}
    for pair in (header or "").partition(",")[0].split(";"):
        name, equals, value = pair.partition("=")
        if equals:
            found[name.strip().lower()] = value.strip().strip('"')
    return found


def _first(header: str | None) -> str:
    return (header or "").partition(",")[0].strip()


# --- answers of our own --------------------------------------------------------------------------------------


def _failure(error: FunctionError, request_id: str) -> Response:
    """An action that failed before its response: 500, and what there is to say (§3.5)."""
    code = f"[Request ID: {request_id}] Server Error"
    body: dict[str, object] = {"code": code}
    if not error.redacted:
        body["code"] = f"{code}: {error.message.partition(chr(10) + '    at ')[0].rstrip()}"
        body["trace"] = error.message
    if error.data_json is not None:
        body["data"] = msgspec.Raw(error.data_json)
    return JsonResponse(msgspec.json.encode(body), status_code=500)


def _wrong_method() -> Response:
    return JsonResponse(
        failure_body("MethodNotAllowed", f"HTTP actions answer {', '.join(METHODS)} and HEAD."),
        status_code=405,
        headers={"allow": ", ".join((*METHODS, "HEAD"))},
    )


def _request_too_large(limits: Limits, *, close: bool) -> CvxError:
    return CvxError(
        "RequestTooLarge",
        f"The request body is larger than {limits.http_request_bytes_max} bytes.",
        hint="Upload large files to a URL of ctx.storage.generateUploadUrl().",
        details={"status": 413, "headers": {"connection": "close"} if close else None},
    )
