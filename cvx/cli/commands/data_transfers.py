"""`cvx data import` and `cvx data export`: files in, files out.

The commands choose, ask and show; what travels is the toolchain's business (toolchain/client), and what
it means the deployment's.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from cvx.cli.command import command
from cvx.cli.commands.dev import one_of
from cvx.cli.context import CommandContext
from cvx.cli.prompts import stdin_is_terminal
from cvx.errors import CvxError

if TYPE_CHECKING:
    from cvx.protocol.transfers import ImportFormat, ImportMode, TableFormat
    from cvx.toolchain.client import DeploymentClient, ImportResult, Preview, Source

STDIN = "-"
FileFormat: TypeAlias = Literal["jsonl", "json", "csv", "zip"]
_BY_SUFFIX: dict[str, FileFormat] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".zip": "zip",
}
_WIRE_FORMATS: dict[FileFormat, ImportFormat] = {
    "jsonl": "jsonLines",
    "json": "jsonArray",
    "csv": "csv",
    "zip": "zip",
}
_WIRE_NAMES = {"jsonLines": "jsonl", "jsonArray": "json"}
_YES = "--yes"
_YES_PROD = "--yes=delete-data"


def register(app: typer.Typer) -> None:
    """Add both commands to `cvx data`."""
    command(
        app,
        "import",
        talks=True,
        examples=[
            "cvx data import --table messages messages.jsonl",
            "cvx data import --table users --replace users.csv --dry-run",
            "cvx data import --replace-all --yes snapshot.zip",
            "generate-rows | cvx data import --table rows --append --format jsonl -",
        ],
    )(import_data)
    command(
        app,
        "export",
        talks=True,
        examples=[
            "cvx data export --table messages --path messages.jsonl",
            "cvx data export --path snapshot.zip --include-file-storage",
            "cvx data export --table users --format csv --path users.csv",
        ],
    )(export_data)


# ------------------------------------------------------------------------------------------------------ import


def import_data(
    context: CommandContext,
    path: Annotated[str, typer.Argument(metavar="FILE", help="The file; - for standard input.")],
    table: Annotated[
        str | None, typer.Option("--table", metavar="TABLE", help="Where the rows go (not for a ZIP).")
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option("--format", metavar="FORMAT", help="jsonl, json, csv or zip; else by the file's name."),
    ] = None,
    append: Annotated[
        bool, typer.Option("--append", help="Add to what is there (rows are seen as they land).")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the tables that are imported, all at once.")
    ] = False,
    replace_all: Annotated[
        bool, typer.Option("--replace-all", help="As --replace, and delete every other table.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, show what would change, change nothing.")
    ] = False,
    component: Annotated[
        str | None, typer.Option("--component", metavar="PATH", help="Into this component.")
    ] = None,
    yes: Annotated[
        str | None,
        typer.Option(
            _YES, "-y", metavar="", help=f"Do not ask; on production, {_YES_PROD}.", show_default=False
        ),
    ] = None,
) -> None:
    """Import rows from JSON lines, a JSON array, CSV, or an exported ZIP.

    All or nothing, except --append to a table that has rows. Without --append or --replace, the table must be empty.
    Rows keep their _id and _creationTime.
    """
    mode = _mode(append, replace, replace_all)
    named = _named_format(format_)
    with _source(path) as source:
        format = named or _format_of(path, source)
        if (table is None) != (format == "zip"):
            raise CvxError(
                "UsageError",
                "A ZIP names its tables itself." if table else f"--table is needed to import {format}.",
                hint="Leave --table out." if table else "Pass --table TABLE.",
            )
        context.output.status(f"Importing {source.name}")

        async def go() -> tuple[ImportResult, str]:
            from cvx.toolchain.client import ImportWish, import_file, imports_under_way

            wish = ImportWish(
                _WIRE_FORMATS[format],
                mode,
                table,
                dry_run,
                confirmed=_is_agreed(context, yes),
                component=component,
            )
            async with context.client() as client:
                deployment = client.deployment
                if await imports_under_way(client):
                    context.output.warn("Another import is under way on this deployment.")

                async def decide(preview: Preview) -> bool:
                    return await asyncio.to_thread(_decide, context, preview, yes, deployment.name)

                return await import_file(client, source, wish, context.reporter, decide), deployment.url

        try:
            result, url = asyncio.run(go())
        except CvxError as error:
            raise _with_place(error, source.name) from error
    _show_result(context, result, source.name, url, mode)


def _mode(append: bool, replace: bool, replace_all: bool) -> ImportMode:
    if append + replace + replace_all > 1:
        raise CvxError(
            "UsageError",
            "--append, --replace and --replace-all exclude each other.",
            hint="Pass one of them, or none for an empty table.",
        )
    return "append" if append else "replace" if replace else "replaceAll" if replace_all else "requireEmpty"


@contextlib.contextmanager
def _source(path: str) -> Iterator[Source]:
    from cvx.toolchain.client import Source

    if path == STDIN:
        if stdin_is_terminal() or sys.stdin is None:
            raise CvxError(
                "InputNeeded",
                "There is nothing on standard input.",
                hint="Pass FILE, or pipe the rows into the command.",
            )
        # Unbuffered: a read that waits holds no lock that the end of the program would need.
        with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as stream:
            yield Source(_Peeked(stream), "standard input", None)  # type: ignore[arg-type]
        return
    file = Path(path)
    try:
        if file.is_dir():
            raise IsADirectoryError(21, "it is a folder")
        with file.open("rb") as opened:
            yield Source(opened, file.name, file.stat().st_size)
    except OSError as error:
        raise CvxError(
            "FileNotFound",
            f"{path} cannot be read: {error.strerror}.",
            kind="not_found",
            hint="Check the path.",
        ) from None


class _Peeked:
    """A stream whose beginning can be looked at."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._seen = b""

    def peek(self) -> bytes:
        if not self._seen:
            self._seen = self._stream.read(64)
        return self._seen

    def read(self, size: int) -> bytes:
        if self._seen:
            taken, self._seen = self._seen[:size], self._seen[size:]
            return taken
        return bytes(self._stream.read(size))


