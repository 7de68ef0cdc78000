"""Tiny apps on disk with real npm packages, for the toolchain's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cvx.toolchain.build import Bundle, Bundler, bundle_project, find_components, write_stubs
from cvx.toolchain.project import Project, load_project
from tests.node_env import npm_project

PACKAGES = {
    "convex": "1.48.0",
    "typescript": "5.9.3",
    "@convex-dev/rate-limiter": "0.4.0",
    "ms": "2.1.3",
}

MESSAGES = """\
import { v } from "convex/values";
import { mutation, query } from "./_generated/server";

export const list = query({
  args: { author: v.string() },
  handler: async (ctx, { author }) =>
    await ctx.db.query("messages").withIndex("by_author", (q) => q.eq("author", author)).collect(),
});

export const send = mutation({
  args: { author: v.string(), body: v.string() },
  handler: async (ctx, args) => await ctx.db.insert("messages", args),
});
"""

SCHEMA = """\
import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  messages: defineTable({ author: v.string(), body: v.string() }).index("by_author", ["author"]),
});
"""


@dataclass
class App:
    """A project in a folder of the test's own; its packages are a link to the shared ones."""

    root: Path
    bundler: Bundler

    @property
    def project(self) -> Project:
        return load_project(self.root)

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def read(self, name: str) -> str:
        return (self.root / name).read_text()

    def bundle(self) -> Bundle:
        graph = find_components(self.project, self.bundler)
        write_stubs(graph)
        return bundle_project(graph, self.bundler)


@pytest.fixture
def make_app(tmp_path: Path) -> Iterator[Callable[[dict[str, str]], App]]:
    made: list[App] = []

    def make(files: dict[str, str], packages: dict[str, str] = PACKAGES) -> App:
        root = (tmp_path / f"app{len(made)}").resolve()
        root.mkdir()
        (root / "node_modules").symlink_to(npm_project("toolchain", packages) / "node_modules")
        app = App(root, Bundler())
        made.append(app)
        names = ", ".join(f'"{name}": "{version}"' for name, version in packages.items())
        app.write(
            {"package.json": f'{{"name": "app", "type": "module", "dependencies": {{{names}}}}}\n', **files}
        )
        return app

    yield make
    for app in made:
        app.bundler.close()


@pytest.fixture
def chat(make_app: Callable[[dict[str, str]], App]) -> App:
    """An app with one module and a schema."""
    return make_app({"convex/messages.ts": MESSAGES, "convex/schema.ts": SCHEMA})
