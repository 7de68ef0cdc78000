"""What cvx imports is what it asks to be installed: a package that only happens to be there is missing elsewhere."""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def imported() -> set[str]:
    """The top-level names of everything imported below cvx/, wherever it is imported."""
    found: set[str] = set()
    for path in (ROOT / "cvx").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"cvx", "__future__"}


def declared() -> set[str]:
    """Names of the distributions under `dependencies` in pyproject.toml, normalised."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    listed = text[text.index("\ndependencies = [") : text.index("[project.optional-dependencies]")]
    return {
        name.lower().replace("_", "-") for name in re.findall(r'^\s+"([A-Za-z0-9_.-]+)', listed, re.MULTILINE)
    }


def test_every_import_is_declared() -> None:
    distributions = packages_distributions()
    missing = {
        name
        for name in imported()
        if not {d.lower().replace("_", "-") for d in distributions.get(name, [name])} & declared()
    }
    assert missing == set()
