"""`cvx run`: call a function; its value is JSON on standard output, its logs are talk."""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import Annotated, Any

import typer

from cvx.cli.command import command
from cvx.cli.context import CommandContext
from cvx.cli.following import while_read
from cvx.cli.json5 import parse_json5
from cvx.cli.output import encode_json, error_envelope, pretty_json
from cvx.errors import CvxError

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@command(
    app,
    "run",
    talks=True,
    examples=[
        "cvx run messages:list '{\"limit\": 5}'",
        "cvx run messages:list --watch",
        'cvx run users:me --identity \'{"name": "Ada"}\'',
        "cvx run --inline-query 'await ctx.db.query(\"messages\").take(3)'",
    ],
)
def run(
    context: CommandContext,
    function: Annotated[str | None, typer.Argument(metavar="FN", help="module:function")] = None,
    arguments: Annotated[
        str | None, typer.Argument(metavar="[ARGS]", help="Arguments as a JSON object.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Print every new result.")] = False,
    push: Annotated[bool, typer.Option("--push", help="Push the project first.")] = False,
    identity: Annotated[
        str | None,
        typer.Option("--identity", metavar="JSON", help='Call as this user, e.g. {"name": "Ada"}.'),
    ] = None,
    inline_query: Annotated[
        str | None,
        typer.Option("--inline-query", metavar="JS", help="Run this expression or function body instead."),
    ] = None,
    component: Annotated[
        str | None, typer.Option("--component", metavar="PATH", help="Call inside a component.")
    ] = None,
) -> None:
    """Call a function and print its value."""
    if (function is None) == (inline_query is None):
        raise CvxError(
            "UsageError",
            "`cvx run` takes a function's name or --inline-query JS.",
            hint="cvx run messages:list",
        )
    if inline_query is not None and (watch or identity):
        raise CvxError(
            "UsageError",
            "--inline-query goes with neither --watch nor --identity.",
            hint="Remove the other option.",
        )
    args = parse_json5(arguments or "{}", "ARGS")
    if not isinstance(args, dict):
        raise CvxError(
            "UsageError", "ARGS must be a JSON object.", hint="cvx run messages:list '{\"limit\": 5}'"
        )
    user = identity_of(parse_json5(identity, "--identity")) if identity is not None else None
    if watch:
        path = function_path(context, function or "")
        asyncio.run(while_read(_watch(context, path, args, user, component)))
    else:
        asyncio.run(_call(context, function, inline_query, args, user, component, push))


async def _call(
    context: CommandContext,
    function: str | None,
    inline: str | None,
    args: dict[str, Any],
    user: dict[str, Any] | None,
    component: str | None,
    push: bool,
) -> None:
    from cvx.toolchain.client import raise_for_function

    async with context.client() as client:
        if push:
            from cvx.toolchain.dev import push_once

            await push_once(context.project, client, context.reporter)
        if inline is not None:
            path = "the inline query"
            answer = await _inline(client, inline, await _component_id(client, component))
        else:
            path = function_path(context, function or "")
            encoded = encode_json(args).encode()
            answer = await client.call_function(path, encoded, component=component, identity=user)
        for line in answer.log_lines:
            context.output.raw(f"[CONVEX ({path})] {line}" if inline is None else line)
        try:
            raise_for_function(path, answer)
        except CvxError as error:
            if inline is not None:
                raise
            if error.code == "FunctionNotFound":
                raise await _with_suggestion(client, error, path) from error
            raise _with_frame(context, error) from error
        context.output.result(answer.value, lambda: pretty_json(answer.value))


async def _watch(
    context: CommandContext,
    path: str,
    args: dict[str, Any],
    user: dict[str, Any] | None,
    component: str | None,
) -> None:
    from cvx.protocol.sync_messages import QueryFailed
    from cvx.toolchain.client import LiveClient, without_preamble

    output = context.output
    async with (
        context.deployment() as deployment,
        LiveClient(deployment, acting_as=user) as live,
        live.subscribe(path, encode_json(args).encode(), component) as results,
    ):
        async for result in results:
            for line in result.log_lines:
                output.raw(f"[CONVEX Q({path})] {line}")
            if not isinstance(result, QueryFailed):
                output.item(result.value, pretty_json(result.value))
                continue
            message = without_preamble(result.error_message)
            failure = _with_frame(context, CvxError("FunctionThrew", f"{path}: {message}"))
            if output.json_mode:
                output.envelope(error_envelope(failure))
            else:
                output.raw(output.render_error(failure))


