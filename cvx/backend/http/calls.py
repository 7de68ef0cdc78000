"""One-shot function calls, and the small endpoints that say who answers.

A call that reached its function is answered with 200, whether it succeeded or failed; the status tells about
the transport only.

Source: reference/values-and-sync.md §5, §1.5; cli-and-deploy.md §5.6, §6.
"""

from __future__ import annotations

import asyncio
from importlib.metadata import PackageNotFoundError, version
from urllib.parse import unquote

from msgspec import Raw
from starlette.responses import PlainTextResponse, Response

from cvx.backend.auth import Admin, Identity
from cvx.backend.database import Snapshot
from cvx.backend.functions import FunctionError, error_of_cvx
from cvx.backend.http.middleware import Call, JsonResponse, origin_of
from cvx.errors import CvxError
from cvx.protocol.admin import CheckAdminKeyResponse
from cvx.protocol.calls import (
    FunctionRequest,
    QueryAtTsRequest,
    QueryBatchRequest,
    RunRequest,
    batch_body,
    encode_body,
    error_body,
    output_format,
    query_ts_body,
    run_path,
    success_body,
)
from cvx.values import FunctionPath, decode_ts, format_name

CALLER = "HttpApi"


# --- functions ----------------------------------------------------------------------------------------------


async def query(call: Call) -> Response:
    """POST /api/query."""
    body = await call.json(FunctionRequest)
    return JsonResponse(await _query(call, body, await call.identity(), None))


async def query_by_url(call: Call) -> Response:
    """GET /api/query?path=…&args=…&format=…; `args` is JSON."""
    parameters = call.request.query_params
    path = parameters.get("path")
    if path is None:
        raise CvxError("MissingParameter", "GET /api/query needs the parameter `path`.")
    body = FunctionRequest(path, Raw(parameters.get("args", "{}").encode()), parameters.get("format"))
    return JsonResponse(await _query(call, body, await call.identity(), None))


async def query_at_ts(call: Call) -> Response:
    """POST /api/query_at_ts: read at a timestamp that query_ts gave a moment ago."""
    body = await call.json(QueryAtTsRequest)
    identity, ts = await call.identity(), decode_ts(body.ts)
    if ts > call.services.db.latest_ts:
        raise CvxError("InternalServerError", f"Timestamp {ts} is in the future.", kind="internal")
    with call.services.db.snapshot_at(ts) as snapshot:
        request = FunctionRequest(body.path, body.args, body.format)
        return JsonResponse(await _query(call, request, identity, snapshot))


async def query_ts(call: Call) -> Response:
    """POST /api/query_ts: the latest timestamp, for query_at_ts."""
    ts = call.services.db.pin()
    await call.services.db.durable(ts)
    return JsonResponse(query_ts_body(ts))


async def query_batch(call: Call) -> Response:
    """POST /api/query_batch: several queries at one timestamp."""
    body = await call.json(QueryBatchRequest)
    identity = await call.identity()
    with call.services.db.snapshot() as snapshot:
        results = [await _query(call, request, identity, snapshot) for request in body.queries]
    return JsonResponse(batch_body(results))


async def mutation(call: Call) -> Response:
    """POST /api/mutation."""
    body = await call.json(FunctionRequest)
    identity, format = await call.identity(), _format(call, body.format)
    path = FunctionPath.parse(body.path)
    try:
        result = await call.services.executor.mutation(
            path,
            bytes(body.args),
            identity,
            session=None,
            caller=CALLER,
            request_id=call.request_id,
            origin=origin_of(call.request.scope),
        )
    except CvxError as error:
        return JsonResponse(_refusal_body(call, error, format))
    return JsonResponse(_body(call, result.value_json, result.error, result.log_lines, format))


async def action(call: Call) -> Response:
    """POST /api/action."""
    body = await call.json(FunctionRequest)
    identity, format = await call.identity(), _format(call, body.format)
    path = FunctionPath.parse(body.path)
    try:
        result = await call.services.executor.action(
            path,
            bytes(body.args),
            identity,
            caller=CALLER,
            request_id=call.request_id,
            origin=origin_of(call.request.scope),
        )
    except CvxError as error:
        return JsonResponse(_refusal_body(call, error, format))
    return JsonResponse(_body(call, result.value_json, result.error, result.log_lines, format))


