"""`python -m cvx` and the `cvx` command.

The version and the root's help are answered before anything else is imported (cli-contract item 1).

Rule: `cli/root_help.txt` is what `cvx help` prints on 80 columns and more; `tests/cli/test_fast_paths.py` says when it
is stale (`cvx help > cvx/cli/root_help.txt`).
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line and end the process with its exit code."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from cvx import __version__

        _print(f"cvx {__version__}\n")
        return
    if sys.argv[1:] == ["--help"] and _columns() >= _HELP_COLUMNS:
        # pathlib's import would take as long as all the rest.
        with open(__file__.rpartition("__main__")[0] + "cli/root_help.txt", encoding="utf-8") as file:  # noqa: PTH123
            _print(file.read())
        return
    shown = _show_a_sign(sys.argv[1:])
    from cvx.cli import run

    sys.exit(run(sys.argv[1:], sign_shown=shown))


_HELP_COLUMNS = 80
"""So wide `root_help.txt` is; on a narrower terminal the help is laid out anew."""


def _columns() -> int:
    """The width of the terminal, as `shutil.get_terminal_size` has it (whose import takes longer than the answer)."""
    try:
        wanted = int(os.environ.get("COLUMNS", "0"))
        return wanted if wanted > 0 else os.get_terminal_size(sys.stdout.fileno()).columns
    except (ValueError, OSError):
        return _HELP_COLUMNS


def _print(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # The reader has seen enough: keep the interpreter from complaining at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_AT_ONCE = {"help", "completion", "config", "--help", "-h"}
_SILENT = {"--json", "--quiet", "-q", "--help", "-h", "--color=never"}


def _show_a_sign(argv: list[str]) -> bool:
    """On a terminal, a status line before the imports, which take longer than people wait unasked (item 3).

    The first thing that is written afterwards replaces it.
    """
    if not argv or argv[0] in _AT_ONCE or not _SILENT.isdisjoint(argv):
        return False
    if "never" in argv or os.environ.get("TERM") == "dumb" or sys.stderr is None or not sys.stderr.isatty():
        return False
    plain = bool(os.environ.get("NO_COLOR"))
    sys.stderr.write("… Starting" if plain else "\x1b[2m… Starting\x1b[0m")
    sys.stderr.flush()
    return True


if __name__ == "__main__":
    main()
