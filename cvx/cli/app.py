"""The root of the command line: the list of commands, the options before them, and the exit code.

Commands are imported when they are called, so that `--help` and `--version` stay quick.

Rule: only this file chooses an exit code, and only here are all exceptions caught.
"""

from __future__ import annotations

import errno
import importlib
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import typer

from cvx.cli.command import (
    ColorOption,
    CvxGroup,
    DebugOption,
    JsonOption,
    NoInputOption,
    ProjectOption,
    QuietOption,
    VerboseOption,
    nearest,
    no_command,
)
from cvx.cli.context import GlobalOptions
from cvx.cli.output import ColorChoice, Output, ReaderGone
from cvx.errors import CvxError

EXIT_CODES: dict[int, str] = {
    0: "ok",
    1: "failed",
    2: "usage: an unknown command, flag or value, or a question nobody could answer",
    3: "not found: a function, table, variable, template or deployment",
    4: "not authorised: the admin key is missing or wrong",
    5: "conflict or validation: the deployment refused the data, the schema or the code",
    6: "the deployment cannot be reached",
    7: "your function threw",
    8: "a check found differences (codegen --dry-run, doctor)",
    124: "timed out",
    130: "interrupted",
}

_EXIT_BY_CODE: dict[str, int] = {
    "InputNeeded": 2,
    "UsageError": 2,
    "InvalidSelection": 2,
    "InvalidDeploymentName": 2,
    "FunctionNotFound": 3,
    "ArgumentValidation": 5,
    "InvalidName": 5,
    "SchemaMismatch": 5,
    "SchemaFailed": 5,
    "DeploymentUnreachable": 6,
    "FunctionThrew": 7,
    "CodegenStale": 8,
    "ChecksDiffer": 8,
    "TimedOut": 124,
}
_EXIT_BY_KIND: dict[str, int] = {
    "not_found": 3,
    "unauthenticated": 4,
    "auth_update_failed": 4,
    "forbidden": 4,
    "conflict": 5,
    "occ": 5,
    "pagination_limit": 5,
    "unavailable": 6,
}


@dataclass(frozen=True)
class CommandEntry:
    """Where a command lives; the help text stands here so that `cvx --help` imports none of them."""

    module: str
    help: str
    group: str


COMMANDS: dict[str, CommandEntry] = {
    "init": CommandEntry("init", "Start a project, or add what is missing to one.", "Build"),
    "dev": CommandEntry("dev", "Run the local backend, push on every save, regenerate types.", "Build"),
    "run": CommandEntry("run", "Call a function and print its value.", "Build"),
    "codegen": CommandEntry("codegen", "Write _generated/ without a backend.", "Build"),
    "typecheck": CommandEntry("typecheck", "Check the functions' types.", "Build"),
    "functions": CommandEntry("functions", "Print the specification of the deployed functions.", "Build"),
    "deploy": CommandEntry("deploy", "Push the project to a deployment, all or nothing.", "Deploy"),
    "deployment": CommandEntry("deployment", "Make, choose, show and delete deployments.", "Deploy"),
    "env": CommandEntry("env", "Read and write the deployment's environment variables.", "Deploy"),
    "auth": CommandEntry("auth", "Set up Convex Auth; make tokens for local development.", "Deploy"),
    "backend": CommandEntry("backend", "Run the backend itself, or see what runs here.", "Deploy"),
    "data": CommandEntry("data", "Look at tables; import and export them.", "Look inside"),
    "logs": CommandEntry("logs", "Follow the functions' logs.", "Look inside"),
    "jobs": CommandEntry("jobs", "See and cancel scheduled functions.", "Look inside"),
    "crons": CommandEntry("crons", "See crons and how they run.", "Look inside"),
    "config": CommandEntry("config", "Show the settings in force and where they come from.", "Help"),
    "doctor": CommandEntry("doctor", "Look for what is wrong here, each with its fix.", "Help"),
    "completion": CommandEntry(
        "completion", "Complete commands, options and names with the Tab key.", "Help"
    ),
    "help": CommandEntry("help", "Help on a command or a topic (exit-codes).", "Help"),
}

_NAME_WIDTH = max(map(len, COMMANDS))


def _groups() -> list[tuple[str, list[str]]]:
    """The commands by what they are for, in the order of COMMANDS."""
    titles = dict.fromkeys(entry.group for entry in COMMANDS.values())
    return [(title, [name for name, entry in COMMANDS.items() if entry.group == title]) for title in titles]


