"""`cvx data`: tables and their rows. Import and export are in data_transfers.py."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cvx.cli.command import command, group
from cvx.cli.commands.data_transfers import register
from cvx.cli.commands.dev import one_of
from cvx.cli.context import CommandContext
from cvx.cli.output import encode_json
from cvx.errors import CvxError

app = group("Look at tables, import into them and export them.")
register(app)

PAGE_ROWS = 200
CELL_CHARS_MAX = 60

ComponentOption = Annotated[
    str | None, typer.Option("--component", metavar="PATH", help="Of this component, not of the app.")
]


@command(app, "list", talks=True, examples=["cvx data list", "cvx data list --component rateLimiter"])
def list_tables(context: CommandContext, component: ComponentOption = None) -> None:
    """List the tables with their numbers of rows."""

    async def go(client: Any) -> list[dict[str, Any]]:
        names = await table_names(client, component)
        return [
            {
                "name": name,
                "rows": int(
                    await client.system_query(_SIZE, {"tableName": name}, float, component=component)
                ),
            }
            for name in names
        ]

    tables = context.with_client(go)
    if not tables:
        context.output.say("There are no tables yet.")
    rows = [(str(table["name"]), str(table["rows"])) for table in tables]
    context.output.result(
        {"tables": tables}, lambda: context.output.table(("table", "rows"), rows) if rows else ""
    )


@command(
    app,
    "show",
    talks=True,
    examples=["cvx data show messages", "cvx data show messages --limit 5 --order asc --format jsonl"],
)
def show_table(
    context: CommandContext,
    table: Annotated[str, typer.Argument(metavar="TABLE")],
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="Rows at most.", min=1)] = 100,
    order: Annotated[
        str, typer.Option("--order", metavar="ORDER", help="asc or desc by creation time.")
    ] = "desc",
    format_: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="table, json or jsonl.")
    ] = "table",
    component: ComponentOption = None,
) -> None:
    """Show a table's rows."""
    one_of("--order", order, ("asc", "desc"))
    one_of("--format", format_, ("table", "json", "jsonl"))

    async def go(client: Any) -> list[dict[str, Any]]:
        if not table.startswith("_"):
            require_table(table, await table_names(client, component))
        return await read_rows(client, table, order, limit + 1, component)

    rows = context.with_client(go)
    more, rows = len(rows) > limit, rows[:limit]
    if more:
        context.output.say(f"There are more rows than {limit}; --limit shows more of them.")
    if not rows:
        context.output.say(f"{table} has no rows.")
    context.output.result(
        {"table": table, "rows": rows, "more": more}, lambda: _render(context, rows, format_)
    )


_SIZE = "_system/cli/tableSize"


async def table_names(client: Any, component: str | None = None) -> list[str]:
    """The names of the tables of the app, or of a component, sorted."""
    args = {"paginationOpts": {"cursor": None, "numItems": 10_000}}
    page = await client.system_query("_system/cli/tables", args, dict[str, Any], component=component)
    return sorted(str(row["name"]) for row in page["page"])


async def read_rows(
    client: Any, table: str, order: str, count: int, component: str | None = None
) -> list[dict[str, Any]]:
    """Up to `count` rows, page by page."""
    rows: list[dict[str, Any]] = []
    cursor = None
    while len(rows) < count:
        options = {"cursor": cursor, "numItems": min(PAGE_ROWS, count - len(rows))}
        args = {"table": table, "order": order, "paginationOpts": options}
        page = await client.system_query("_system/cli/tableData", args, dict[str, Any], component=component)
        rows += page["page"]
        if page["isDone"]:
            break
        cursor = page["continueCursor"]
    return rows


def require_table(table: str, known: list[str]) -> None:
    """Raise CvxError "TableNotFound", offering the nearest name, unless the table is known."""
    import difflib

    if table in known:
        return
    near = difflib.get_close_matches(table, known, n=1, cutoff=0.5)
    raise CvxError(
        "TableNotFound",
        f"There is no table {table!r}.",
        kind="not_found",
        hint=f"Did you mean {near[0]}?" if near else "`cvx data list` lists the tables.",
    )


def _render(context: CommandContext, rows: list[dict[str, Any]], format_: str) -> str:
    if format_ == "jsonl":
        return "\n".join(encode_json(row) for row in rows)
    if format_ == "json":
        return "[\n" + ",\n".join(encode_json(row) for row in rows) + "\n]"
    if not rows:
        return ""
    fields = sorted({name for row in rows for name in row} - {"_id", "_creationTime"})
    columns = ["_id", "_creationTime", *fields]
    cells = [[_cell(row[name]) if name in row else "" for name in columns] for row in rows]
    return context.output.table(columns, cells)


def _cell(value: Any) -> str:
    text = encode_json(value)
    return text if len(text) <= CELL_CHARS_MAX else text[: CELL_CHARS_MAX - 1] + "…"
