"""Golden scripts: what happens, line by line, and what comes of it.

A script is a text file of stimuli, each followed by the lines that it must produce. Which lines are stimuli
is the suite's choice of prefixes; lines that begin with `#` and empty lines stay where they are. Replaying
renders the whole file anew, so a difference shows in its place, and `pytest --update` accepts what was
rendered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Step:
    """Stimuli that happen together, the comments above them, and what they must produce."""

    comments: list[str] = field(default_factory=list)
    stimuli: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)


def parse(text: str, *, together: str, alone: str) -> list[Step]:
    """The steps of a script. Stimuli begin with `together` (consecutive ones are one step) or `alone`."""
    steps = [Step()]
    for line in text.splitlines():
        step = steps[-1]
        if not line.strip() or line.startswith("#"):
            if step.stimuli:
                step = Step()
                steps.append(step)
            step.comments.append(line)
        elif line.startswith((together, alone)):
            if step.expected or (
                step.stimuli and any(each.startswith(alone) for each in (line, step.stimuli[-1]))
            ):
                step = Step()
                steps.append(step)
            step.stimuli.append(line)
        else:
            step.expected.append(line)
    return steps


def check(
    path: Path, play: Callable[[Sequence[str]], Iterable[str]], *, together: str, alone: str, update: bool
) -> None:
    """Replay the script in `path`, `play` being given the stimuli of one step and answering with its lines."""
    text = path.read_text()
    lines: list[str] = []
    for step in parse(text, together=together, alone=alone):
        lines += step.comments
        if step.stimuli:
            lines += step.stimuli
            lines += play(step.stimuli)
    rendered = "\n".join(lines).rstrip() + "\n"
    if update and rendered != text:
        path.write_text(rendered)
        return
    assert rendered == text, f"{path.name} plays differently; if that is right: pytest --update"