EXAMPLES = "cvx init my-app --template chat-vite\ncvx dev\ncvx run messages:list '{\"limit\": 5}'"


class RootGroup(CvxGroup):
    """The commands, imported on use."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(f"cvx.cli.commands.{entry.module}")
        loaded = typer.main.get_command(module.app)
        loaded.name = cmd_name
        return loaded

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise no_command("cvx", args[0], list(COMMANDS))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, names in _groups():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(_NAME_WIDTH), COMMANDS[name].help) for name in names])


app = typer.Typer(
    cls=RootGroup,
    name="cvx",
    help="A command-line toolchain with a complete reactive backend inside it. Convex programs run on it unmodified.",
    epilog=EXAMPLES,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
)


@app.callback()
def root(
    ctx: typer.Context,
    version: bool = typer.Option(False, "--version", "-V", help="Print the version."),
    json_mode: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    color: ColorOption = None,
    no_input: NoInputOption = False,
    project_dir: ProjectOption = None,
    debug: DebugOption = False,
) -> None:
    """A command-line toolchain with a complete reactive backend inside it."""
    ctx.obj = GlobalOptions(json_mode, quiet, verbose, color, no_input, project_dir, debug)
    output = Output(json_mode=json_mode)
    if version:
        from cvx import __version__

        output.result({"version": __version__}, f"cvx {__version__}")
        raise typer.Exit()
    if ctx.invoked_subcommand is None:
        output.result(
            {"help": ctx.get_help()},
            lambda: "\n".join(
                ["Usage: cvx COMMAND …", ""]
                + [
                    line
                    for title, names in _groups()
                    for line in [
                        f"{title}:",
                        *(f"  {name.ljust(_NAME_WIDTH)}  {COMMANDS[name].help}" for name in names),
                        "",
                    ]
                ]
                + ["New here?  cvx init my-app --template chat-vite    More: cvx --help"]
            ),
        )


def root_command() -> Any:
    """The whole command tree."""
    return typer.main.get_command(app)


_OPTIONAL_VALUES = {"--configure": "ask", "--tail-logs": "always", "--history": "all"}
"""Options whose value may be left out, as in the official CLI, and what it is then. Their commands take no
arguments, so a word that follows is the value, right or wrong."""


def with_optional_values(argv: Sequence[str]) -> list[str]:
    """`--configure` alone becomes `--configure ask`, and `--yes` becomes `--yes=yes`: one form for the parser."""
    out: list[str] = []
    rest = list(argv)
    while rest:
        token = rest.pop(0)
        if token == "--":
            return [*out, token, *rest]
        out.append("--yes=yes" if token in ("--yes", "-y") else token)
        if token in _OPTIONAL_VALUES:
            given = bool(rest) and not rest[0].startswith("-")
            out.append(rest.pop(0) if given else _OPTIONAL_VALUES[token])
    return out


def run(argv: Sequence[str], *, sign_shown: bool = False) -> int:
    """Run one command line; the exit code. Never raises, never ends the process.

    `sign_shown`: a status line stands on the terminal already, for the first words to replace.
    """
    Output.sign_shown = sign_shown
    _buffer_standard_output()
    plain = list(argv[: argv.index("--")] if "--" in argv else argv)
    if "--json" in plain and "--help" in plain:  # Help as data is what `cvx help … --json` answers.
        argv = ["help", *(word for word in plain if not word.startswith("-")), "--json"]
    output = Output(
        json_mode="--json" in plain, quiet="--quiet" in plain or "-q" in plain, color=_color(plain)
    )
    try:
        # Typer catches Ctrl-C and its own Exit, and returns their code in this mode.
        code = root_command().main(args=with_optional_values(argv), prog_name="cvx", standalone_mode=False)
        if code == 130:
            raise KeyboardInterrupt
    except CvxError as error:
        return _told(partial(_failure, error, output, plain), exit_code(error))
    except KeyboardInterrupt:
        return _told(partial(_interrupted, output), 130)
    except ReaderGone:
        return _told(_abandon, 0)
    except Exception as error:
        return _other(error, output, plain)
    return code if isinstance(code, int) else 0


def _buffer_standard_output() -> None:
    """With PYTHONUNBUFFERED, Python hands what it prints to the system once: what a full pipe left over when the process
    was stopped (Ctrl-Z) would be lost. We flush where it matters."""
    if isinstance(getattr(sys.stdout, "buffer", None), io.RawIOBase):
        old = sys.stdout
        sys.stdout = open(  # noqa: SIM115
            old.fileno(), "w", encoding=old.encoding, errors=old.errors, closefd=False
        )


def _told(tell: Callable[[], None], code: int) -> int:
    """`code`, once it has been said why; also when there is nobody to say it to, or no room."""
    try:
        tell()
    except (ReaderGone, CvxError):
        _abandon()
    return code


def _failure(error: CvxError, output: Output, argv: Sequence[str]) -> None:
    from cvx.cli.hints import hinted

    if error.code == "CannotPrint":
        _abandon()
    output.error(hinted(error))
    if "--debug" in argv:
        _traceback(output)


def _interrupted(output: Output) -> None:
    output.clear_status()
    if output.json_mode:
        output.error(CvxError("Interrupted", "Interrupted.", hint=None))


def exit_code(error: CvxError) -> int:
    """The exit code a failure maps to (see EXIT_CODES)."""
    if error.code in _EXIT_BY_CODE:
        return _EXIT_BY_CODE[error.code]
    if error.kind in _EXIT_BY_KIND:
        return _EXIT_BY_KIND[error.kind]
    if error.kind == "bad_request" and "status" in error.details:
        return 5  # The deployment looked at it and refused.
    return 1


def _other(error: Exception, output: Output, argv: Sequence[str]) -> int:
    """Typer's own exceptions, then bugs."""
    if isinstance(error, typer.Exit):
        return int(error.exit_code)
    if isinstance(error, typer.Abort):
        return 130
    if type(error).__name__ == "NoArgsIsHelpError":
        text = getattr(error, "ctx", None)
        output.result({"help": error.args[0]}, str(text.get_help()) if text is not None else str(error))
        return 2
    if hasattr(error, "format_message"):
        usage = _usage_error(error, argv)
        return _told(partial(output.error, usage), 2)
    refusal = _refused_by_the_system(error)
    if refusal is not None:
        return _told(partial(_failure, refusal, output, argv), 1)
    bug = CvxError(
        "Bug",
        f"cvx failed in a way it should not: {type(error).__name__}: {error}",
        kind="internal",
        hint="Run it again with --debug and report the traceback.",
    )
    return _told(partial(_failure, bug, output, argv), 1)


