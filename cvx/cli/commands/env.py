"""`cvx env`: the deployment's environment variables. Values are never echoed, except by `get` and `list`."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from cvx.cli.command import command, group, nearest
from cvx.cli.context import CommandContext
from cvx.cli.prompts import read_stdin
from cvx.errors import CvxError

app = group("Read and write the deployment's environment variables.")

_RISK = "delete-variables"
_YES_PROD = f"--yes={_RISK}"

MANAGED = {
    "CONVEX_DEPLOY_KEY",
    "CONVEX_DEPLOYMENT_TOKEN",
    "CONVEX_DEPLOYMENT",
    "CONVEX_SELF_HOSTED_URL",
    "CONVEX_SELF_HOSTED_ADMIN_KEY",
}
"""Variables that steer command lines; a bulk set skips them (cli-and-deploy.md §5.1)."""


@command(
    app,
    "set",
    talks=True,
    examples=[
        "cvx env set API_KEY abc123",
        "cvx env set A=1 B=2",
        "cvx env set --from-file .env.production --force",
        "cat secret.txt | cvx env set API_KEY",
    ],
)
def set_variables(
    context: CommandContext,
    assignments: Annotated[list[str] | None, typer.Argument(metavar="[NAME [VALUE] | NAME=VALUE...]")] = None,
    from_file: Annotated[
        Path | None,
        typer.Option("--from-file", metavar="FILE", help="Dotenv lines; with NAME: the file is the value."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite variables that have another value.")
    ] = False,
) -> None:
    """Set environment variables, all or none."""
    changes, bulk = _wanted(context, list(assignments or []), from_file)

    async def go(client: Any) -> tuple[dict[str, str], dict[str, str]]:
        current = await client.environment()
        changed = {name: value for name, value in changes.items() if current.get(name) != value}
        clashing = sorted(name for name in changed if name in current)
        if bulk and clashing and not force:
            raise CvxError(
                "EnvironmentVariableExists",
                f"These variables have another value already: {', '.join(clashing)}.",
                kind="conflict",
                hint="Pass --force to overwrite them.",
            )
        if clashing and not force:
            await asyncio.to_thread(_agree_to_overwrite, context, clashing)
        if changed:
            await client.set_environment(changed)
        return changed, current

    changed, before = context.with_client(go)
    new = sum(1 for name in changed if name not in before)
    if not changed:
        context.output.done(f"Nothing to do: {_names(changes)} already set to that.")
    elif len(changes) == 1:
        context.output.done(f"Set {_names(changes)}.")
    else:
        context.output.done(
            f"Set {len(changed)} variable{'s' if len(changed) != 1 else ''} ({new} new, {len(changes) - len(changed)} unchanged)."
        )
    context.output.result({"set": sorted(changed), "unchanged": sorted(set(changes) - set(changed))})


@command(app, "get", talks=True, examples=["cvx env get API_KEY", "cvx env get API_KEY --prod"])
def get_variable(context: CommandContext, name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """Print one variable's value."""
    variables = context.with_client(lambda client: client.environment())
    if name not in variables:
        raise _not_found(name, list(variables))
    context.output.result({"name": name, "value": variables[name]}, variables[name])


@command(app, "list", talks=True, examples=["cvx env list", "cvx env list --names-only"])
def list_variables(
    context: CommandContext,
    names_only: Annotated[bool, typer.Option("--names-only", help="Leave the values out.")] = False,
) -> None:
    """List the variables in a form that `env set --from-file` reads."""
    variables = context.with_client(lambda client: client.environment())
    if not variables:
        context.output.say("No environment variables are set.")
    lines = [name if names_only else f"{name}={format_env_value(value)}" for name, value in variables.items()]
    data: Any = sorted(variables) if names_only else variables
    context.output.result({"variables": data}, "\n".join(lines) if lines else None)


