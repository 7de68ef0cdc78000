"""`cvx deploy`: push the project to a deployment. Type errors stop it; all of it becomes live, or nothing."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cvx.cli.command import command
from cvx.cli.commands.dev import one_of
from cvx.cli.context import CommandContext
from cvx.errors import CvxError

if TYPE_CHECKING:
    from cvx.toolchain.client import Changes, DroppedIndex
    from cvx.toolchain.dev.loop import TypecheckMode

LARGE_TABLE_DOCUMENTS = 100_000
"""From here on dropping an index is asked about, as in the official CLI (cli-and-deploy.md §1.8)."""
_LARGE_VARIABLE = "CONVEX_MIN_DOCUMENTS_FOR_INDEX_DELETE_WARNING"

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@command(
    app,
    "deploy",
    talks=True,
    examples=[
        "cvx deploy --prod",
        'cvx deploy --prod --cmd "npm run build"',
        "cvx deploy --dry-run --url http://127.0.0.1:3210 --admin-key KEY",
    ],
)
def deploy(
    context: CommandContext,
    cmd: Annotated[
        str | None,
        typer.Option("--cmd", metavar="CMD", help="Build the front end first, with the URL in its variable."),
    ] = None,
    cmd_url_env_var_name: Annotated[
        str | None,
        typer.Option("--cmd-url-env-var-name", metavar="NAME", help="The variable --cmd reads the URL from."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and change nothing.")] = False,
    message: Annotated[
        str | None, typer.Option("--message", metavar="TEXT", help="Noted with the push.")
    ] = None,
    typecheck: Annotated[
        str, typer.Option("--typecheck", metavar="MODE", help="try, enable or disable.")
    ] = "try",
    codegen: Annotated[str, typer.Option("--codegen", metavar="MODE", help="enable or disable.")] = "enable",
    skip_large_indexes_check: Annotated[
        bool,
        typer.Option("--skip-large-indexes-check", help="Drop indexes of large tables without asking."),
    ] = False,
    yes: Annotated[
        str | None,
        typer.Option(
            "--yes",
            metavar="[RISK]",
            help="Do not ask; dropping indexes of large tables takes --yes=delete-indexes.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Push the project to a deployment, all or nothing."""
    context.output.status("Preparing")
    mode: TypecheckMode = one_of("--typecheck", typecheck, ("try", "enable", "disable"))
    one_of("--codegen", codegen, ("enable", "disable"))
    begin = time.monotonic()

    from cvx.toolchain.client import changes_of

    asks = not (skip_large_indexes_check or dry_run or yes == "delete-indexes")

    def agree(dropped: list[DroppedIndex]) -> None:
        _agree_to_drop(context, dropped)

    async def go() -> tuple[Any, str, list[dict[str, Any]]]:
        from cvx.toolchain.dev import push_once

        async with context.client() as client:
            url = client.deployment.url
            context.output.say("▌ Deploying code to deployment:")
            context.output.say(f"▌ └─ {url}{' [dry run]' if dry_run else ''}")
            if cmd is not None:
                _run_build(context, cmd, cmd_url_env_var_name, (await client.canonical_urls()).cloud)
            before = await client.system_query("_system/cli/modules:apiSpec", {}, list[dict[str, Any]])
            pushed = await push_once(
                context.project,
                client,
                context.reporter,
                dry_run=dry_run,
                message=message,
                typecheck=mode,
                codegen=codegen == "enable",
                before_start=agree if asks else None,
            )
            return pushed, url, before

    pushed, url, before = asyncio.run(go())
    outcome = pushed.outcome
    changes = changes_of(
        before, outcome.analysis, outcome.component_diffs, outcome.index_diff, outcome.auth_diff
    )
    _show(context, changes, dry_run)
    verb = "Checked; nothing was changed on" if dry_run else "Deployed functions to"
    context.output.done(f"{verb} {url} ({time.monotonic() - begin:.2f} s)")
    root = outcome.component_diffs.get("")
    context.output.result(
        {
            "url": url,
            "dryRun": dry_run,
            "modulesSent": outcome.modules_sent,
            "changes": [change.to_json() for change in changes],
            "modulesAdded": list(root.module_diff.added) if root else [],
            "modulesRemoved": list(root.module_diff.removed) if root else [],
            "indexesAdded": [index.name for index in outcome.index_diff.added_indexes],
            "indexesRemoved": [index.name for index in outcome.index_diff.removed_indexes],
        }
    )


_MOUNTED = {"create": "installed", "unmount": "removed; its data stays", "remount": "installed again"}


def _show(context: CommandContext, changes: tuple[Changes, ...], dry_run: bool) -> None:
    """A tree for each component that changes."""
    if not changes:
        context.output.say("Nothing would change." if dry_run else "The deployment had exactly this already.")
    for change in changes:
        what = f"component {change.component}" if change.component else "the app"
        title = f"Changes of {what}" + (
            f" ({_MOUNTED[change.mounted]})" if change.mounted in _MOUNTED else ""
        )
        groups = [(name, [(c.mark, c.name, c.detail) for c in found]) for name, found in change.groups()]
        context.output.say(context.output.tree(title, groups))


def _agree_to_drop(context: CommandContext, dropped: list[DroppedIndex]) -> None:
    """Ask before indexes of large tables go: building them again could take long. Raises `NotConfirmed`."""
    least = int(os.environ.get(_LARGE_VARIABLE) or LARGE_TABLE_DOCUMENTS)
    large = [index for index in dropped if index.documents >= least]
    if not large:
        return
    context.output.clear_status()
    for index in large:
        where = f" in component {index.component}" if index.component else ""
        context.output.warn(f"This drops the index {index.name}{where}, of {index.documents:,} documents.")
    what = "Drop this index?" if len(large) == 1 else f"Drop these {len(large)} indexes?"
    if not context.prompts.confirm(what, default=False, flag="--yes=delete-indexes"):
        raise CvxError(
            "NotConfirmed",
            "The deploy was called off; nothing was changed.",
            hint="Put the index back into the schema, or make it staged: { staged: true } keeps it.",
        )


def _run_build(context: CommandContext, command_line: str, variable: str | None, url: str) -> None:
    """Run `--cmd`; its output is talk. A build that fails ends the deploy before anything was pushed."""
    from cvx.toolchain.project import detect_framework

    name = variable or detect_framework(context.project.package_json).url_variable
    context.output.say(f"Running `{command_line}` with {name}={url}")
    done = subprocess.run(
        command_line,
        shell=True,
        cwd=context.project.root,
        env={**os.environ, name: url},
        stdout=sys.stderr.fileno(),
        check=False,
    )
    if done.returncode != 0:
        raise CvxError(
            "BuildFailed",
            f"`{command_line}` ended with status {done.returncode}; nothing was pushed.",
            hint="Its own output, above, says why.",
        )