_REFUSALS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EMFILE})


def _refused_by_the_system(error: Exception) -> CvxError | None:
    """A folder that cannot be written, a disk that is full: not what cvx did wrong. None for anything else."""
    if not isinstance(error, OSError) or error.errno not in _REFUSALS:
        return None
    path = error.filename2 or error.filename
    place = f"{path}: " if isinstance(path, str) else ""
    return CvxError(
        "SystemRefused",
        f"{place}{error.strerror}.",
        hint="Check the permissions and the free space there; `cvx doctor` looks for what is wrong.",
    )


def _usage_error(error: Any, argv: Sequence[str]) -> CvxError:
    """Typer's complaint as one of ours: the message, and the nearest thing that exists."""
    message = str(error.format_message())
    named = next((word for word in argv if word in COMMANDS), "")
    path = error.ctx.command_path if getattr(error, "ctx", None) is not None else f"cvx {named}".strip()
    hint = f"`{path} --help` shows what it takes."
    option = getattr(error, "option_name", None)
    if option and getattr(error, "possibilities", None):
        names = list(error.possibilities)
        hint = nearest(str(option), names, "Did you mean {}?") or f"Did you mean {' or '.join(names)}?"
        message = f"{path} has no option {option}."
    elif option and getattr(error, "ctx", None) is not None:
        names = [name for param in error.ctx.command.params for name in param.opts if name.startswith("--")]
        hint = nearest(str(option), names, "Did you mean {}?") or hint
    return CvxError("UsageError", message, hint=hint)


def _color(argv: Sequence[str]) -> ColorChoice:
    for index, token in enumerate(argv):
        value = (
            token[8:]
            if token.startswith("--color=")
            else argv[index + 1]
            if token == "--color" and index + 1 < len(argv)
            else ""
        )
        if value == "always":
            return "always"
        if value == "never":
            return "never"
    return "auto"


def _traceback(output: Output) -> None:
    import traceback

    output.raw(traceback.format_exc())


def _abandon() -> None:
    """Nothing more can be printed on standard output: keep the interpreter from complaining at exit."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
