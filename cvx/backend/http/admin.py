"""What admins ask besides pushing: environment variables, URLs, logs, one-off queries.

Every handler checks the admin key first: from the Authorization header, from the parameter `adminKey`, or from the
body where the body has one.

Source: reference/cli-and-deploy.md §5.1, §5.2, §5.6, §5.7.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from starlette.responses import Response

from cvx.backend.auth import SYSTEM
from cvx.backend.database import ROOT, Snapshot
from cvx.backend.functions import session_request_id, shape_of
from cvx.backend.http.middleware import Call, JsonResponse
from cvx.backend.model import components, deployment, environment
from cvx.errors import CvxError
from cvx.protocol.admin import (
    CanonicalUrls,
    ListEnvironmentResponse,
    UpdateCanonicalUrlRequest,
    UpdateEnvironmentRequest,
)
from cvx.protocol.calls import TestQueryRequest, encode_body, error_body, success_body
from cvx.values import format_name, from_json

# ------------------------------------------------------------------------------------------------ environment


async def update_environment_variables(call: Call) -> Response:
    """POST /api/update_environment_variables: all changes or none; an empty 200."""
    await call.admin(write=True)
    body = await call.json(UpdateEnvironmentRequest)
    changes = [environment.EnvironmentChange(change.name, change.value) for change in body.changes]
    await call.services.pushes.change_environment(changes)
    return Response(status_code=200)


async def list_environment_variables(call: Call) -> Response:
    """GET /api/v1/list_environment_variables: what the user set, in name order."""
    await call.admin()
    with call.services.db.snapshot() as snapshot:
        tx = call.services.db.begin(SYSTEM, snapshot=snapshot, read_only=True)
        variables = environment.environment(tx)
        await call.services.db.durable(snapshot.ts)
    return JsonResponse(encode_body(ListEnvironmentResponse(environment_variables=variables)))


# ------------------------------------------------------------------------------------------------------- URLs


async def get_canonical_urls(call: Call) -> Response:
    """GET /api/v1/get_canonical_urls."""
    await call.admin()
    with call.services.db.snapshot() as snapshot:
        tx = call.services.db.begin(SYSTEM, snapshot=snapshot, read_only=True)
        urls = deployment.canonical_urls(tx, call.services.deployment)
        await call.services.db.durable(snapshot.ts)
    return JsonResponse(encode_body(CanonicalUrls(convex_cloud_url=urls.cloud, convex_site_url=urls.site)))


async def update_canonical_url(call: Call) -> Response:
    """POST /api/v1/update_canonical_url; `url` null goes back to the default."""
    await call.admin(write=True)
    body = await call.json(UpdateCanonicalUrlRequest)
    await call.services.pushes.change_canonical_url(body.request_destination, body.url)
    return Response(status_code=200)


# ----------------------------------------------------------------------------------------------------- shapes


async def table_shapes(call: Call) -> Response:
    """GET /api/shapes2?component=…: what the newest documents of each of the user's tables look like."""
    await call.admin()
    db, shapes = call.services.db, {}
    with db.snapshot() as snapshot:
        component = _component(call, snapshot)
        for table in sorted(snapshot.catalog.tables(component), key=lambda each: each.name):
            if not table.is_system:
                shapes[table.name] = _shape(call, snapshot, component, table.name)
                await asyncio.sleep(0)  # So that many tables do not keep everybody waiting.
        await db.durable(snapshot.ts)
    return JsonResponse(msgspec.json.encode(shapes))


def _component(call: Call, snapshot: Snapshot) -> str:
    """The path of the instance that the parameter `component` names by its id or its path; without one, the app."""
    named = call.request.query_params.get("component") or ROOT
    with call.services.db.begin(SYSTEM, snapshot=snapshot, read_only=True) as tx:
        found = components.by_id(tx, named)
    return named if found is None else found.path