def _named_format(name: str | None) -> FileFormat | None:
    """What `--format` says, which may be the name that the deployment has for it."""
    if name is None:
        return None
    return one_of("--format", _WIRE_NAMES.get(name, name), tuple(_WIRE_FORMATS))


def _format_of(path: str, source: Source) -> FileFormat:
    """By the file's name, else by how it begins."""
    known = _BY_SUFFIX.get(Path(path).suffix.lower())
    if known is not None and known != "json":
        return known
    file: Any = source.file
    if isinstance(file, _Peeked):
        beginning = file.peek()
    else:
        beginning = file.read(64)
        file.seek(0)
    text = beginning.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"PK\x03\x04"):
        return "zip"
    if text.startswith(b"["):
        return "json"
    if text.startswith(b"{"):
        return "jsonl"
    if known is not None:
        return known
    raise CvxError(
        "UsageError",
        f"What {source.name} holds cannot be told.",
        hint="Pass --format jsonl, json, csv or zip.",
    )


def _is_agreed(context: CommandContext, yes: str | None) -> bool:
    if context.selection.kind == "prod":
        return yes == "delete-data"
    return yes is not None


def _decide(context: CommandContext, preview: Preview, yes: str | None, name: str) -> bool:
    """Show what would change; ask when something would be deleted."""
    context.output.clear_status()
    if preview.changes:
        context.output.raw(_preview_table(context, preview))
    elif preview.message:
        context.output.raw(preview.message)
    if not preview.needs_confirmation or _is_agreed(context, yes):
        return True
    what = f"{preview.deletes:,} documents would be deleted on {name}." if preview.deletes else ""
    if context.selection.kind == "prod":
        return context.prompts.typed(what or f"This changes {name}.", expected=name, flag=_YES_PROD)
    return context.prompts.confirm(f"{what} Import?".strip(), default=False, flag=_YES)


def _preview_table(context: CommandContext, preview: Preview) -> str:
    rows = [
        (
            f"{change.component}/{change.table}" if change.component else change.table,
            f"{change.create:,}",
            f"{change.delete:,} of {change.existing:,}",
        )
        for change in preview.changes
    ]
    return context.output.table(("table", "create", "delete"), rows)


def _with_place(error: CvxError, name: str) -> CvxError:
    """The same, saying which line of which file."""
    if "rows_written" not in error.details:
        from cvx.toolchain.client.transfers import hint_for

        error.hint = error.hint or hint_for(error.code) or "`cvx data import --help` shows what it takes."
        return error
    line, entry, rows = (error.details.get(name) for name in ("line", "file", "rows_written"))
    place = f"{name}{f'/{entry}' if entry else ''}{f':{line}' if line else ''}: " if line or entry else ""
    outcome = f"{rows:,} documents were added before that." if rows else "Nothing was imported."
    outcome = f"\n{outcome}" if "\n" in error.message else f" {outcome}"
    return CvxError(
        error.code,
        f"{place}{error.message}{outcome}",
        kind=error.kind,
        hint=error.hint or "Correct the file and import it again.",
        retry_when=error.retry_when,
        details=error.details,
    )


def _show_result(context: CommandContext, result: ImportResult, name: str, url: str, mode: str) -> None:
    changes = [change.to_json() for change in result.preview.changes]
    data = {"file": name, "url": url, "mode": mode, "changes": changes}
    if result.rows is None:
        context.output.done(f"Checked {name}; nothing was changed.")
        text = _preview_table(context, result.preview) if result.preview.changes else result.preview.message
        context.output.result({**data, "dryRun": True}, text)
        return
    if result.unchanged:
        context.output.done(f"Nothing to do: {name} is what is there already.")
    else:
        context.output.done(f"Imported {result.rows:,} documents from {name}.")
    context.output.result({**data, "dryRun": False, "rows": result.rows, "unchanged": result.unchanged})