async def _inline(client: Any, source: str, component_id: str | None) -> Any:
    """Run an inline query; one that cannot be read is told apart from one that fails."""
    try:
        return await client.inline_query(inline_module(source), component_id=component_id)
    except CvxError as error:
        if error.code == "InvalidModules":
            error.hint = "--inline-query takes an expression, a body with `return`, or a module's source."
        raise


def _with_frame(context: CommandContext, error: CvxError) -> CvxError:
    """With the user's line, when the code is at hand."""
    from cvx.toolchain.project import with_code_frame

    return with_code_frame(context.project_or_bare(), error)


async def _with_suggestion(client: Any, error: CvxError, path: str) -> CvxError:
    """The same error naming the nearest function there is."""
    import difflib

    try:
        spec = await client.system_query("_system/cli/modules:apiSpec", {}, list[dict[str, Any]])
    except CvxError:
        return error
    known = [str(f["identifier"]).replace(".js:", ":") for f in spec if "identifier" in f]
    near = difflib.get_close_matches(path, known, n=1, cutoff=0.5)
    listed = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
    hint = f"Did you mean {near[0]}?" if near else f"There are: {listed}." if known else error.hint
    return CvxError(error.code, error.message, kind=error.kind, hint=hint, details=error.details)


async def _component_id(client: Any, component: str | None) -> str | None:
    if not component:
        return None
    rows = await client.system_query("_system/frontend/components:list", {}, list[dict[str, Any]])
    for row in rows:
        if row.get("path") == component:
            return str(row["id"])
    raise CvxError(
        "ComponentNotFound",
        f"There is no component {component!r}.",
        kind="not_found",
        hint=f"There are: {', '.join(str(row.get('path')) for row in rows if row.get('path')) or 'none'}.",
    )


def function_path(context: CommandContext, name: str) -> str:
    """`api.a.b`, `convex/a.ts:b`, `a` → the canonical `a:b` (cli-and-deploy.md §5.6)."""
    for prefix in ("api.", "internal."):
        if name.startswith(prefix) and ":" not in name:
            *modules, export = name.removeprefix(prefix).split(".")
            return f"{'/'.join(modules)}:{export}" if modules else export
    module, separator, export = name.partition(":")
    for suffix in (".ts", ".js", ".tsx", ".jsx", ".mjs", ".mts"):
        module = module.removesuffix(suffix)
    project = context.project_or_bare()
    folder = project.config.functions.strip("./")
    nested = project.functions_dir / folder
    if folder and module.startswith(f"{folder}/") and not nested.is_dir():
        module = module.removeprefix(f"{folder}/")
    return f"{module}:{export}" if separator else f"{module}:default"


def identity_of(attributes: Any) -> dict[str, Any]:
    """User attributes with the ones that every identity has filled in, stable for the same input."""
    if not isinstance(attributes, dict):
        raise CvxError("UsageError", "--identity takes a JSON object.", hint='--identity \'{"name": "Ada"}\'')
    subject = attributes.get("subject") or hashlib.sha256(encode_json(attributes).encode()).hexdigest()[:8]
    issuer = attributes.get("issuer") or "https://convex.test"
    return {"tokenIdentifier": f"{issuer}|{subject}", **attributes, "subject": subject, "issuer": issuer}


_statement = re.compile(r"\s*(return|throw|const|let|var|if|for|while|try)\b", re.ASCII)


def inline_module(source: str) -> str:
    """A whole module around an expression or a function body (cli-and-deploy.md §5.6)."""
    if "export default" in source:
        return source
    is_body = "\n" in source or ";" in source or _statement.match(source)
    body = source if is_body else f"return ({source})"
    return (
        'import { query, internalQuery } from "convex:/_system/repl/wrappers.js";\n'
        f"export default query({{ handler: async (ctx) => {{\n{body}\n}} }});\n"
    )