@command(
    app,
    "remove",
    talks=True,
    examples=["cvx env remove API_KEY", "cvx env remove A B", f"cvx env remove A --prod {_YES_PROD}"],
)
def remove_variables(
    context: CommandContext,
    names: Annotated[list[str], typer.Argument(metavar="NAME...")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; change nothing.")] = False,
    yes: Annotated[
        str | None,
        typer.Option(
            "--yes", metavar="[RISK]", help=f"Do not ask; on production, {_YES_PROD}.", show_default=False
        ),
    ] = None,
) -> None:
    """Remove variables; names that are not set are no error."""

    async def go(client: Any) -> list[str]:
        current = await client.environment()
        present = [name for name in dict.fromkeys(names) if name in current]
        if present and not dry_run:
            question = f"Remove {', '.join(present)} from {context.selection.name}?"
            await asyncio.to_thread(
                context.agree_on_production,
                question, risk=_RISK, yes=yes, outcome="Nothing was removed.",
            )  # fmt: skip
            await client.set_environment(dict.fromkeys(present))
        return present

    removed = context.with_client(go)
    verb = "Would remove" if dry_run else "Removed"
    context.output.done(
        f"{verb} {', '.join(removed)}." if removed else "Nothing to do: none of these is set."
    )
    context.output.result({"removed": removed, "dryRun": dry_run})


def _agree_to_overwrite(context: CommandContext, names: list[str]) -> None:
    """On production somebody at a terminal is asked; a script has said what it wants. Raises `NotConfirmed`."""
    if context.selection.kind != "prod" or not context.prompts.possible:
        return
    name = context.selection.name
    if not context.prompts.typed(f"Overwrite {', '.join(names)} on {name}?", expected=name, flag="--force"):
        raise CvxError(
            "NotConfirmed", "Nothing was set.", hint="Type the deployment's name, or pass --force."
        )


for alias in ("rm", "unset"):
    command(app, alias, talks=True, hidden=True, examples=[f"cvx env {alias} A", f"cvx env {alias} A B"])(
        remove_variables
    )


def _wanted(context: CommandContext, words: list[str], from_file: Path | None) -> tuple[dict[str, str], bool]:
    """The assignments asked for, and whether they came in bulk (then existing values need --force)."""
    if from_file is not None and (not from_file.exists() or from_file.is_dir()):  # <(…) is a pipe, and fine.
        what = "is a folder" if from_file.is_dir() else "does not exist"
        raise CvxError("FileNotFound", f"{from_file} {what}.", kind="not_found", hint="Check the path.")
    if not words:
        return _bulk(context, _text(from_file) if from_file else read_stdin()), True
    if all("=" in word for word in words):
        return dict(word.split("=", 1) for word in words), False
    name = words[0]
    if len(words) > 2 or "=" in name:
        raise CvxError(
            "UsageError",
            "`env set` takes NAME VALUE, or any number of NAME=VALUE.",
            hint="Quote a value that contains spaces.",
        )
    if len(words) == 2:
        return {name: words[1]}, False
    if from_file is not None:
        return {name: _text(from_file)}, False
    piped = read_stdin()
    if piped:
        return {name: piped.removesuffix("\n")}, False
    return {name: context.prompts.secret(f"Value of {name}:", flag="the value as second argument")}, False


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CvxError(
            "NotText",
            f"{file} is not text: byte {error.start} is no UTF-8.",
            kind="bad_request",
            hint="Values are text; encode bytes as base64 first.",
        ) from None
    except OSError as error:
        raise CvxError(
            "FileNotFound",
            f"{file} cannot be read: {error.strerror}.",
            kind="not_found",
            hint="Check the path.",
        ) from None


def _bulk(context: CommandContext, text: str | None) -> dict[str, str]:
    from cvx.toolchain.project import parse_env

    if not text:
        raise CvxError(
            "UsageError", "No variable was named.", hint="Pass NAME VALUE, NAME=VALUE, or --from-file FILE."
        )
    found: dict[str, str] = parse_env(text)
    skipped = sorted(n for n in found if n in MANAGED or n.endswith(("CONVEX_URL", "CONVEX_SITE_URL")))
    for name in skipped:
        context.output.say(f"Skipped {name}: it steers the command line, not functions.")
        del found[name]
    return found


def _names(changes: dict[str, str]) -> str:
    return next(iter(changes)) if len(changes) == 1 else f"all {len(changes)} variables"


def _not_found(name: str, known: list[str]) -> CvxError:
    return CvxError(
        "EnvironmentVariableNotFound",
        f"The environment variable {name} is not set.",
        kind="not_found",
        hint=nearest(name, known, "Did you mean {}?") or f"Set it with: cvx env set {name} VALUE",
    )


def format_env_value(value: str) -> str:
    """A value as a dotenv file spells it, so that `env list` can be read back (cli-and-deploy.md §5.1)."""
    if "\n" in value:
        if "'" not in value:
            return f"'{value}'"
        return '"' + value.replace("\n", "\\n") + '"'
    wrapped = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    if wrapped or value.startswith("`") or value.endswith("`") or re.search(r"[#\f\v]", value):
        if "'" in value and '"' not in value and "\\n" not in value:
            return f'"{value}"'
        return f"'{value}'"
    return value
