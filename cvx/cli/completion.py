"""What could come next on a command line: commands, options, their values, and names from the project and its deployment.

The shells' scripts (`scripts_for`) know nothing but how to ask: every answer is made here, so a script never grows
stale. A name that cannot be looked up quickly (no backend runs, no project) is simply not offered; nothing is started.

Rule: completing never fails, never writes and never takes longer than `LOOKUP_S`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvx.errors import CvxError

LOOKUP_S = 1.5
SHELLS = ("bash", "zsh", "fish", "powershell")


@dataclass(frozen=True)
class Candidate:
    """A word that could stand here, and what it means."""

    word: str
    help: str = ""


class Names:
    """Names that only the project or a running deployment knows. Each is looked up when asked for."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def tables(self) -> list[str]:
        from cvx.cli.commands.data import table_names

        found: list[str] = self._ask(table_names)
        return found

    def functions(self) -> list[str]:
        async def go(client: Any) -> list[str]:
            spec = await client.system_query("_system/cli/modules:apiSpec", {}, list[dict[str, Any]])
            names = [str(f["identifier"]) for f in spec if "identifier" in f]
            return [name.replace(".js:", ":") for name in names]

        found: list[str] = self._ask(go)
        return found

    def variables(self) -> list[str]:
        async def go(client: Any) -> list[str]:
            return sorted(await client.environment())

        found: list[str] = self._ask(go)
        return found

    def deployments(self) -> list[str]:
        from cvx.toolchain.project import list_local

        return [state.name for state in list_local(self._context.project)]

    def templates(self) -> list[str]:
        from cvx.toolchain.project import list_templates

        return [template.name for template in list_templates()]

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        """Ask the chosen deployment, if it is there: a local one that does not run is not started for this."""
        selection = self._context.selection
        if selection.is_local:
            from cvx.toolchain.project import local_state

            if local_state(self._context.project, selection.name).running_now() is None:
                return []

        async def go() -> Any:
            async with self._context.client() as client:
                return await question(client)

        return asyncio.run(asyncio.wait_for(go(), LOOKUP_S))


_TYPECHECK = ("try", "enable", "disable")
_OPTION_VALUES: dict[str, Sequence[str] | str] = {
    "--color": ("auto", "always", "never"),
    "--typecheck": _TYPECHECK,
    "--codegen": ("enable", "disable"),
    "--tail-logs": ("always", "pause-on-deploy", "disable"),
    "--configure": ("new", "existing"),
    "--order": ("asc", "desc"),
    "--format": ("jsonl", "json", "csv", "zip", "table"),
    "--table": "tables",
    "--run": "functions",
    "--template": "templates",
    "--deployment": "deployments",
}
_ARGUMENT_VALUES: dict[str, Sequence[str] | str] = {
    "run": "functions",
    "data show": "tables",
    "env get": "variables",
    "env set": "variables",
    "env remove": "variables",
    "env rm": "variables",
    "env unset": "variables",
    "deployment select": "deployments",
    "deployment delete": "deployments",
    "completion show": SHELLS,
    "completion install": SHELLS,
    "help": "commands",
}
"""What the arguments of a command are: words, or one of the methods of `Names`, or the commands themselves."""
_REPEATED = frozenset({"env remove", "env rm", "env unset", "help"})


def candidates(words: Sequence[str], root: Any, names: Names) -> list[Candidate]:
    """Words that could complete the last of `words` (what stands after `cvx`; the last may be empty)."""
    *before, current = words or [""]
    at = _walk(root, before)
    if at is None:
        return []
    if at.wants_value is not None:
        found = _values(_OPTION_VALUES.get(at.wants_value), names, current)
    elif current.startswith("-"):
        option, equals, value = current.partition("=")
        if equals:
            values = _values(_OPTION_VALUES.get(option), names, value)
            return [Candidate(f"{option}={c.word}", c.help) for c in values if c.word.startswith(value)]
        found = _options(at)
    elif hasattr(at.command, "list_commands"):
        found = _commands(at)
    else:
        found = _arguments(at, root, names, current)
    return [candidate for candidate in found if candidate.word.startswith(current)]


@dataclass
class _Place:
    """Where a command line has come to: a command, the arguments given, an option that still wants its value."""

    command: Any
    context: Any
    path: tuple[str, ...]
    arguments: int = 0
    wants_value: str | None = None


def _walk(root: Any, words: Iterable[str]) -> _Place | None:
    """Where these words lead; None when one of them is no command."""
    from cvx.cli.commands.help import typer_context

    at = _Place(root, typer_context(root, "cvx", None), ())
    for word in words:
        if at.wants_value is not None:
            at.wants_value = None
        elif word.startswith("-"):
            if "=" not in word and _takes_value(at, word):
                at.wants_value = word
        elif hasattr(at.command, "list_commands"):
            known = word in at.command.list_commands(at.context)
            child = at.command.get_command(at.context, word) if known else None
            if child is None:
                return None
            at = _Place(child, typer_context(child, word, at.context), (*at.path, word))
        else:
            at.arguments += 1
    return at


