"""/api/import/*, /api/export/*: files that come and go.

Bodies are written to disk as they come and sent as they are read: nothing here holds a file.

Source: reference/cli-and-deploy.md §5.3, §5.4.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, get_args

from starlette.responses import Response, StreamingResponse

from cvx.backend.files import pieces_of
from cvx.backend.http.middleware import Call, JsonResponse
from cvx.backend.model.transfers import ImportOrder
from cvx.errors import CvxError
from cvx.protocol.calls import encode_body
from cvx.protocol.transfers import (
    TABLE_ROWS_HEADER,
    FinishUploadRequest,
    FinishUploadResponse,
    ImportFormat,
    ImportIdRequest,
    ImportMode,
    ImportRequest,
    OneShotResponse,
    SetExpirationRequest,
    StartUploadResponse,
    TableFormat,
)

# ----------------------------------------------------------------------------------------------------- imports


async def start_upload(call: Call) -> Response:
    """POST /api/import/start_upload."""
    await call.admin(write=True)
    return JsonResponse(
        encode_body(StartUploadResponse(upload_token=call.services.transfers.imports.uploads.begin()))
    )


async def upload_part(call: Call) -> Response:
    """POST /api/import/upload_part?uploadToken=&partNumber=: the answer is the part's token, a JSON value."""
    await call.admin(write=True)
    token, number = _parameter(call, "uploadToken"), _parameter(call, "partNumber")
    if not number.isdecimal() or len(number) > 9:
        raise CvxError("InvalidPartNumber", "The parameter `partNumber` must be a whole number from 1 on.")
    part = await call.services.transfers.imports.uploads.put(token, int(number), _body(call))
    return JsonResponse(encode_body(part))


async def finish_upload(call: Call) -> Response:
    """POST /api/import/finish_upload: begins the import; the answer is its id."""
    await call.admin(write=True)
    body = await call.json(FinishUploadRequest)
    id = await call.services.transfers.imports.submit(
        _order(body.import_, body.upload_token), body.part_tokens
    )
    return JsonResponse(encode_body(FinishUploadResponse(import_id=str(id))))


async def perform_import(call: Call) -> Response:
    """POST /api/perform_import: confirms; an empty 200."""
    await call.admin(write=True)
    await call.services.transfers.imports.confirm((await call.json(ImportIdRequest)).import_id)
    return Response(status_code=200)


async def cancel_import(call: Call) -> Response:
    """POST /api/cancel_import; an empty 200."""
    await call.admin(write=True)
    await call.services.transfers.imports.cancel((await call.json(ImportIdRequest)).import_id)
    return Response(status_code=200)


async def import_body(call: Call) -> Response:
    """POST /api/import?tableName=&format=&mode=: a whole file in one request, without a question."""
    await call.admin(write=True)
    format, mode = _parameter(call, "format"), _parameter(call, "mode")
    if format not in get_args(ImportFormat) or mode not in get_args(ImportMode):
        raise CvxError(
            "InvalidImport",
            f"`format` must be one of {', '.join(get_args(ImportFormat))}, "
            f"and `mode` one of {', '.join(get_args(ImportMode))}.",
        )
    parameters = call.request.query_params
    asked: Any = ImportRequest(
        format=format,  # type: ignore[arg-type]
        mode=mode,  # type: ignore[arg-type]
        table_name=parameters.get("tableName"),
        component_path=parameters.get("componentPath"),
    )
    written = await call.services.transfers.imports.import_body(_order(asked, ""), _body(call))
    return JsonResponse(encode_body(OneShotResponse(num_written=written)))


def _order(asked: ImportRequest, token: str) -> ImportOrder:
    return ImportOrder(
        asked.mode,
        asked.format,
        asked.table_name,
        token,
        asked.component_path or "",
        asked.dry_run,
        asked.confirmed,
        asked.skip_unchanged,
    )


def _parameter(call: Call, name: str) -> str:
    value = call.request.query_params.get(name)
    if value is None:
        raise CvxError("MissingParameter", f"The parameter `{name}` is missing.")
    return value


async def _body(call: Call) -> AsyncIterator[bytes]:
    if call.request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise CvxError(
            "BadRequestEncoding", "Parts of an upload must come as they are, without Content-Encoding."
        )
    async for piece in call.request.stream():
        if piece:
            yield piece


# ----------------------------------------------------------------------------------------------------- exports


async def request_export(call: Call) -> Response:
    """POST /api/export/request/zip?includeStorage=&component=: begins an export; its id, which the official client
    ignores. `component` is an id or a path.

    Ours: `table` (again and again) for some tables only, `stored=true` for a ZIP without compression.
    """
    await call.admin()
    parameters = call.request.query_params
    id = await call.services.transfers.exports.request(
        include_storage=parameters.get("includeStorage") == "true",
        tables=parameters.getlist("table") or None,
        stored=parameters.get("stored") == "true",
        component=parameters.get("component", ""),
    )
    return JsonResponse(encode_body({"exportId": str(id)}))


async def cancel_export(call: Call) -> Response:
    """POST /api/export/cancel/<id>; an empty 200."""
    await call.admin()
    await call.services.transfers.exports.cancel(_last_part(call))
    return Response(status_code=200)


async def set_export_expiration(call: Call) -> Response:
    """POST /api/export/set_expiration/<id>; an empty 200."""
    await call.admin(write=True)
    body = await call.json(SetExpirationRequest)
    await call.services.transfers.exports.set_expiration(_last_part(call), body.expiration_ts_ns)
    return Response(status_code=200)


async def download_export(call: Call) -> Response:
    """GET /api/export/zip/<start timestamp or id>: the ZIP."""
    await call.admin()
    ready = await call.services.transfers.exports.ready(_last_part(call))
    name = f"snapshot_{call.services.deployment.instance_name}_{ready.start_ts}.zip"
    return StreamingResponse(
        pieces_of(ready.path),
        media_type="application/zip",
        headers={
            "content-length": str(ready.size),
            "content-disposition": f"attachment; filename={name}",
            "cache-control": "private, max-age=2592000",
        },
    )


async def export_table(call: Call) -> Response:
    """GET /api/export/table?table=&format=jsonl|json|csv: one table at one snapshot, as a stream. Ours alone."""
    await call.admin()
    format: Any = call.request.query_params.get("format", "jsonl")
    if format not in get_args(TableFormat):
        raise CvxError("InvalidExport", f"`format` must be one of {', '.join(get_args(TableFormat))}.")
    stack = AsyncExitStack()
    table = await stack.enter_async_context(
        call.services.transfers.exports.table(
            _parameter(call, "table"), format, call.request.query_params.get("component", "")
        )
    )

    async def body() -> AsyncIterator[bytes]:
        async with stack:
            async for piece in table.pieces:
                yield piece

    media = {"csv": "text/csv", "json": "application/json"}.get(format, "application/x-ndjson")
    return StreamingResponse(body(), media_type=media, headers={TABLE_ROWS_HEADER: str(table.rows)})


def _last_part(call: Call) -> str:
    return str(call.request.scope["path"]).rpartition("/")[2]
