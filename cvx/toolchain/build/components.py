"""Component definitions: which `convex.config` files the app mounts, and how they refer to each other.

Source: reference/cli-and-deploy.md §7.1. A definition's name (`definition_path`) is the POSIX path of its
folder relative to the app's functions folder; the app's own is "".
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from cvx.toolchain.build.entry_points import EntryPoints, find_entry_points
from cvx.toolchain.build.esbuild import Bundler
from cvx.toolchain.progress import failed
from cvx.toolchain.project import Project

_CONFIG_TAIL = re.compile(r"/convex\.config.*\Z")


@dataclass(frozen=True)
class ComponentDirectory:
    """A folder that defines a component (or the app, whose definition file may be missing).

    `import_specifier` is how the source names its package or folder; None for the app.
    """

    folder: Path
    definition_path: str
    definition: Path
    dependencies: tuple[str, ...] = ()
    import_specifier: str | None = None
    virtual: bool = False

    @property
    def is_app(self) -> bool:
        return self.definition_path == ""

    @property
    def is_published(self) -> bool:
        """Whether it comes compiled, from a package that brings its own generated files."""
        return self.definition.suffix == ".js" and not self.is_app


@dataclass(frozen=True)
class ComponentGraph:
    """The app and its components in the order they were found, with the entry points of each.

    `entry_points` is keyed by definition path, the app's under "".
    """

    project: Project
    app: ComponentDirectory
    components: tuple[ComponentDirectory, ...] = ()
    entry_points: dict[str, EntryPoints] = field(default_factory=dict)
    inputs: tuple[Path, ...] = ()

    def directories(self) -> tuple[ComponentDirectory, ...]:
        """All of them, the app first."""
        return (self.app, *self.components)

    def source_files(self) -> frozenset[Path]:
        """Every file that is a module, a schema or a configuration of one of them."""
        files: set[Path] = set(self.inputs)
        for entries in self.entry_points.values():
            files |= {entry.file for entry in entries.entries}
            files |= {f for f in (entries.schema, entries.auth_config, entries.definition) if f}
        return frozenset(files)


def find_components(project: Project, bundler: Bundler) -> ComponentGraph:
    """The app, and every component reachable from its definition.

    Without a convex.config file there is nothing to follow and the bundler is not used. Raises CvxError
    `InvalidEntryPoints`, `BundleFailed`, or what `Bundler.start` raises.
    """
    folder = project.functions_dir
    entries = find_entry_points(project.root, folder)
    if entries.definition is None:
        virtual = ComponentDirectory(folder, "", folder / "convex.config.ts", virtual=True)
        return ComponentGraph(project, virtual, (), {"": entries})
    found = bundler.discover(project, entries.definition)
    if found.errors:
        files = (entries.definition, *project.config_files())
        raise failed("BundleFailed", found.errors, what="Cannot bundle:", watched_files=files)
    specifiers: dict[str, str] = {}
    for definition in found.definitions:
        for dependency in definition.dependencies:
            if dependency.specifier:
                specifiers.setdefault(dependency.file, _CONFIG_TAIL.sub("", dependency.specifier))
    directories = [
        ComponentDirectory(
            Path(definition.file).parent,
            _definition_path(folder, definition.file),
            Path(definition.file),
            tuple(_definition_path(folder, d.file) for d in definition.dependencies),
            specifiers.get(definition.file),
        )
        for definition in found.definitions
    ]
    root = next((d for d in directories if d.is_app), None)
    assert root is not None, "discovery began at the app's definition"
    components = tuple(d for d in directories if not d.is_app)
    members = {d.definition_path: _members(project, d) for d in components}
    return ComponentGraph(project, root, components, {"": entries, **members}, found.inputs)


def _members(project: Project, directory: ComponentDirectory) -> EntryPoints:
    return find_entry_points(project.root, directory.folder, is_app=False)


def _definition_path(functions_dir: Path, definition: str) -> str:
    relative = os.path.relpath(Path(definition).parent, functions_dir)
    return "" if relative == "." else PurePath(relative).as_posix()
