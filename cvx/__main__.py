"""`python -m cvx` and the `cvx` command.

The version is answered before anything else is imported: scripts ask for it often (cli-contract item 1).
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and end the process with its exit code."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from cvx import __version__

        sys.stdout.write(f"cvx {__version__}\n")
        return
    from cvx.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
