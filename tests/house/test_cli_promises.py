"""docs/CLI.md promises thirty things and names the tests that prove them: all thirty, and tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from cvx.cli.app import EXIT_CODES

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "CLI.md").read_text()
ROWS = re.findall(r"^\| (\d+) \| ([^|]+) \| ([^|]+) \|$", TEXT.split("## What is promised")[1], re.MULTILINE)


@cache
def names_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_there_are_thirty() -> None:
    assert [int(number) for number, _, _ in ROWS] == list(range(1, 31))


@pytest.mark.parametrize(
    ("number", "promise", "proof"), ROWS, ids=[f"{n} {what[:40]}" for n, what, _ in ROWS]
)
def test_each_is_proven(number: str, promise: str, proof: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", proof)
    assert named, f"item {number} names no test"
    assert [f"{path}::{name}" for path, name in named if name not in names_in(path)] == []


def test_the_exit_codes_are_those_of_the_program() -> None:
    shown = {int(code) for code in re.findall(r"\| (\d+) \| [a-z]", TEXT.split("## Production")[0])}
    assert shown == set(EXIT_CODES)
