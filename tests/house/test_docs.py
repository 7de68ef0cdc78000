"""The documents tell the truth about what is there: paths they name exist, commands they should name are named."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
IN_BACKTICKS = re.compile(r"`((?:cvx|tests|docs|benchmarks|templates|scripts|completions)/[\w./-]+)`")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_in_documents_exist(document: Path) -> None:
    missing = [name for name in IN_BACKTICKS.findall(document.read_text()) if not (ROOT / name).exists()]
    assert missing == []


def test_every_command_is_in_the_readme() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "cvx", "help", "--json"], capture_output=True, text=True, check=True
    ).stdout
    names = [command["name"].removeprefix("cvx ") for command in json.loads(shown)["data"]["commands"]]
    readme = (ROOT / "README.md").read_text()
    assert names
    assert [name for name in names if not re.search(rf"`{name}\b|cvx {name}\b", readme)] == []


def test_every_decision_is_numbered_once() -> None:
    numbers = [path.name[:4] for path in sorted((ROOT / "docs" / "adr").glob("*.md"))]
    assert numbers == [f"{number:04d}" for number in range(1, len(numbers) + 1)]
