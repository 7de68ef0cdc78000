"""From files to a running deployment, step by step; a step whose input did not change is skipped.

    configuration → component graph → generated stubs → bundle → push (start, schema, finish) → generated types

Type-checking is not a step: it runs beside the loop, after a push, and delays nothing (`deploy` asks for it
before the finish instead).

Rule: synchronous steps run in a thread, one build at a time; nothing here waits for files or retries.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cvx.errors import CvxError
from cvx.protocol.push import ComponentDefinition, PushedModule, SchemaInProgress
from cvx.protocol.push import NodeDependency as PushedDependency
from cvx.toolchain.build import (
    Bundle,
    Bundler,
    ComponentBundle,
    ComponentGraph,
    Module,
    bundle_project,
    find_components,
    generate,
    init_functions_dir,
    write_stubs,
)
from cvx.toolchain.client import Analysis, DroppedIndex, HashedModule, PushedCode, Pusher, PushOutcome
from cvx.toolchain.client.push import SERVER_VERSION
from cvx.toolchain.dev.build_progress import BuildProgress
from cvx.toolchain.progress import Notice, Reporter, task
from cvx.toolchain.project import Project, find_package, load_project, package_version


@dataclass(frozen=True)
class Build:
    """A bundled project, ready to be pushed. `seconds` is how long that took."""

    bundle: Bundle
    digest: str
    seconds: float

    @property
    def project(self) -> Project:
        return self.bundle.project

    @property
    def graph(self) -> ComponentGraph:
        return self.bundle.graph


@dataclass(frozen=True)
class Pushed:
    """What became of one run. `outcome` is None when there was nothing to push."""

    build: Build
    outcome: PushOutcome | None
    generated: tuple[str, ...]
    seconds: float


class Pipeline:
    """The steps, and what is remembered between two runs of them."""

    def __init__(self, root: Path, bundler: Bundler, reporter: Reporter, *, codegen: bool = True) -> None:
        self._root = root
        self._bundler = bundler
        self._reporter = reporter
        self._codegen = codegen
        self._pushed_digest: str | None = None
        self._analysis: Analysis | None = None

    def forget(self) -> None:
        """The deployment is another one now, or was changed behind our back: push everything again."""
        self._pushed_digest = None

    async def build(self) -> Build:
        """Read, discover and bundle. Raises what these steps raise, with `watched_files` in the details."""
        return await asyncio.to_thread(self._build)

    def _build(self) -> Build:
        begin = time.monotonic()
        project = load_project(self._root)
        project.require_convex()
        if not project.functions_dir.is_dir():
            init_functions_dir(project)
            made = f"{project.config.functions} did not exist; it was made, and holds no functions yet."
            self._reporter.report(Notice(made, "warning"))
        graph = find_components(project, self._bundler)
        if self._codegen:
            write_stubs(graph)
        bundle = bundle_project(graph, self._bundler)
        for warning in bundle.warnings:
            self._reporter.report(warning)
        return Build(bundle, bundle.digest(), time.monotonic() - begin)

    async def push(
        self,
        build: Build,
        pusher: Pusher,
        *,
        dry_run: bool = False,
        message: str | None = None,
        before_start: Callable[[list[DroppedIndex]], None] | None = None,
        before_finish: Callable[[], None] | None = None,
    ) -> Pushed:
        """Push a build unless the deployment has exactly it; write the generated files beside that.

        `before_start` is told which indexes would be dropped, and may stop the push by raising.
        `before_finish` runs in a thread once the types are generated and may stop the push by raising.
        """
        begin = time.monotonic()
        if build.digest == self._pushed_digest and not dry_run:
            written = await self._generate(build, self._analysis)
            return Pushed(build, None, written, time.monotonic() - begin)
        code = pushed_code(build.bundle)
        if before_start is not None:
            before_start(await pusher.dropped_indexes(code))
        generating: list[asyncio.Task[tuple[str, ...]]] = []
        progress = BuildProgress("push")

        def show(status: SchemaInProgress) -> None:
            self._reporter.report(progress.step(status))

        async def understood(analysis: Analysis) -> None:
            self._analysis = analysis
            generating.append(asyncio.create_task(self._generate(build, analysis)))
            if before_finish is not None:
                await generating[0]
                await asyncio.to_thread(before_finish)

        try:
            with task(self._reporter, "push", "Pushing functions", "Pushed functions"):
                outcome = await pusher.push(
                    code,
                    dry_run=dry_run,
                    message=message,
                    on_analysis=understood,
                    on_progress=show,
                )
        finally:
            written = tuple([name for names in await asyncio.gather(*generating) for name in names])
        if not dry_run:
            self._pushed_digest = build.digest
        return Pushed(build, outcome, written, time.monotonic() - begin)

    async def _generate(self, build: Build, analysis: Analysis | None) -> tuple[str, ...]:
        if not self._codegen:
            return ()
        return (await asyncio.to_thread(generate, build.graph, analysis)).written


def pushed_code(bundle: Bundle) -> PushedCode:
    """A bundle in the form a push carries."""
    app = bundle.app
    convex = find_package(bundle.project, "convex")
    version = (package_version(convex) if convex else "") or SERVER_VERSION
    return PushedCode(
        functions=bundle.functions,
        definition=_module(app.definition),
        modules=tuple(HashedModule(_module(module), module.sha256) for module in app.functions),
        schema=_module(app.schema) if app.schema else None,
        dependencies=app.dependencies,
        components=tuple(_component(component, version) for component in bundle.components),
        node_dependencies=tuple(
            PushedDependency(name=d.name, version=d.version) for d in bundle.node_dependencies
        ),
        node_version=bundle.node_version,
        server_version=version,
    )


def _module(module: Module) -> PushedModule:
    return PushedModule(
        path=module.path, source=module.source, environment=module.environment, source_map=module.source_map
    )


def _component(component: ComponentBundle, version: str) -> ComponentDefinition:
    return ComponentDefinition(
        definition_path=component.definition_path,
        definition=_module(component.definition),
        udf_server_version=version,
        dependencies=list(component.dependencies),
        schema=_module(component.schema) if component.schema else None,
        functions=[_module(module) for module in component.functions],
    )


def needs_packages(error: CvxError) -> bool:
    """Could installing a package cure this?"""
    return error.code in ("ConvexNotInstalled", "EsbuildNotInstalled") or "resolve" in error.message.lower()
