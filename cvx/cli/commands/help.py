"""`cvx help`: a command's help, the exit codes, or (as JSON) the whole tree of commands."""

from __future__ import annotations

import difflib
from typing import Annotated, Any

import typer

from cvx.cli.command import command
from cvx.cli.context import CommandContext
from cvx.errors import CvxError

app = typer.Typer(rich_markup_mode=None, add_completion=False)

TOPICS = {"exit-codes": "What each exit code means."}


@command(app, "help", examples=["cvx help run", "cvx help exit-codes", "cvx help --json"])
def show_help(
    context: CommandContext,
    topic: Annotated[
        list[str] | None, typer.Argument(help="A command, or: exit-codes.", show_default=False)
    ] = None,
) -> None:
    """Help on a command or a topic."""
    from cvx.cli.app import EXIT_CODES, root_command

    output = context.output
    words = list(topic or [])
    if words == ["exit-codes"]:
        lines = [f"{code:>4}  {meaning}" for code, meaning in EXIT_CODES.items()]
        output.result({str(code): meaning for code, meaning in EXIT_CODES.items()}, "\n".join(lines))
        return
    root = root_command()
    found, parent = root, typer_context(root, "cvx", None)
    for word in words:
        children = found.list_commands(parent) if hasattr(found, "list_commands") else []
        child = found.get_command(parent, word) if word in children else None
        if child is None:
            known = [*children, *(TOPICS if found is root else {})]
            near = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
            raise CvxError(
                "UsageError",
                f"There is no help on {' '.join(words)!r}.",
                hint=f"Did you mean `cvx help {near[0]}`?" if near else "`cvx --help` lists the commands.",
            )
        parent = typer_context(child, word, parent)
        found = child
    if output.json_mode:
        output.result(describe(found, parent))
    else:
        output.help(str(found.get_help(parent)))


def typer_context(command_: Any, name: str, parent: Any) -> Any:
    """A context good enough for asking a command about itself."""
    return command_.context_class(command_, info_name=name, parent=parent, resilient_parsing=True)


def describe(command_: Any, context: Any) -> dict[str, Any]:
    """A command and everything below it as data: name, help, arguments, options, examples, commands."""
    params = [p for p in command_.get_params(context) if not getattr(p, "hidden", False)]
    described: dict[str, Any] = {
        "name": context.command_path,
        "help": (command_.help or "").strip(),
        "arguments": [
            {"name": p.name, "required": p.required, "help": getattr(p, "help", None)}
            for p in params
            if p.param_type_name == "argument"
        ],
        "options": [
            {
                "names": [*p.opts, *p.secondary_opts],
                "flag": bool(getattr(p, "is_flag", False)),
                "help": p.help,
            }
            for p in params
            if p.param_type_name == "option"
        ],
        "examples": (command_.epilog or "").splitlines(),
    }
    if hasattr(command_, "list_commands"):
        children = [(name, command_.get_command(context, name)) for name in command_.list_commands(context)]
        described["commands"] = [
            describe(child, typer_context(child, name, context))
            for name, child in children
            if child is not None
        ]
    return described
