"""How a command is declared: a plain function that takes a CommandContext first, plus its own options.

`command(...)` adds the options every command has (and, with `talks=True`, the ones that choose a deployment),
builds the CommandContext from them, and shows the examples at the end of the help.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from cvx.cli.context import CommandContext, DeploymentOptions, GlobalOptions
from cvx.errors import CvxError

GLOBAL_PANEL = "Global options"
DEPLOYMENT_PANEL = "Deployment options"

JsonOption = Annotated[
    bool,
    typer.Option(
        "--json", help="Answer with one JSON object on standard output.", rich_help_panel=GLOBAL_PANEL
    ),
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Only data, warnings and errors.", rich_help_panel=GLOBAL_PANEL)
]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say more about what is done.", rich_help_panel=GLOBAL_PANEL)
]
ColorOption = Annotated[
    str | None,
    typer.Option("--color", metavar="WHEN", help="auto, always or never.", rich_help_panel=GLOBAL_PANEL),
]
NoInputOption = Annotated[
    bool,
    typer.Option("--no-input", help="Never ask; fail naming the flag to pass.", rich_help_panel=GLOBAL_PANEL),
]
ProjectOption = Annotated[
    str | None,
    typer.Option(
        "--project",
        metavar="DIR",
        help="The project's folder (default: here or above).",
        rich_help_panel=GLOBAL_PANEL,
    ),
]
DebugOption = Annotated[
    bool, typer.Option("--debug", help="Show Python tracebacks.", rich_help_panel=GLOBAL_PANEL, hidden=True)
]

GLOBAL_PARAMETERS: dict[str, tuple[Any, Any]] = {
    "json_mode": (JsonOption, False),
    "quiet": (QuietOption, False),
    "verbose": (VerboseOption, False),
    "color": (ColorOption, None),
    "no_input": (NoInputOption, False),
    "project_dir": (ProjectOption, None),
    "debug": (DebugOption, False),
}

DEPLOYMENT_PARAMETERS: dict[str, tuple[Any, Any]] = {
    "deployment_name": (
        Annotated[
            str | None,
            typer.Option(
                "--deployment",
                metavar="NAME",
                help="A deployment of cvx.toml or a local one.",
                rich_help_panel=DEPLOYMENT_PANEL,
            ),
        ],
        None,
    ),
    "prod": (
        Annotated[
            bool,
            typer.Option("--prod", help="The deployment named prod.", rich_help_panel=DEPLOYMENT_PANEL),
        ],
        False,
    ),
    "url": (
        Annotated[
            str | None,
            typer.Option(
                "--url", metavar="URL", help="A deployment's address.", rich_help_panel=DEPLOYMENT_PANEL
            ),
        ],
        None,
    ),
    "admin_key": (
        Annotated[
            str | None,
            typer.Option(
                "--admin-key", metavar="KEY", help="Its admin key.", rich_help_panel=DEPLOYMENT_PANEL
            ),
        ],
        None,
    ),
    "env_file": (
        Annotated[
            str | None,
            typer.Option(
                "--env-file",
                metavar="FILE",
                help="Choose from this file's variables only.",
                rich_help_panel=DEPLOYMENT_PANEL,
            ),
        ],
        None,
    ),
}

F = TypeVar("F", bound=Callable[..., None])


def _format_examples(self: Any, formatter: Any) -> None:
    if self.epilog:
        formatter.write("\nExamples:\n")
        for line in self.epilog.splitlines():
            formatter.write(f"  {line}\n")


def _format_options(self: Any, ctx: Any, formatter: Any) -> None:
    """Options by panel, this command's own first."""
    panels: dict[str, list[tuple[str, str]]] = {}
    arguments: list[tuple[str, str]] = []
    for param in self.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is None:
            continue
        if param.param_type_name == "argument":
            arguments.append(record)
            continue
        panel = getattr(param, "rich_help_panel", None)
        panels.setdefault(panel or (GLOBAL_PANEL if param.name == "help" else "Options"), []).append(record)
    if arguments:
        with formatter.section("Arguments"):
            formatter.write_dl(arguments)
    for name in ("Options", DEPLOYMENT_PANEL, GLOBAL_PANEL):
        if name in panels:
            with formatter.section(name):
                formatter.write_dl(panels[name])


