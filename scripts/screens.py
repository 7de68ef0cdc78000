"""Pictures of the main commands for the README: real runs on a real project, drawn as SVG by Rich.

`scripts/screens.py` writes docs/screens/*.svg. Each command runs on a pseudo-terminal of 92 columns, so that what it
prints is what a person sees; the scaffolded project lies in a temporary folder that is gone afterwards.
"""

from __future__ import annotations

import io
import os
import pty
import re
import select
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
SCREENS = ROOT / "docs" / "screens"
COLUMNS = 92
CVX = [sys.executable, "-m", "cvx"]
BROKEN = 'export const oops: number = "not a number";\n'
CRONS = """\
import { cronJobs } from "convex/server";
import { internal } from "./_generated/api";

const crons = cronJobs();
crons.daily("tidy the channel", { hourUTC: 3, minuteUTC: 30 }, internal.tidy.run);
export default crons;
"""
TIDY = """\
import { internalMutation } from "./_generated/server";

export const run = internalMutation({ args: {}, handler: async () => null });
"""


def on_terminal(words: list[str], cwd: Path) -> str:
    """What a command writes to a terminal, status lines that were replaced left out."""
    parent, child = pty.openpty()
    env = {name: value for name, value in os.environ.items() if "CONVEX" not in name}
    env |= {"COLUMNS": str(COLUMNS), "LINES": "40", "TERM": "xterm-256color", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen([*CVX, *words], cwd=cwd, env=env, stdin=child, stdout=child, stderr=child)
    os.close(child)
    seen = bytearray()
    while True:
        if select.select([parent], [], [], 0.2)[0]:
            try:
                data = os.read(parent, 65536)
            except OSError:  # The other end is closed: all has been read.
                break
            if not data:
                break
            seen += data
        elif process.poll() is not None:
            break
    process.wait()
    os.close(parent)
    text = seen.decode(errors="replace").replace("\r\n", "\n")
    text = re.sub(r"[^\n]*\r\x1b\[2K", "", text)
    return text.replace(str(cwd), "~/chat").rstrip("\n")


def draw(name: str, steps: list[tuple[str, str]]) -> None:
    """One picture: each command after a prompt, then its output."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for command, output in steps:
        console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        console.print(Text.from_ansi(output))
    console.print()  # Rich's frame ends a little above the last line's descenders.
    SCREENS.mkdir(parents=True, exist_ok=True)
    svg = console.export_svg(title="cvx", unique_id=f"cvx-{name}")
    (SCREENS / f"{name}.svg").write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")


def main() -> None:
    """Set a project up, and take the pictures on the way."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "chat"

        def run(command: str, cwd: Path = project) -> tuple[str, str]:
            return command, on_terminal(shlex.split(command)[1:], cwd)

        draw("help", [run("cvx", Path(folder))])
        init = run("cvx init chat --template chat-vite", Path(folder))
        draw("start", [init, run("cvx dev --once"), run("cvx doctor")])
        message = '{"channel": "general", "author": "Ada", "body": "Hello"}'
        sent = run(f"cvx run messages:send '{message}'")
        draw(
            "data",
            [sent, run("cvx data list"), run("cvx data show messages"), run("cvx env set GREETING=hi")],
        )
        (project / "convex" / "crons.ts").write_text(CRONS)
        (project / "convex" / "tidy.ts").write_text(TIDY)
        schema = project / "convex" / "schema.ts"
        schema.write_text(
            schema.read_text().replace(
                '.index("by_key"', '.index("by_author", ["author"])\n    .index("by_key"'
            )
        )
        draw("deploy", [run("cvx deploy --dry-run"), run("cvx deploy"), run("cvx crons list")])
        (project / "convex" / "oops.ts").write_text(BROKEN)
        draw("errors", [run("cvx typecheck"), run("cvx run messages:sned"), run("cvx dpeloy")])
        subprocess.run([*CVX, "backend", "stop"], cwd=project, capture_output=True, check=False)
    print(
        f"Wrote {', '.join(sorted(path.name for path in SCREENS.glob('*.svg')))} to {SCREENS.relative_to(ROOT)}."
    )


if __name__ == "__main__":
    main()
