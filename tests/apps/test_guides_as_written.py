"""Whoever copies a guide's blocks into the files that they name, and nothing else, has functions that type-check."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.apps.guides import GUIDES
from tests.cli.command_line import cvx
from tests.node_env import BLANK_PACKAGES, npm_project

pytestmark = [pytest.mark.deno, pytest.mark.node, pytest.mark.long]

_NAMED_BLOCK = re.compile(r"^```ts\n// (\S+\.ts)\n(.*?)^```$|^```ts\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What a page tells to install; the other pages need nothing.
PACKAGES = {
    "convex-auth": {"@convex-dev/auth": "0.0.95", "@auth/core": "0.41.3"},
    "http-actions": {"stripe": "19.1.0"},
    "node-actions": {"stripe": "19.1.0", "pngjs": "7.0.0", "@types/pngjs": "6.0.5"},
}
PAGES = (
    "actions",
    "auth",
    "convex-auth",
    "environment",
    "file-storage",
    "functions",
    "http-actions",
    "logs",
    "node-actions",
    "ownership",
    "pagination",
    "presence",
    "scheduling",
    "search",
)


@pytest.mark.parametrize("page", PAGES)
def test_page(page: str, tmp_path: Path) -> None:
    packages = npm_project("blank", {**BLANK_PACKAGES, **PACKAGES.get(page, {})})
    app = tmp_path / "app"
    app.mkdir()
    (app / "node_modules").symlink_to(packages / "node_modules")
    assert cvx("init", "--template", "blank", "--no-install", cwd=app).code == 0
    for name in ("notes.ts", "schema.ts"):
        (app / "convex" / name).unlink()
    name = ""
    for named, text, more in _NAMED_BLOCK.findall((GUIDES / f"{page}.md").read_text()):
        name = named or name  # A block without a name goes on with the file before it.
        with (app / name).open("a") as file:
            file.write((text or more) + "\n")
    assert name, f"{page}.md names no file"
    generated = cvx("codegen", cwd=app)
    assert generated.code == 0, generated.err
    checked = cvx("typecheck", cwd=app)
    assert checked.code == 0, checked.err
