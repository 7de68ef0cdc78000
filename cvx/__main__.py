"""`python -m cvx` and the `cvx` command.

The version is answered before anything else is imported: scripts ask for it often (cli-contract item 1).
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line and end the process with its exit code."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from cvx import __version__

        sys.stdout.write(f"cvx {__version__}\n")
        return
    shown = _show_a_sign(sys.argv[1:])
    from cvx.cli import run

    sys.exit(run(sys.argv[1:], sign_shown=shown))


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
