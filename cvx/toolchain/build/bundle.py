"""Project → Bundle: everything a push carries, and the files it was made from.

Order of work (reference/cli-and-deploy.md §2.1): entry points, component graph, then all esbuild runs beside
each other. Order of modules: isolate entries and their chunks, node entries and their chunks, auth.config.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath

from cvx.toolchain.build.components import ComponentDirectory, ComponentGraph
from cvx.toolchain.build.entry_points import EntryPoints
from cvx.toolchain.build.esbuild import Built, Bundler, Module, Target
from cvx.toolchain.build.external_packages import NodeDependency, external_packages, node_dependencies
from cvx.toolchain.progress import Diagnostic, failed
from cvx.toolchain.project import GENERATED_DIR, Project

_RESOLVE_ERROR = "Could not resolve"


@dataclass(frozen=True)
class ComponentBundle:
    """One definition and its implementation. The app's `directory.definition_path` is ""."""

    directory: ComponentDirectory
    definition: Module
    schema: Module | None
    functions: tuple[Module, ...]

    @property
    def definition_path(self) -> str:
        return self.directory.definition_path

    @property
    def dependencies(self) -> tuple[str, ...]:
        """Definition paths of the components it mounts, in source order."""
        return self.directory.dependencies


@dataclass(frozen=True)
class Bundle:
    """All code of one push. `watched_files` are the files whose change makes it stale."""

    project: Project
    app: ComponentBundle
    components: tuple[ComponentBundle, ...]
    graph: ComponentGraph
    node_dependencies: tuple[NodeDependency, ...]
    watched_files: frozenset[Path]
    warnings: tuple[Diagnostic, ...] = ()

    @property
    def functions(self) -> str:
        """The functions folder as `convex.json` names it."""
        return self.project.config.functions

    @property
    def node_version(self) -> str | None:
        return self.project.config.node_version

    def digest(self) -> str:
        """A hash of everything that is pushed: equal digests mean that nothing would change."""
        state = hashlib.sha256(f"{self.functions}\0{self.node_version}".encode())
        for part in (self.app, *self.components):
            state.update(f"\0{part.definition_path}\0{part.dependencies}\0".encode())
            for module in (part.definition, part.schema, *part.functions):
                if module is not None:
                    state.update(f"{module.path}\0{module.environment}\0{module.sha256}\0".encode())
        for dependency in self.node_dependencies:
            state.update(f"{dependency.name}@{dependency.version}\0".encode())
        return state.hexdigest()


def bundle_project(graph: ComponentGraph, bundler: Bundler) -> Bundle:
    """Bundle the app and its components, as `find_components` found them.

    Write the initial generated files first (`codegen.write_stubs`): user code imports them. Raises CvxError
    `BundleFailed` with diagnostics and `watched_files` in it, or what `Bundler.start` raises.
    """
    project = graph.project
    externals = external_packages(project)
    targets = [
        *(t for path, entries in graph.entry_points.items() for t in _targets(project, path, entries)),
        *_app_targets(project, graph.entry_points[""], tuple(externals)),
        _definition_target(project, graph),
    ]
    built = bundler.build(project, targets)
    _raise_errors(graph, built)
    definitions = {m.path: m for m in built["definitions"].modules}
    return Bundle(
        project,
        _component(graph.app, built, definitions),
        tuple(_component(d, built, definitions) for d in graph.components),
        graph,
        node_dependencies(externals, built["node:"].externals if "node:" in built else ()),
        frozenset((*_inputs(built.values()), *graph.source_files(), *project.config_files())),
        (
            *project.config.warnings,
            *(w for entries in graph.entry_points.values() for w in entries.warnings),
            # What lies outside the functions' folder is seen, and complained about, once for each target.
            *dict.fromkeys(w for b in built.values() for w in b.warnings),
        ),
    )