def _shape(call: Call, snapshot: Snapshot, component: str, table: str) -> dict[str, Any]:
    most = call.services.config.limits
    query = {
        "source": {"type": "FullTableScan", "tableName": table, "order": "desc"},
        "operators": [],
    }
    with call.services.db.begin(SYSTEM, snapshot=snapshot, read_only=True) as tx:
        page = tx.paginate(
            query, None, None, most.shape_documents_max, most.shape_documents_max, most.shape_bytes_max,
            component=component, privileged=True,
        )  # fmt: skip
        documents = [from_json(msgspec.json.decode(document)) for document in page.documents]
        return shape_of(documents, lambda id: tx.table_name_of(id, component=component))


# ------------------------------------------------------------------------------------------------------- logs


async def stream_function_logs(call: Call) -> Response:
    """GET /api/stream_function_logs?cursor=…: entries after the cursor (ms), waiting for the first.

    With `sessionId` and `clientRequestCounter`, only the entries of that request. Log lines are objects for
    the command line and the dashboard, texts for everybody else.
    """
    structured = call.client is not None and call.client.wants_structured_logs
    log = call.services.executor.log

    def read(cursor: float, request_id: str | None) -> tuple[list[dict[str, Any]], float]:
        found, cursor = log.entries(cursor, request_id=request_id)
        return [entry.entry(structured=structured) for entry in found], cursor

    return await _stream(call, read)


async def stream_udf_execution(call: Call) -> Response:
    """GET /api/stream_udf_execution?cursor=…: the older form, finished calls alone and always with texts."""
    log = call.services.executor.log

    def read(cursor: float, request_id: str | None) -> tuple[list[dict[str, Any]], float]:
        found, cursor = log.calls(cursor, request_id=request_id)
        return [entry.entry(structured=False, all_lines=True) for entry in found], cursor

    return await _stream(call, read)


_Read = Callable[[float, "str | None"], tuple[list[dict[str, Any]], float]]


async def _stream(call: Call, read: _Read) -> Response:
    await call.admin()
    parameters = call.request.query_params
    cursor = _cursor(parameters.get("cursor"))
    request_id = _request_of(parameters.get("sessionId"), parameters.get("clientRequestCounter"))
    log, loop = call.services.executor.log, asyncio.get_running_loop()
    deadline = loop.time() + call.services.config.limits.log_poll_s
    entries, cursor = read(cursor, request_id)
    while not entries and loop.time() < deadline:
        await log.wait(cursor, deadline - loop.time())
        entries, cursor = read(cursor, request_id)
    # A mutation is in the log before it is on disk.
    await call.services.db.durable(call.services.db.latest_ts)
    return JsonResponse(msgspec.json.encode({"entries": entries, "newCursor": cursor}))


def _cursor(text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = float("nan")
    if not 0 <= value < float("inf"):
        raise CvxError(
            "InvalidCursor", "The parameter `cursor` must be a number of milliseconds, 0 at first."
        )
    return value


def _request_of(session_id: str | None, counter: str | None) -> str | None:
    if session_id is None or counter is None:
        return None
    if not counter.isdecimal():
        raise CvxError(
            "InvalidRequestCounter", "The parameter `clientRequestCounter` must be a whole number."
        )
    return session_request_id(session_id, int(counter))


# --------------------------------------------------------------------------------------------- one-off queries


async def run_test_function(call: Call) -> Response:
    """POST /api/run_test_function: a query that comes as source; read-only."""
    body = await call.json(TestQueryRequest, bytes_max=call.services.config.limits.push_body_bytes_max)
    admin = call.services.authenticator.admin(body.admin_key)
    format = format_name(body.format or "json")
    result = await call.services.executor.test_query(
        body.bundle.source,
        bytes(body.args),
        admin,
        request_id=call.request_id,
        component_id=body.component_id,
    )
    if result.error is not None:
        text = result.error.client_text(call.request_id)
        return JsonResponse(error_body(text, result.error.data_json, result.log_lines, format))
    assert result.value_json is not None
    return JsonResponse(success_body(result.value_json, result.log_lines, format))
