"""What a command is given: the terminal, the project, the chosen deployment and clients for it.

Everything is made on first use, so a command pays (imports, files, connections) only for what it asks for.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cvx.cli.output import ColorChoice, Output, TerminalReporter
from cvx.cli.prompts import Prompts
from cvx.errors import CvxError

if TYPE_CHECKING:
    from cvx.toolchain.client import DeploymentClient
    from cvx.toolchain.project import Deployment, DeploymentFlags, Project, Selection

T = TypeVar("T")


@dataclass(frozen=True)
class GlobalOptions:
    """The options every command has."""

    json_mode: bool = False
    quiet: bool = False
    verbose: bool = False
    color: str | None = None
    no_input: bool = False
    project_dir: str | None = None
    debug: bool = False

    def merged(
        self,
        *,
        json_mode: bool,
        quiet: bool,
        verbose: bool,
        color: str | None,
        no_input: bool,
        project_dir: str | None,
        debug: bool,
    ) -> GlobalOptions:
        """These (given before the command) with those given after it; the later ones win."""
        return GlobalOptions(
            self.json_mode or json_mode,
            self.quiet or quiet,
            self.verbose or verbose,
            color or self.color,
            self.no_input or no_input,
            project_dir or self.project_dir,
            self.debug or debug,
        )


@dataclass(frozen=True)
class DeploymentOptions:
    """The options that choose a deployment, as typed."""

    deployment_name: str | None = None
    prod: bool = False
    url: str | None = None
    admin_key: str | None = None
    env_file: str | None = None


class CommandContext:
    """Made once for each run of a command."""

    def __init__(self, options: GlobalOptions, chosen: DeploymentOptions) -> None:
        self.options = options
        self.chosen = chosen
        self.output = Output(
            json_mode=options.json_mode,
            quiet=options.quiet,
            verbose=options.verbose,
            color=_color(options.color),
        )
        self.prompts = Prompts(
            allowed=not (options.no_input or options.json_mode), before=self.output.clear_status
        )
        self.reporter = TerminalReporter(self.output)

    # ---- the project -----------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """Where to look for the project: `--project`, else the current folder."""
        return Path(self.options.project_dir or ".")

    @cached_property
    def project(self) -> Project:
        """The project around `folder`. Raises `ProjectNotFound` and what broken files raise."""
        from cvx.toolchain.project import find_project

        return find_project(self.folder)

    def project_or_bare(self) -> Project:
        """The project, or an empty picture of the folder: a deployment may be chosen without a project."""
        from cvx.toolchain.project import Project, ProjectConfig

        try:
            return self.project
        except CvxError as error:
            if error.code != "ProjectNotFound" or not self.folder.is_dir():
                raise
            return Project(self.folder.resolve(), ProjectConfig(), None)

    # ---- the deployment --------------------------------------------------------------------------

    @property
    def flags(self) -> DeploymentFlags:
        """The selection options in the toolchain's form."""
        from cvx.toolchain.project import DeploymentFlags

        chosen = self.chosen
        env_file = Path(chosen.env_file) if chosen.env_file else None
        return DeploymentFlags(chosen.deployment_name, chosen.prod, chosen.url, chosen.admin_key, env_file)

    @cached_property
    def selection(self) -> Selection:
        """The deployment that flags, environment and files choose."""
        from cvx.toolchain.project import select_deployment

        return select_deployment(self.project_or_bare(), self.flags, os.environ)

    @property
    def is_beside(self) -> bool:
        """Do --deployment or --prod choose another deployment than the one commands use unasked?"""
        from cvx.toolchain.project import DeploymentFlags, select_deployment

        if self.chosen.deployment_name is None and not self.chosen.prod:
            return False
        try:
            unasked = select_deployment(self.project_or_bare(), DeploymentFlags(), os.environ)
        except CvxError:  # What would be chosen is broken: then this is not that.
            return True
        return unasked.name != self.selection.name

    def agree_on_production(self, question: str, *, risk: str, yes: str | None, outcome: str) -> None:
        """On production the deployment's name is typed, or the risk named (`--yes=RISK`); elsewhere nothing is asked.

        Raises `NotConfirmed` (saying `outcome`), `InputNeeded`.
        """
        if self.selection.kind != "prod" or yes == risk:
            return
        name = self.selection.name
        if not self.prompts.typed(question, expected=name, flag=f"--yes={risk}"):
            raise CvxError("NotConfirmed", outcome, hint="Type the deployment's name to confirm.")

    @asynccontextmanager
    async def deployment(self) -> AsyncIterator[Deployment]:
        """The chosen deployment, reachable. A local one that does not run is started for as long as needed."""
        selection = self.selection
        if not selection.is_local:
            yield selection.require()
            return
        from cvx.toolchain.dev import running_backend

        self.project  # noqa: B018  Outside a project there is no local deployment: say that first.
        async with running_backend(self.project, selection.name, self.reporter, create=False) as deployment:
            yield deployment

    @asynccontextmanager
    async def client(self) -> AsyncIterator[DeploymentClient]:
        """A client of the chosen deployment."""
        from cvx.toolchain.client import DeploymentClient

        async with self.deployment() as deployment, DeploymentClient(deployment) as client:
            yield client

    def with_client(self, body: Callable[[DeploymentClient], Awaitable[T]]) -> T:
        """Run `body` with a client, from synchronous code."""

        import asyncio

        async def go() -> T:
            async with self.client() as client:
                return await body(client)

        return asyncio.run(go())


def _color(text: str | None) -> ColorChoice:
    if text in (None, "auto"):
        return "auto"
    if text == "always":
        return "always"
    if text == "never":
        return "never"
    raise CvxError(
        "UsageError", f"--color takes auto, always or never, not {text!r}.", hint="Use --color auto."
    )
