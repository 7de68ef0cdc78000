"""`cvx completion`: the shells' scripts, their installation, and the answers they ask for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from cvx.cli.command import command, group
from cvx.cli.completion import SHELLS, Names, candidates, script_for
from cvx.cli.context import CommandContext
from cvx.errors import CvxError

app = group("Complete commands, options and names with the Tab key.")

ShellArgument = Annotated[
    str | None,
    typer.Argument(metavar="[SHELL]", help="bash, zsh, fish or powershell; the one in use when left out."),
]
_ZSH_LINES = "fpath+=~/.zfunc; autoload -Uz compinit; compinit  # cvx completion"


@command(app, "show", examples=["cvx completion show bash", "cvx completion show fish"])
def show(context: CommandContext, shell: ShellArgument = None) -> None:
    """Print the script for a shell."""
    name = _shell(shell)
    context.output.result({"shell": name, "script": script_for(name)}, script_for(name))


@command(app, "install", examples=["cvx completion install", "cvx completion install zsh"])
def install(context: CommandContext, shell: ShellArgument = None) -> None:
    """Install the script for your user; a new shell uses it."""
    name = _shell(shell)
    path, changed = _install(name, Path.home())
    if changed:
        context.output.done(f"Completion for {name} is installed in {path}; open a new shell.")
    else:
        context.output.done(f"Nothing to do: {path} is up to date.")
    context.output.result({"shell": name, "file": str(path), "changed": changed})


@command(
    app,
    "words",
    hidden=True,
    examples=["cvx completion words -- run mess", "cvx completion words --open -- env get"],
)
def words(
    context: CommandContext,
    line: Annotated[list[str] | None, typer.Argument(metavar="[WORD]...")] = None,
    open_: Annotated[bool, typer.Option("--open", help="A new, empty word is being typed.")] = False,
) -> None:
    """What could complete the last word: one candidate a line, a tab, its meaning. For the shells' scripts."""
    from cvx.cli.app import root_command

    found = candidates([*(line or []), *([""] if open_ else [])], root_command(), Names(context))
    context.output.result(
        {"words": [{"word": c.word, "help": c.help} for c in found]},
        "".join(f"{c.word}\t{c.help}\n" for c in found),
    )


def _shell(named: str | None) -> str:
    name = named or Path(os.environ.get("SHELL", "")).name or ("powershell" if os.name == "nt" else "")
    name = "powershell" if name == "pwsh" else name
    if name not in SHELLS:
        raise CvxError(
            "UsageError",
            f"There is no completion for {name!r}." if name else "Which shell is not known.",
            hint=f"Name one: {', '.join(SHELLS)}.",
        )
    return name


def _install(shell: str, home: Path) -> tuple[Path, bool]:
    """Write the script where the shell looks for it; whether anything changed."""
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    path = {
        "bash": data / "bash-completion" / "completions" / "cvx",
        "zsh": home / ".zfunc" / "_cvx",
        "fish": config / "fish" / "completions" / "cvx.fish",
        "powershell": config / "powershell" / "cvx.ps1",
    }[shell]
    changed = _write(path, script_for(shell))
    if shell == "zsh":
        changed |= _ensure_line(home / ".zshrc", _ZSH_LINES)
    elif shell == "powershell":
        changed |= _ensure_line(config / "powershell" / "Microsoft.PowerShell_profile.ps1", f". '{path}'")
    return path, changed


def _write(path: Path, text: str) -> bool:
    if path.is_file() and path.read_text("utf-8") == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return True


def _ensure_line(path: Path, line: str) -> bool:
    text = path.read_text("utf-8") if path.is_file() else ""
    if line in text.splitlines():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}{line}\n", encoding="utf-8"
    )
    return True