def _takes_value(at: _Place, option: str) -> bool:
    for param in at.command.get_params(at.context):
        if option in (*param.opts, *param.secondary_opts):
            return not (getattr(param, "is_flag", False) or getattr(param, "count", False))
    return False


def _options(at: _Place) -> list[Candidate]:
    found = []
    for param in at.command.get_params(at.context):
        if param.param_type_name == "option" and not getattr(param, "hidden", False):
            names = [name for name in (*param.opts, *param.secondary_opts) if name.startswith("--")]
            found += [Candidate(name, _one_line(param.help)) for name in names]
    return found


def _commands(at: _Place) -> list[Candidate]:
    children = [
        (name, at.command.get_command(at.context, name)) for name in at.command.list_commands(at.context)
    ]
    return [
        Candidate(name, _one_line(child.help))
        for name, child in children
        if child is not None and not child.hidden
    ]


def _arguments(at: _Place, root: Any, names: Names, current: str) -> list[Candidate]:
    path = " ".join(at.path)
    kind = _ARGUMENT_VALUES.get(path)
    if kind == "commands":
        from cvx.cli.commands.help import typer_context

        return _commands(_Place(root, typer_context(root, "cvx", None), ()))
    if at.arguments > 0 and path not in _REPEATED:
        kind = None
    return _values(kind, names, current)


def _values(kind: Sequence[str] | str | None, names: Names, current: str) -> list[Candidate]:
    if kind is None:
        return [Candidate(path) for path in _paths(current)]
    if not isinstance(kind, str):
        return [Candidate(word) for word in kind]
    lookup: Callable[[], list[str]] = getattr(names, kind)
    try:
        return [Candidate(word) for word in lookup()]
    except (CvxError, OSError, asyncio.TimeoutError):
        return []


def _paths(current: str) -> list[str]:
    """Files and folders that begin as typed, folders with their slash."""
    folder, _, prefix = current.rpartition("/")
    base = Path(folder or ("/" if current.startswith("/") else "."))
    lead = f"{folder}/" if "/" in current else ""
    try:
        entries = sorted(base.iterdir())
    except OSError:
        return []
    shown = [e for e in entries if e.name.startswith(prefix) and (prefix or not e.name.startswith("."))]
    return [f"{lead}{entry.name}{'/' if entry.is_dir() else ''}" for entry in shown]


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split())


_BASH = r"""# bash completion for cvx. Made by `cvx completion show bash`; do not edit.
_cvx() {
  local line="${COMP_LINE:0:COMP_POINT}" value rest drop="" current
  local -a words
  read -ra words <<<"$line"
  case "$line" in *[[:space:]]) words+=("") ;; esac
  current="${words[${#words[@]}-1]}"
  # bash takes a colon or an equals sign for a word's end, if it is among the breaks: then it wants only what follows.
  case "$COMP_WORDBREAKS" in *:*) case "$current" in *:*) drop="${current%"${current##*:}"}" ;; esac ;; esac
  case "$COMP_WORDBREAKS" in *=*) case "$current" in --*=*) drop="${current%%=*}=" ;; esac ;; esac
  COMPREPLY=()
  while IFS=$'\t' read -r value rest; do
    case "$value" in */) compopt -o nospace 2>/dev/null ;; esac
    COMPREPLY+=("${value#"$drop"}")
  done < <("${words[0]}" completion words -- "${words[@]:1}" 2>/dev/null)
}
complete -F _cvx cvx
"""

_ZSH = r"""#compdef cvx
# zsh completion for cvx. Made by `cvx completion show zsh`; do not edit.
_cvx() {
  local -a lines found
  local line tab=$'\t'
  lines=("${(@f)$(${words[1]} completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  for line in $lines; do
    found+=("${${line%%$tab*}//:/\\:}:${line#*$tab}")
  done
  (( $#found )) && _describe 'cvx' found
}
if [ "$funcstack[1]" = "_cvx" ]; then _cvx "$@"; else compdef _cvx cvx; fi
"""

_FISH = r"""# fish completion for cvx. Made by `cvx completion show fish`; do not edit.
function __cvx_words
    set -l words (commandline -opc) (commandline -ct)
    $words[1] completion words -- $words[2..-1] 2>/dev/null
end
complete -c cvx -f -a '(__cvx_words)'
"""

_POWERSHELL = r"""# PowerShell completion for cvx. Made by `cvx completion show powershell`; do not edit.
Register-ArgumentCompleter -Native -CommandName cvx -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements | Select-Object -Skip 1 | ForEach-Object { $_.ToString() })
    # An empty word would be lost on its way to a program, so it is said in another way.
    $open = if ($wordToComplete -eq '') { @('--open') } else { @() }
    & cvx completion words @open -- @words 2>$null | ForEach-Object {
        $value, $help = $_ -split "`t", 2
        if (-not $help) { $help = $value }
        [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $help)
    }
}
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH, "powershell": _POWERSHELL}
FILE_NAMES = {"bash": "cvx.bash", "zsh": "_cvx", "fish": "cvx.fish", "powershell": "cvx.ps1"}
"""The files of `completions/`, which packagers install."""


def script_for(shell: str) -> str:
    """The script that teaches `shell` (one of SHELLS) to ask `cvx completion words`."""
    return _SCRIPTS[shell]