def _app_targets(project: Project, app: EntryPoints, externals: tuple[str, ...]) -> list[Target]:
    targets = []
    node = app.files("node")
    if node:
        targets.append(
            _target(
                project, "node:", app.folder, node, platform="node", chunks="_deps/node", externals=externals
            )
        )
    if app.auth_config:
        targets.append(_target(project, "auth:", app.folder, (app.auth_config,), splitting=False))
    return targets


def _targets(project: Project, path: str, entries: EntryPoints) -> list[Target]:
    """The runs that every component has: its isolate modules, and its schema alone."""
    targets = []
    isolate = entries.files("isolate")
    if isolate:
        lone = _beside_a_lone_module(entries.folder) if path == "" and len(isolate) == 1 else ()
        targets.append(_target(project, f"isolate:{path}", entries.folder, (*isolate, *lone)))
    if entries.schema:
        targets.append(_target(project, f"schema:{path}", entries.folder, (entries.schema,)))
    return targets


def _beside_a_lone_module(folder: Path) -> tuple[Path, ...]:
    """The generated server module, bundled beside an app's only module so that esbuild puts the npm package into a
    chunk of its own, as it does for any app with two modules: a backend can then share that chunk between calls
    instead of evaluating the package anew for each. It is not pushed itself."""
    return tuple(
        path for path in (folder / GENERATED_DIR / f"server.{end}" for end in ("ts", "js")) if path.exists()
    )[:1]


def _target(project: Project, key: str, folder: Path, files: Iterable[Path], **options: object) -> Target:
    return Target(
        key,
        "functions",
        str(folder),
        tuple(str(file) for file in files),
        sources_content=project.config.include_sources_content,
        **options,  # type: ignore[arg-type]
    )


def _definition_target(project: Project, graph: ComponentGraph) -> Target:
    entries = tuple(
        f"./{PurePath(os.path.relpath(d.definition, project.root)).as_posix()}" for d in graph.directories()
    )
    folder = str(project.functions_dir)
    return Target("definitions", "definitions", folder, entries, virtual=graph.app.virtual)


def _component(
    directory: ComponentDirectory, built: dict[str, Built], definitions: dict[str, Module]
) -> ComponentBundle:
    path = directory.definition_path
    output = directory.definition.with_suffix(".js")
    module = definitions[PurePath(os.path.relpath(output, output.anchor)).as_posix()]
    definition = Module("convex.config.js", module.source, module.source_map, "isolate", module.sha256)
    keys = (f"isolate:{path}", "node:", "auth:") if directory.is_app else (f"isolate:{path}",)
    functions = tuple(
        m
        for key in keys
        if key in built
        for m in _entries_first(built[key].modules)
        if not m.path.startswith(f"{GENERATED_DIR}/")
    )
    schema = built.get(f"schema:{path}", Built()).modules
    return ComponentBundle(
        directory, definition, next((m for m in schema if m.path == "schema.js"), None), functions
    )


def _entries_first(modules: tuple[Module, ...]) -> list[Module]:
    return sorted(modules, key=lambda m: m.path.startswith("_deps/"))


def _inputs(built: Iterable[Built]) -> list[Path]:
    """What was read, without generated files: we write those ourselves."""
    return [path for b in built for path in b.inputs if path.parent.name != GENERATED_DIR]


def _raise_errors(graph: ComponentGraph, built: dict[str, Built]) -> None:
    """Raise every target's complaints as one error, each once: a shared helper fails in several runs."""
    errors = list(dict.fromkeys(e for b in built.values() for e in b.errors))
    if not errors:
        return
    project = graph.project
    watched = {*_inputs(built.values()), *graph.source_files(), *project.config_files()}
    watched |= {project.root / e.file for e in errors if e.file}
    if any(e.text.startswith(_RESOLVE_ERROR) for e in errors):
        watched.add(project.root / "node_modules")
    raise failed("BundleFailed", errors, what="Cannot bundle:", watched_files=watched)
