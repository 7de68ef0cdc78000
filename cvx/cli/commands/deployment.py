"""`cvx deployment`: the deployments this project knows, local and named in cvx.toml."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from cvx.cli.command import command, group, nearest
from cvx.cli.context import CommandContext
from cvx.errors import CvxError

app = group("List and show deployments; make, choose and delete local ones.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME")]


@command(app, "list", examples=["cvx deployment list", "cvx deployment list --json"])
def list_deployments(context: CommandContext) -> None:
    """List the deployments; the chosen one is marked."""
    from cvx.toolchain.project import list_named

    try:
        chosen: str | None = context.selection.name
    except CvxError as error:
        context.output.warn(error.message)
        chosen = None
    found = [
        {"name": name, "kind": kind, "url": url, "selected": name == chosen}
        for name, kind, url in list_named(context.project)
    ]
    rows = [
        ("*" if d["selected"] else "", str(d["name"]), str(d["kind"]), str(d["url"] or "")) for d in found
    ]
    if not rows:
        context.output.say("No deployment yet. `cvx dev` makes a local one.")
    context.output.result(
        {"deployments": found, "selected": chosen},
        lambda: context.output.table(("", "name", "kind", "url"), rows) if rows else "",
    )


@command(app, "show", talks=True, examples=["cvx deployment show", "cvx deployment show --prod --json"])
def show(context: CommandContext) -> None:
    """Show the deployment that commands talk to, and why it is that one."""
    from cvx.toolchain.project import local_state

    selection = context.selection
    deployment = selection.deployment
    shown: dict[str, Any] = {
        "name": selection.name,
        "kind": selection.kind,
        "chosenBy": selection.origin,
        "url": deployment.url if deployment else None,
        "siteUrl": deployment.site_url if deployment else None,
    }
    if selection.is_local:
        state = local_state(context.project, selection.name)
        running = state.running()
        shown |= {
            "created": state.exists(),
            "pid": running.pid if running else None,
            "data": str(state.data_dir),
        }
    width = max(len(name) for name in shown)
    words = {None: "-", True: "yes", False: "no"}
    lines = [
        f"{name.ljust(width)}  {words[value] if value is None or isinstance(value, bool) else value}"
        for name, value in shown.items()
    ]
    context.output.result(shown, "\n".join(lines))


@command(app, "create", examples=["cvx deployment create staging", "cvx deployment create test --select"])
def create(
    context: CommandContext,
    name: NameArgument,
    select: Annotated[bool, typer.Option("--select", help="Choose it for the commands that follow.")] = False,
) -> None:
    """Make a local deployment with its own data and ports."""
    from cvx.toolchain.dev import running_backend
    from cvx.toolchain.project import local_state, select_name

    existed = local_state(context.project, name).exists()

    async def go() -> str:
        async with running_backend(context.project, name, context.reporter, create=True) as deployment:
            return deployment.url

    url = asyncio.run(go())
    if select:
        select_name(context.project, name)
    context.output.done(f"{name} {'exists already' if existed else 'is made'}: {url}")
    context.output.result({"name": name, "url": url, "created": not existed, "selected": select})


@command(app, "select", examples=["cvx deployment select staging", "cvx deployment select default"])
def select_deployment(context: CommandContext, name: NameArgument) -> None:
    """Choose the deployment that commands talk to when no flag or variable says otherwise."""
    from cvx.toolchain.project import DEFAULT_NAME, list_named, select_name

    known = [known_name for known_name, _, _ in list_named(context.project)]
    if name not in known and name != DEFAULT_NAME:
        raise CvxError(
            "DeploymentNotFound",
            f"There is no deployment {name!r}. There are: {', '.join(known) or 'none'}.",
            kind="not_found",
            hint=nearest(name, known, "Did you mean {}?") or f"Make it: cvx deployment create {name}",
        )
    changed = select_name(context.project, name)
    context.output.done(f"{name} is chosen." if changed else f"Nothing to do: {name} was chosen already.")
    context.output.result({"selected": name, "changed": changed})


@command(
    app,
    "delete",
    examples=["cvx deployment delete staging --dry-run", "cvx deployment delete staging --yes"],
)
def delete(
    context: CommandContext,
    name: NameArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; delete nothing.")] = False,
    yes: Annotated[
        str | None,
        typer.Option(
            "--yes",
            metavar="[RISK]",
            help="Do not ask; for one called prod, --yes=delete-data.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Delete a local deployment and all its data."""
    from cvx.toolchain.project import local_state, select_name, selected_name

    state = local_state(context.project, name)
    if not state.exists():
        raise CvxError(
            "DeploymentNotFound",
            f"There is no local deployment {name!r}.",
            kind="not_found",
            hint="`cvx deployment list` lists them.",
        )
    sizes = [path.stat().st_size for path in state.folder.rglob("*") if path.is_file()]
    data = {"deleted": name, "files": len(sizes), "bytes": sum(sizes), "dryRun": dry_run}
    size = f"{len(sizes)} files, {sum(sizes):,} bytes"
    if dry_run:
        context.output.done(f"Would delete {name}: {state.folder} ({size}).")
        context.output.result(data)
        return
    agreed = yes == "delete-data" if name in ("prod", "production") else yes is not None
    flag = "--yes=delete-data" if name in ("prod", "production") else "--yes"
    if not agreed and not context.prompts.typed(
        f"Delete {name} and all its data ({size})?", expected=name, flag=flag
    ):
        raise CvxError("NotConfirmed", "Nothing was deleted.", hint="Type the deployment's name to confirm.")
    state.delete()
    if selected_name(context.project) == name:
        select_name(context.project, None)
    context.output.done(f"Deleted {name} ({size}).")
    context.output.result(data)