class CvxCommand(TyperCommand):
    """A command whose help ends in examples, laid out as written."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        _format_examples(self, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _format_options(self, ctx, formatter)


def nearest(word: str, known: Sequence[str], sentence: str) -> str | None:
    """`sentence` with the name that is most like `word`, whatever its case; None when none is."""
    import difflib

    by_lower = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.5)
    return sentence.format(by_lower[found[0]]) if found else None


def no_command(path: str, word: str, known: Sequence[str]) -> CvxError:
    """The error for a command that `path` (`cvx data`) does not have."""
    near = nearest(word, known, f"Did you mean `{path} {{}}`?")
    return CvxError(
        "UsageError", f"There is no command `{path} {word}`.", hint=near or f"`{path} --help` lists them."
    )


class CvxGroup(TyperGroup):
    """A group of commands with the same help."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        _format_examples(self, formatter)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        known = self.list_commands(ctx)
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise no_command(ctx.command_path, args[0], known)
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        self.format_commands(ctx, formatter)
        _format_options(self, ctx, formatter)


def command(
    app: typer.Typer, name: str, *, examples: Sequence[str], talks: bool = False, hidden: bool = False
) -> Callable[[F], F]:
    """Register `function(context, …)` as `cvx … name`. `talks`: it takes the deployment options too."""

    def register(function: F) -> F:
        # Not typing.get_type_hints: Python 3.10's makes Annotated[…] = None an Optional that Typer cannot read.
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        extra = GLOBAL_PARAMETERS | (DEPLOYMENT_PARAMETERS if talks else {})

        def invoke(ctx: typer.Context, **values: Any) -> None:
            options = {key: values.pop(key) for key in GLOBAL_PARAMETERS}
            chosen = {key: values.pop(key) for key in DEPLOYMENT_PARAMETERS if key in extra}
            inherited = ctx.obj if isinstance(ctx.obj, GlobalOptions) else GlobalOptions()
            context = CommandContext(inherited.merged(**options), DeploymentOptions(**chosen))
            try:
                function(context, **values)
            finally:
                context.output.clear_status()

        parameters = [_CONTEXT_PARAMETER]
        parameters += [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        _sign(invoke, [*parameters, *_keyword_parameters(extra)])
        invoke.__doc__ = function.__doc__
        app.command(name, cls=CvxCommand, epilog="\n".join(examples), hidden=hidden)(invoke)
        return function

    return register


_CONTEXT_PARAMETER = inspect.Parameter(
    "ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
)


def _keyword_parameters(options: dict[str, tuple[Any, Any]]) -> list[inspect.Parameter]:
    return [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for key, (annotation, default) in options.items()
    ]


def _sign(function: Callable[..., None], parameters: list[inspect.Parameter]) -> None:
    """Give a function the signature Typer reads; objects in it spare Typer from resolving names."""
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {p.name: p.annotation for p in parameters}


def group(help_text: str) -> typer.Typer:
    """A Typer app for one noun; its commands are registered with `command`."""
    app = typer.Typer(
        help=help_text,
        cls=CvxGroup,
        no_args_is_help=True,
        rich_markup_mode=None,
        add_completion=False,
        pretty_exceptions_enable=False,
    )

    def noun(ctx: typer.Context, **options: Any) -> None:
        """Options between the noun and its command count like those before and after."""
        inherited = ctx.obj if isinstance(ctx.obj, GlobalOptions) else GlobalOptions()
        ctx.obj = inherited.merged(**options)

    _sign(noun, [_CONTEXT_PARAMETER, *_keyword_parameters(GLOBAL_PARAMETERS)])
    app.callback(help=help_text)(noun)
    return app
