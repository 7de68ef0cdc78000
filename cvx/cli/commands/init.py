"""`cvx init`: a new project from a template, or what an existing app is missing. Doing it twice changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cvx.cli.command import command
from cvx.cli.context import CommandContext

if TYPE_CHECKING:
    from cvx.toolchain.project import PackageJson

app = typer.Typer(rich_markup_mode=None, add_completion=False)

DEFAULT_TEMPLATE = "chat-vite"


@command(
    app,
    "init",
    examples=[
        "cvx init my-app --template chat-vite",
        "cvx init --list-templates",
        "cvx init                                # in an existing app: adds only what is missing",
    ],
)
def init(
    context: CommandContext,
    directory: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="The folder; made when missing.")
    ] = None,
    template: Annotated[
        str | None,
        typer.Option("--template", metavar="NAME", help="What to start from (see --list-templates)."),
    ] = None,
    list_templates: Annotated[bool, typer.Option("--list-templates", help="List the templates.")] = False,
    no_install: Annotated[bool, typer.Option("--no-install", help="Leave npm packages alone.")] = False,
    yes: Annotated[
        str | None,
        typer.Option("--yes", metavar="", help="Take the defaults instead of asking.", show_default=False),
    ] = None,
) -> None:
    """Start a project, or add what is missing to one."""
    from cvx.toolchain.dev import set_up_project
    from cvx.toolchain.project import is_empty_folder, packages_in_place
    from cvx.toolchain.project import list_templates as all_templates

    if list_templates:
        templates = all_templates()
        rows = [(t.name, t.description) for t in templates]
        width = max(len(name) for name, _ in rows)
        context.output.result(
            {"templates": [{"name": t.name, "description": t.description} for t in templates]},
            "\n".join(f"{name.ljust(width)}  {description}" for name, description in rows),
        )
        return
    folder = directory or context.folder
    if template is None and is_empty_folder(folder):
        template = DEFAULT_TEMPLATE
        if context.prompts.possible and yes is None:
            choices = {t.name: t.description for t in all_templates()}
            template = context.prompts.choose(
                "Which template?", choices, default=template, flag="--template NAME"
            )
    done = set_up_project(folder, template, context.reporter, install=not no_install)
    output = context.output
    for path in done.report.created:
        output.detail(f"+ {path}")
    if done.is_noop:
        but = "" if packages_in_place(done.project) else " but its npm packages"
        output.done(f"Nothing to do: {done.project.root.name} has everything it needs{but}.")
    else:
        parts = [f"{len(done.report.created)} files written"] if done.report.created else []
        parts += [f"added to {', '.join(done.report.changed)}"] if done.report.changed else []
        parts += [f"packages installed with {done.installed_with}"] if done.installed_with else []
        parts += [f"{', '.join(done.variables)} in .env.local"] if done.variables else []
        output.done(f"{done.project.root.name} is set up: {'; '.join(parts) or 'types generated'}.")
        where = f"cd {directory} && " if directory else ""
        output.say(f"Next: {where}{_next_command(done.project.package_json)}")
    output.result(
        {
            "root": str(done.project.root),
            "template": template,
            "created": list(done.report.created),
            "changed": list(done.report.changed),
            "generated": list(done.generated),
            "installedWith": done.installed_with,
            "url": done.url,
            "noop": done.is_noop,
        }
    )


def _next_command(package_json: PackageJson | None) -> str:
    """`cvx dev`, with the project's own front end beside it where its `dev` script names one."""
    script = package_json.scripts.get("dev", "") if package_json else ""
    if script.startswith("cvx dev") or not script:
        return script or "cvx dev"
    return f'cvx dev --start "{script}"' if '"' not in script else "cvx dev"
