"""`_system/cli/*` and the two of `_system/frontend/*` that command lines ask (reference/cli-and-deploy.md §5.9).

Rule: every function's result depends on the database through its transaction alone, so subscribers to it see
changes by the ordinary mechanism.
"""

from __future__ import annotations

import secrets
from typing import Any

import msgspec

from cvx.backend.functions.calls import depend_on_table_names
from cvx.backend.functions.system_functions import SystemContext, system_query
from cvx.backend.model import components as component_rows
from cvx.backend.model import deployment, environment, modules, schemas, transfers
from cvx.errors import CvxError
from cvx.values import FULL_RANGE, DocumentId, Value, from_json

_STRING = {"type": "string"}
_ANY = {"type": "any"}
_ORDER = {
    "type": "union",
    "value": [{"type": "literal", "value": "asc"}, {"type": "literal", "value": "desc"}],
}

# How much one page of the data browser may read.
_PAGE_ROWS_READ_MAX = 8_000
_PAGE_BYTES_READ_MAX = 8 * 1024 * 1024


@system_query("_system/cli/tables", {"paginationOpts": _ANY})
def tables(context: SystemContext, args: dict[str, Any]) -> Value:
    """User tables, in name order, as one page."""
    tx, component = context.tx, context.component
    depend_on_table_names(tx, component)
    names = sorted(table.name for table in tx.catalog.tables(component) if not table.is_system)
    return {"page": [{"name": name} for name in names], "isDone": True, "continueCursor": "end"}


@system_query("_system/cli/tableData", {"table": _STRING, "order": _ORDER, "paginationOpts": _ANY})
def table_data(context: SystemContext, args: dict[str, Any]) -> Value:
    """One page of a table's documents, in order of creation."""
    cursor, end_cursor, page_size = page_options(args["paginationOpts"])
    query = {
        "source": {"type": "FullTableScan", "tableName": args["table"], "order": args["order"]},
        "operators": [],
    }
    page = context.tx.paginate(
        query,
        cursor,
        end_cursor,
        page_size,
        _PAGE_ROWS_READ_MAX,
        _PAGE_BYTES_READ_MAX,
        component=context.component,
        privileged=True,
    )
    return {
        "page": [from_json(msgspec.json.decode(document)) for document in page.documents],
        "isDone": page.is_done,
        "continueCursor": page.continue_cursor,
        "splitCursor": page.split_cursor,
        "pageStatus": page.page_status,
    }


def page_options(options: Any) -> tuple[str | None, str | None, int]:
    """(cursor, end cursor, page size) of a `paginationOpts`."""
    if type(options) is dict:
        cursor, end, size = options.get("cursor"), options.get("endCursor"), options.get("numItems", 100.0)
        are_texts = isinstance(cursor, str | None) and isinstance(end, str | None)
        if are_texts and type(size) is float and size.is_integer():
            return cursor, end, int(size)
    raise CvxError("InvalidArgument", "Invalid argument `paginationOpts`: it needs a cursor and numItems.")


@system_query("_system/cli/tableSize", {"tableName": _STRING})
def table_size(context: SystemContext, args: dict[str, Any]) -> Value:
    """How many documents a table has; 0 for one that does not exist."""
    return float(context.tx.count(args["tableName"], component=context.component, privileged=True))


@system_query("_system/cli/queryTable", {"tableName": _STRING})
def query_table(context: SystemContext, args: dict[str, Any]) -> Value:
    """A new number after every change to the table: what a command waits on for a table to be mended."""
    table = context.tx.table(args["tableName"], component=context.component)
    if table is not None:
        context.tx.reads.add(table.table_id, FULL_RANGE)
    return float(secrets.randbits(52))


@system_query("_system/cli/queryEnvironmentVariables", {})
def environment_variables(context: SystemContext, args: dict[str, Any]) -> Value:
    """All variables' rows, in name order."""
    return environment.documents(context.tx)


@system_query("_system/cli/queryEnvironmentVariables:get", {"name": _STRING})
def environment_variable(context: SystemContext, args: dict[str, Any]) -> Value:
    """One variable's name and value, or null."""
    value = environment.variable(context.tx, args["name"])
    return None if value is None else {"name": args["name"], "value": value}


@system_query("_system/cli/modules:apiSpec", {"componentId?": _ANY})
def api_spec(context: SystemContext, args: dict[str, Any]) -> Value:
    """Every function and HTTP route, with validators as JSON."""
    spec: list[Value] = []
    for row in modules.all_modules(context.tx, context.component):
        analysis = row.analysis or {}
        for function in analysis.get("functions", []):
            spec.append(
                {
                    "identifier": f"{row.path}:{function['name']}",
                    "functionType": function["udfType"],
                    "visibility": function.get("visibility"),
                    "args": _validator_json(function.get("args")),
                    "returns": _validator_json(function.get("returns")),
                }
            )
        for item in analysis.get("httpRoutes") or []:
            route = item["route"]
            spec.append({"functionType": "HttpAction", "method": route["method"], "path": route["path"]})
    return spec


def _validator_json(text: str | None) -> Value:
    parsed = None if text is None else msgspec.json.decode(text)
    return from_json({"type": "any"} if parsed is None else _without_specials(parsed))


def _without_specials(parsed: Any) -> Any:
    """Validator JSON is data about values: its encoded literals must arrive as the text they are."""
    if isinstance(parsed, dict):
        if any(name.startswith("$") for name in parsed):
            return msgspec.json.encode(parsed).decode()
        return {name: _without_specials(child) for name, child in parsed.items()}
    if isinstance(parsed, list):
        return [_without_specials(child) for child in parsed]
    return parsed


@system_query("_system/cli/queryImport", {"importId": _STRING})
def query_import(context: SystemContext, args: dict[str, Any]) -> Value:
    """One import's row, or null: how far it is."""
    id = DocumentId.try_parse(args["importId"])
    if id is None or context.tx.table_name_of(id) != transfers.IMPORTS:
        return None
    return context.tx.get_value(id, privileged=True)


@system_query("_system/cli/queryImport:list", {})
def list_imports(context: SystemContext, args: dict[str, Any]) -> Value:
    """The newest imports."""
    return list(transfers.import_documents(context.tx))


@system_query("_system/cli/exports:getLatest", {})
def latest_export(context: SystemContext, args: dict[str, Any]) -> Value:
    """The newest export's row, or null."""
    return transfers.latest_export(context.tx)


@system_query("_system/cli/convexUrl:cloudUrl", {})
def cloud_url(context: SystemContext, args: dict[str, Any]) -> Value:
    """The URL clients reach this deployment at."""
    return deployment.canonical_urls(context.tx, context.services.deployment).cloud


@system_query("_system/frontend/components:list", {})
def components(context: SystemContext, args: dict[str, Any]) -> Value:
    """Every component instance but the app itself, also those that are mounted no more."""
    found = component_rows.instances(context.tx)
    return [
        {
            "id": each.id,
            "name": each.name,
            "path": path,
            "args": {},
            "definitionPath": each.mount.definition_path,
            "state": each.state,
        }
        for path, each in sorted(found.items())
        if path and each.state != "pending"
    ]


@system_query("_system/frontend/getSchemas", {"componentId?": _ANY})
def get_schemas(context: SystemContext, args: dict[str, Any]) -> Value:
    """The active schema, and the one that a push is bringing in, as JSON text."""
    active, coming = schemas.texts(context.tx, context.component)
    out: dict[str, Value] = {}
    if active is not None:
        out["active"] = active
    if coming is not None:
        out["inProgress"] = coming
    return out
