"""The route table, on one screen, and the ASGI apps that use it.

To add an endpoint: write `async def name(call: Call) -> Response` in the file of its kind and add its line here.

Source: reference/values-and-sync.md §5; cli-and-deploy.md §6.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cvx.backend.http import admin, calls, files, issuing, pushes, scheduled, transfers
from cvx.backend.http.middleware import Call, Handler, answer, cors_headers, preflight_response
from cvx.backend.http.services import Services
from cvx.backend.http.site import serve_http_action
from cvx.backend.http.sync_socket import is_sync_path, refuse_unknown_socket, serve_sync_socket
from cvx.errors import CvxError

ROUTES: dict[str, dict[str, Handler]] = {
    "/": {"GET": calls.root},
    "/version": {"GET": calls.server_version},
    "/instance_version": {"GET": calls.server_version},
    "/instance_name": {"GET": calls.instance_name},
    "/echo": {"POST": calls.echo},
    "/api/health": {"GET": calls.health},
    "/api/query": {"POST": calls.query, "GET": calls.query_by_url},
    "/api/query_at_ts": {"POST": calls.query_at_ts},
    "/api/query_ts": {"POST": calls.query_ts},
    "/api/query_batch": {"POST": calls.query_batch},
    "/api/mutation": {"POST": calls.mutation},
    "/api/action": {"POST": calls.action},
    "/api/function": {"POST": calls.function},
    "/api/check_admin_key": {"GET": calls.check_admin_key},
    "/api/get_config_hashes": {"POST": pushes.get_config_hashes},
    "/api/deploy2/start_push": {"POST": pushes.start_push},
    "/api/deploy2/evaluate_push": {"POST": pushes.evaluate_push},
    "/api/deploy2/evaluate_schema": {"POST": pushes.evaluate_schema},
    "/api/deploy2/wait_for_schema": {"POST": pushes.wait_for_schema},
    "/api/deploy2/finish_push": {"POST": pushes.finish_push},
    "/api/deploy2/report_push_completed": {"POST": pushes.report_push_completed},
    "/api/update_environment_variables": {"POST": admin.update_environment_variables},
    "/api/v1/update_environment_variables": {"POST": admin.update_environment_variables},
    "/api/v1/list_environment_variables": {"GET": admin.list_environment_variables},
    "/api/v1/get_canonical_urls": {"GET": admin.get_canonical_urls},
    "/api/v1/update_canonical_url": {"POST": admin.update_canonical_url},
    "/api/cancel_job": {"POST": scheduled.cancel_job},
    "/api/cancel_all_jobs": {"POST": scheduled.cancel_all_jobs},
    "/api/shapes2": {"GET": admin.table_shapes},
    "/api/stream_function_logs": {"GET": admin.stream_function_logs},
    "/api/stream_udf_execution": {"GET": admin.stream_udf_execution},
    "/api/run_test_function": {"POST": admin.run_test_function},
    "/api/storage/upload": {"POST": files.upload},
    "/.well-known/jwks.json": {"GET": issuing.key_set},
    "/.well-known/openid-configuration": {"GET": issuing.discovery},
    "/api/dev_issuer/.well-known/jwks.json": {"GET": issuing.dev_key_set},
    "/api/dev_issuer/.well-known/openid-configuration": {"GET": issuing.dev_discovery},
    "/api/dev_issuer/token": {"POST": issuing.dev_token},
    "/api/import": {"POST": transfers.import_body},
    "/api/import/start_upload": {"POST": transfers.start_upload},
    "/api/import/upload_part": {"POST": transfers.upload_part},
    "/api/import/finish_upload": {"POST": transfers.finish_upload},
    "/api/perform_import": {"POST": transfers.perform_import},
    "/api/cancel_import": {"POST": transfers.cancel_import},
    "/api/export/request/zip": {"POST": transfers.request_export},
    "/api/export/table": {"GET": transfers.export_table},
}
PREFIX_ROUTES: dict[str, dict[str, Handler]] = {
    "/api/export/cancel/": {"POST": transfers.cancel_export},
    "/api/export/set_expiration/": {"POST": transfers.set_export_expiration},
    "/api/export/zip/": {"GET": transfers.download_export},
    "/api/run/": {"POST": calls.run},
    files.PATH: {"GET": files.download},
}
HTTP_ACTIONS_PREFIX = "/http"


class ApiApp:
    """The deployment's own port: functions, sync, administration, and HTTP actions under /http/."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path: str = scope["path"]
            if path.startswith(HTTP_ACTIONS_PREFIX + "/") or path == HTTP_ACTIONS_PREFIX:
                await serve_http_action(scope, receive, send, self._services, HTTP_ACTIONS_PREFIX)
                return
            response = await self._respond(Request(scope, receive))
            await response(scope, receive, send)
        elif scope["type"] == "websocket":
            if is_sync_path(scope["path"]):
                await serve_sync_socket(scope, receive, send, self._services)
            else:
                await refuse_unknown_socket(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        path: str = request.scope["path"]
        response = preflight_response(request)
        if response is None:
            response = await answer(_find(path, request.method), request, self._services)
        response.raw_headers += cors_headers(request)
        return response


class SiteApp:
    """The site port: HTTP actions, at the root."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await serve_http_action(scope, receive, send, self._services)
        elif scope["type"] == "websocket":
            await refuse_unknown_socket(scope, receive, send)


class OneOriginApp:
    """Both on one port: the deployment's own paths, and HTTP actions at all others.

    What either could answer (`/`, the keys under `/.well-known/`) is the app's where its router lists it.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._api, self._site = ApiApp(services), SiteApp(services)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        own = scope["type"] != "http" or self._is_own(scope["method"], scope["path"])
        await (self._api if own else self._site)(scope, receive, send)

    def _is_own(self, method: str, path: str) -> bool:
        if path.startswith(("/api/", HTTP_ACTIONS_PREFIX + "/")) or path == HTTP_ACTIONS_PREFIX:
            return True
        if path not in ROUTES:
            return False
        if path != "/" and not path.startswith("/.well-known/"):
            return True
        executor, db = self._services.executor, self._services.db
        with db.snapshot() as snapshot:
            return not executor.lists_route(snapshot, method, path)


def _find(path: str, method: str) -> Handler:
    by_method = _methods(path)
    if by_method is None:
        return _not_found
    return by_method.get("GET" if method == "HEAD" else method, _wrong_method)


def _methods(path: str) -> dict[str, Handler] | None:
    by_method = ROUTES.get(path)
    if by_method is None:
        for prefix, candidate in PREFIX_ROUTES.items():
            if path.startswith(prefix):
                return candidate
    return by_method


async def _not_found(call: Call) -> Response:
    path = call.request.scope["path"]
    raise CvxError("NotFound", f"There is nothing at {path[:200]} on this deployment.", kind="not_found")


async def _wrong_method(call: Call) -> Response:
    request, path = call.request, call.request.scope["path"]
    methods = set(_methods(path) or ())
    allowed = ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
    raise CvxError(
        "MethodNotAllowed",
        f"{path[:200]} does not answer {request.method[:20]}.",
        details={"status": 405, "headers": {"allow": allowed}},
    )
