"""One-off jobs on a whole project: set it up, push it once, generate its types.

Set-up order: files from a template (or what an app is missing), npm packages, the local deployment's ports and
`.env.local`, generated types. Nothing that exists is overwritten, so a second run changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cvx.toolchain.build import (
    Bundler,
    CodegenResult,
    bundle_project,
    evaluate_definitions,
    find_components,
    generate,
    init_functions_dir,
    write_stubs,
)
from cvx.toolchain.client import DeploymentClient, DroppedIndex, Pusher
from cvx.toolchain.dev.local_backend import prepare_deployment
from cvx.toolchain.dev.loop import TypecheckMode, checked_types
from cvx.toolchain.dev.pipeline import Pipeline, Pushed
from cvx.toolchain.progress import Notice, Reporter
from cvx.toolchain.project import (
    DEFAULT_NAME,
    DeploymentFlags,
    Project,
    ScaffoldReport,
    add_to_app,
    copy_template,
    find_template,
    install_packages,
    load_project,
    local_state,
    packages_in_place,
    select_deployment,
    write_urls,
)


@dataclass(frozen=True)
class SetUp:
    """What `set_up_project` did."""

    project: Project
    report: ScaffoldReport
    installed_with: str | None
    variables: tuple[str, ...]
    generated: tuple[str, ...]
    url: str

    @property
    def is_noop(self) -> bool:
        return self.report.is_noop and not (self.installed_with or self.variables or self.generated)


def set_up_project(folder: Path, template: str | None, reporter: Reporter, *, install: bool) -> SetUp:
    """Make `folder` a project that `cvx dev` can run. Raises `TemplateNotFound`, `InstallFailed`, …"""
    report = copy_template(find_template(template), folder) if template else add_to_app(folder)
    project = load_project(folder)
    made = init_functions_dir(project)
    report += ScaffoldReport(tuple(made.written), tuple(made.unchanged))
    installed = None
    if install and not packages_in_place(project):
        installed = install_packages(project, reporter).name
    elif not install and not packages_in_place(project):
        reporter.report(Notice("npm packages are missing; `cvx init` without --no-install installs them."))
    url, site_url = _urls(project, reporter)
    change = write_urls(project, url, site_url)
    for warning in change.warnings:
        reporter.report(Notice(warning, "warning"))
    generated: tuple[str, ...] = ()
    if packages_in_place(project) or not (project.functions_dir / "convex.config.ts").exists():
        types = generate_types(project, reporter)
        generated = (*types.written, *types.removed)
    return SetUp(project, report, installed, change.changed, generated, url)


def _urls(project: Project, reporter: Reporter) -> tuple[str, str | None]:
    """Addresses of the deployment that variables or files choose already, else of the local one."""
    selection = select_deployment(project, DeploymentFlags(), os.environ)
    if selection.deployment is not None and not selection.is_local:
        return selection.deployment.url, selection.deployment.site_url
    name = selection.name if selection.is_local else DEFAULT_NAME
    config = prepare_deployment(project, local_state(project, name), reporter)
    return config.url, config.site_url


def generate_types(
    project: Project, reporter: Reporter, *, dry_run: bool = False, init: bool = False
) -> CodegenResult:
    """Bring `_generated/` up to date without a deployment (and, without components, without a bundler)."""
    if init or not project.functions_dir.is_dir():
        init_functions_dir(project)
    with Bundler() as bundler:
        graph = find_components(project, bundler)
        if graph.app.virtual:
            return generate(graph, dry_run=dry_run)
        stubs = CodegenResult() if dry_run else write_stubs(graph)
        analysis = evaluate_definitions(bundle_project(graph, bundler), bundler)
        result = generate(graph, analysis, dry_run=dry_run)
    return CodegenResult(
        tuple(dict.fromkeys((*stubs.written, *result.written))), result.removed, result.unchanged
    )


async def push_once(
    project: Project,
    client: DeploymentClient,
    reporter: Reporter,
    *,
    dry_run: bool = False,
    message: str | None = None,
    typecheck: TypecheckMode = "disable",
    codegen: bool = True,
    before_start: Callable[[list[DroppedIndex]], None] | None = None,
) -> Pushed:
    """Build and push; type errors (as `typecheck` demands) stop it before anything is activated."""
    with Bundler() as bundler:
        pipeline = Pipeline(project.root, bundler, reporter, codegen=codegen)
        build = await pipeline.build()

        def check() -> None:
            if typecheck != "disable":
                checked_types(build.project, typecheck)

        return await pipeline.push(
            build,
            Pusher(client),
            dry_run=dry_run,
            message=message,
            before_start=before_start,
            before_finish=check,
        )
