"""/api/deploy2/* and get_config_hashes: a push, from the pusher's first question to its last report.

The admin key is in the body of each of these requests; a header may be there as well and is not looked at.

Source: reference/cli-and-deploy.md §2.6–2.9.
"""

from __future__ import annotations

from typing import TypeVar

from starlette.responses import Response

from cvx.backend.auth import Admin
from cvx.backend.http.middleware import Call, JsonResponse
from cvx.protocol.calls import encode_body
from cvx.protocol.push import (
    FinishPushRequest,
    GetConfigHashesRequest,
    ReportPushCompletedRequest,
    StartPushRequest,
    WaitForSchemaRequest,
)

_Request = TypeVar(
    "_Request",
    FinishPushRequest,
    GetConfigHashesRequest,
    ReportPushCompletedRequest,
    StartPushRequest,
    WaitForSchemaRequest,
)


async def get_config_hashes(call: Call) -> Response:
    """POST /api/get_config_hashes: what is deployed now."""
    await _read(call, GetConfigHashesRequest, write=False)
    return await _on_disk(call, encode_body(call.services.pushes.get_config_hashes()))


async def start_push(call: Call) -> Response:
    """POST /api/deploy2/start_push: analyse, keep the code, prepare schema and indexes; nothing visible."""
    body = await _read(call, StartPushRequest)
    return await _on_disk(call, encode_body(await call.services.pushes.start_push(body)))


async def evaluate_push(call: Call) -> Response:
    """POST /api/deploy2/evaluate_push: what would change; writes nothing."""
    body = await _read(call, StartPushRequest, write=False)
    return await _on_disk(call, encode_body(await call.services.pushes.evaluate_push(body)))


async def evaluate_schema(call: Call) -> Response:
    """POST /api/deploy2/evaluate_schema: what the schema would cost; writes nothing."""
    body = await _read(call, StartPushRequest, write=False)
    return await _on_disk(call, encode_body(await call.services.pushes.evaluate_schema(body)))


async def wait_for_schema(call: Call) -> Response:
    """POST /api/deploy2/wait_for_schema: answers when the state changed, or after the request's timeout."""
    body = await _read(call, WaitForSchemaRequest)
    status = await call.services.pushes.wait_for_schema(
        body.schema_change, timeout_ms=body.timeout_ms, dry_run=body.dry_run
    )
    return JsonResponse(encode_body(status))


async def finish_push(call: Call) -> Response:
    """POST /api/deploy2/finish_push: put everything in force, in one transaction."""
    body = await _read(call, FinishPushRequest)
    return JsonResponse(encode_body(await call.services.pushes.finish_push(body)))


async def report_push_completed(call: Call) -> Response:
    """POST /api/deploy2/report_push_completed: spans of the pusher; taken and not kept."""
    await _read(call, ReportPushCompletedRequest)
    return JsonResponse(b"null")


async def _on_disk(call: Call, body: bytes) -> Response:
    """The answer, once everything it may rest on is on disk."""
    await call.services.db.durable(call.services.db.latest_ts)
    return JsonResponse(body)


async def _read(call: Call, expected: type[_Request], *, write: bool = True) -> _Request:
    """The body, which must carry the key of an admin (who may write, if that is asked)."""
    body = await call.json(expected, bytes_max=call.services.config.limits.push_body_bytes_max)
    admin: Admin = call.services.authenticator.admin(body.admin_key)
    call.services.authenticator.require_admin(admin, write=write)
    return body