# ------------------------------------------------------------------------------------------------------ export


def export_data(
    context: CommandContext,
    tables: Annotated[
        list[str] | None,
        typer.Option("--table", metavar="TABLE", help="Only this table; may be repeated for a ZIP."),
    ] = None,
    path: Annotated[
        Path | None,
        typer.Option("--path", metavar="PATH", help="Where to write; a folder takes the usual name."),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option("--format", metavar="FORMAT", help="jsonl, json, csv or zip; else by the path's name."),
    ] = None,
    include_file_storage: Annotated[
        bool, typer.Option("--include-file-storage", help="With the stored files (ZIP).")
    ] = False,
    component: Annotated[
        str | None, typer.Option("--component", metavar="PATH", help="Of this component and those in it.")
    ] = None,
) -> None:
    """Export a table to standard output or a file, or the whole deployment as a ZIP.

    What is exported is one moment, whatever is written meanwhile.
    """
    names = list(dict.fromkeys(tables or []))
    chosen = _export_format(names, path, format_, is_json=context.output.json_mode)
    if chosen == "zip" and path is None and (sys.stdout.isatty() or context.output.json_mode):
        path = Path.cwd()
    if path is not None and path.exists() and not path.is_dir():
        raise CvxError(
            "FileExists",
            f"{path} exists already.",
            kind="conflict",
            hint="Choose another --path, or delete it.",
        )
    context.output.status("Exporting")
    target = f" to {path}" if path else ""

    async def go() -> dict[str, Any]:
        async with context.client() as client:
            if chosen == "zip":
                return await _export_zip(context, client, names, path, include_file_storage, component)
            return await _export_table(context, client, names[0], path, chosen, component)

    data = asyncio.run(go())
    context.output.done(f"Exported{target or ''}." if "path" not in data else f"Exported to {data['path']}.")
    if "path" in data:
        context.output.result(data, None)


def _export_format(names: list[str], path: Path | None, format_: str | None, *, is_json: bool) -> FileFormat:
    named = _named_format(format_)
    by_path = None if path is None else _BY_SUFFIX.get(path.suffix.lower())
    chosen: FileFormat = named or by_path or ("jsonl" if len(names) == 1 else "zip")
    if chosen != "zip" and len(names) != 1:
        raise CvxError(
            "UsageError", f"Only one table fits into {chosen}.",
            hint="Pass one --table TABLE, or --format zip for all of them.",
        )  # fmt: skip
    if is_json and path is None and chosen in ("csv", "json"):
        raise CvxError(
            "UsageError", f"--json prints a row a line in its own envelope, which {chosen} does not fit into.",
            hint="Pass --path FILE, or leave out --json or --format.",
        )  # fmt: skip
    return chosen


async def _export_zip(
    context: CommandContext,
    client: DeploymentClient,
    names: list[str],
    path: Path | None,
    files: bool,
    component: str | None,
) -> dict[str, Any]:
    from cvx.toolchain.client import export_zip, save

    async with export_zip(
        client, context.reporter, include_storage=files, tables=tuple(names), component=component
    ) as exported:
        if path is None:
            await _to_stdout(context, exported.pieces)
            return {}
        target = path / exported.name if path.is_dir() else path
        size = await save(exported.pieces, target, context.reporter, exported.size)
        return {"path": str(target), "bytes": size, "timestamp": str(exported.start_ts)}


async def _export_table(
    context: CommandContext,
    client: DeploymentClient,
    name: str,
    path: Path | None,
    chosen: TableFormat,
    component: str | None,
) -> dict[str, Any]:
    from cvx.cli.commands.data import require_table, table_names
    from cvx.toolchain.client import export_table, save

    require_table(name, await table_names(client, component))
    async with export_table(client, context.reporter, name, chosen, component) as exported:
        pieces = exported.pieces
        if path is None:
            await _to_stdout(context, _enveloped(pieces) if context.output.json_mode else pieces)
            return {}
        target = path / f"{name}.{chosen}" if path.is_dir() else path
        size = await save(pieces, target, context.reporter, None, exported.rows)
        return {"path": str(target), "bytes": size, "table": name}


async def _to_stdout(context: CommandContext, pieces: AsyncIterator[bytes]) -> None:
    context.output.clear_status()
    async for piece in pieces:
        await asyncio.to_thread(context.output.stream, piece)


async def _enveloped(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """JSON lines as a stream of envelopes."""
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield b"".join(b'{"v":1,"ok":true,"data":' + line + b"}\n" for line in lines if line)