async def function(call: Call) -> Response:
    """POST /api/function: a function of any kind and visibility; admins only."""
    body = await call.json(FunctionRequest)
    identity = await call.admin()
    return JsonResponse(await _any(call, body, identity, body.component_path or ""))


async def run(call: Call) -> Response:
    """POST /api/run/{module…}/{export}."""
    raw_path: bytes = call.request.scope["raw_path"].partition(b"?")[0]
    segments = [unquote(part) for part in raw_path.decode("latin-1").removeprefix("/api/run/").split("/")]
    path = run_path([segment for segment in segments if segment])
    body = await call.json(RunRequest)
    request = FunctionRequest(path, body.args, body.format or "json")
    return JsonResponse(await _any(call, request, await call.identity(), ""))


async def _query(
    call: Call, request: FunctionRequest, identity: Identity, snapshot: Snapshot | None
) -> bytes:
    format = _format(call, request.format)
    path = FunctionPath.parse(request.path)
    try:
        entry = await call.services.executor.query(
            path, bytes(request.args), identity, snapshot=snapshot, caller=CALLER, request_id=call.request_id
        )
    except CvxError as error:
        return _refusal_body(call, error, format)
    await call.services.db.durable(entry.ts)
    return _body(call, entry.value_json, entry.error, entry.log_lines, format)


async def _any(call: Call, request: FunctionRequest, identity: Identity, component: str) -> bytes:
    format = _format(call, request.format)
    path = FunctionPath.parse(request.path, component)
    try:
        result = await call.services.executor.any_function(
            path,
            bytes(request.args),
            identity,
            caller=CALLER,
            request_id=call.request_id,
            origin=origin_of(call.request.scope),
        )
    except CvxError as error:
        return _refusal_body(call, error, format)
    return _body(call, result.value_json, result.error, result.log_lines, format)


def _body(
    call: Call, value_json: bytes | None, error: FunctionError | None, log_lines: list[str], format: str
) -> bytes:
    if error is not None:
        return error_body(error.client_text(call.request_id), error.data_json, log_lines, format)
    assert value_json is not None
    return success_body(value_json, log_lines, format)


def _refusal_body(call: Call, error: CvxError, format: str) -> bytes:
    """A call refused before its function ran is a function error when the call itself is at fault."""
    if error.kind not in ("bad_request", "pagination_limit"):
        raise error
    return _body(call, None, error_of_cvx(error, redacted=call.services.config.redact_logs), [], format)


def _format(call: Call, requested: str | None) -> str:
    """The output format. Raises CvxError `BadFormat` before anything runs."""
    return format_name(output_format(requested, call.client))


# --- who answers --------------------------------------------------------------------------------------------


async def root(call: Call) -> Response:
    return PlainTextResponse("This Convex deployment is running. See https://docs.convex.dev/.")


async def health(call: Call) -> Response:
    """GET /api/health: for load balancers and service managers. 200 while commits reach the disk, else 503.

    Answers only after everything that was committed when it came is durable, so a disk that hangs shows.
    """
    services = call.services
    latest = services.db.latest_ts
    try:
        await asyncio.wait_for(services.db.durable(latest), services.config.limits.health_s)
    except asyncio.TimeoutError:
        body = {"status": "stalled", "reason": "The disk does not confirm writes."}
        return JsonResponse(encode_body(body), status_code=503)
    body = {"status": "ok", "instance": services.config.instance_name, "version": _version()}
    return JsonResponse(encode_body(body), headers={"cache-control": "no-store"})


async def server_version(call: Call) -> Response:
    """GET /version, /instance_version."""
    return PlainTextResponse(_version())


async def instance_name(call: Call) -> Response:
    """GET /instance_name: plain text; doubles as the readiness probe."""
    return PlainTextResponse(call.services.config.instance_name)


async def echo(call: Call) -> Response:
    """POST /echo: the body comes back, for network tests."""
    content_type = call.request.headers.get("content-type", "application/octet-stream")
    body = await call.body(bytes_max=call.services.config.limits.echo_body_bytes_max)
    return Response(body, media_type=content_type)


async def check_admin_key(call: Call) -> Response:
    """GET /api/check_admin_key."""
    identity = await call.admin()
    read_only = isinstance(identity, Admin) and identity.read_only
    return JsonResponse(encode_body(CheckAdminKeyResponse(is_read_only=read_only)))


def _version() -> str:
    try:
        return version("cvx-toolchain")
    except PackageNotFoundError:
        return "unknown"
