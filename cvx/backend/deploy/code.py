"""The code of a push: which modules it is made of, what of them is here already, and putting them in force.

Source: reference/cli-and-deploy.md §2.6, §2.7, §2.9.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from cvx.backend.database import Transaction
from cvx.backend.deploy.analyze import CRONS_PATH, Analysis, check_environment, module_source
from cvx.backend.deploy.errors import push_error, race
from cvx.backend.deploy.plan import module_diff, unaffected
from cvx.backend.model import crons, deployment, modules
from cvx.backend.runner import ModuleSource
from cvx.errors import CvxError
from cvx.protocol.push import (
    AnalyzedModuleJson,
    ComponentDefinition,
    CronDiff,
    EvaluatedDefinition,
    ModuleDiff,
    ModuleHash,
    NodeDependency,
    StartPushRequest,
    StartPushResponse,
)
from cvx.values import Timestamp

# Raise it when analysis learns something: deployed modules are then looked at again by the next push.
_ANALYSIS_VERSION = 2


class CodePackage(msgspec.Struct, rename="camel", frozen=True):
    """What `start` prepared of one definition's code: opaque to the pusher, who brings it back. `schema`: its text."""

    modules: list[ModuleHash]
    functions: str
    schema: str | None = None
    node_version: str | None = None
    node_dependencies: list[NodeDependency] = []


def sources_of(request: StartPushRequest, deployed: Mapping[str, ModuleSource]) -> dict[str, ModuleSource]:
    """All modules of the app: those that came, and those that are said to be here. Raises the 409s of §2.7."""
    sources = {module.path: module_source(module) for module in request.app_definition.modules}
    for claimed in request.app_definition.unchanged_module_hashes:
        check_environment(claimed.path, claimed.environment)
        found = deployed.get(claimed.path)
        if found is None:
            raise _not_here("MissingExistingModule", f"{claimed.path} is not deployed here")
        if found.sha256 != claimed.sha256.lower():
            raise _not_here("ExistingModuleHashConflict", f"{claimed.path} is deployed with another content")
        if found.environment != claimed.environment:
            raise _not_here(
                "ExistingModuleEnvConflict",
                f"{claimed.path} is deployed for the environment {found.environment}",
            )
        sources[claimed.path] = found
    return sources


def known_analysis(
    tx: Transaction,
    sources: Mapping[str, ModuleSource],
    variables: Mapping[str, str],
    packages: Sequence[tuple[str, str]],
    component: str = "",
) -> dict[str, AnalyzedModuleJson]:
    """What modules declare that need not be looked at again: neither they, nor the environment, nor for "use node"
    modules the packages that are not pushed have changed. `component`: an instance that has them now."""
    if deployment.analysis_environment(tx) != environment_digest(variables):
        return {}
    same_packages = deployment.udf_config(tx).node_dependencies == tuple(packages)
    rows = {row.path: row for row in modules.all_modules(tx, component)}
    found = {}
    for path in unaffected({path: row.sha256 for path, row in rows.items()}, sources):
        analysis, environment = rows[path].analysis, rows[path].environment
        if environment == "node" and not same_packages:
            continue
        if analysis is not None and environment == sources[path].environment:
            found[path] = msgspec.convert(analysis, AnalyzedModuleJson)
    return found


def environment_digest(variables: Mapping[str, str]) -> str:
    """What `known_analysis` compares: the environment that modules saw when they were imported."""
    seen = {"": str(_ANALYSIS_VERSION), **variables}
    return hashlib.sha256(msgspec.json.encode(seen, order="sorted")).hexdigest()


def _not_here(code: str, why: str) -> CvxError:
    return push_error(
        code,
        f"A module that was to stay unchanged cannot: {why}.",
        kind="conflict",
        hint="Push again.",
        retry_when="time",
    )


def _text(source: ModuleSource) -> modules.ModuleText:
    return modules.ModuleText(
        source.source.decode(), None if source.source_map is None else source.source_map.decode()
    )


def component_sources(component: ComponentDefinition) -> dict[str, ModuleSource]:
    """The modules of a component, which are always sent whole."""
    return {module.path: module_source(module) for module in component.functions}


def package_of(request: StartPushRequest, analysis: Analysis, schema: str | None) -> CodePackage:
    listed = [
        ModuleHash(path=path, environment=source.environment, sha256=source.sha256)  # type: ignore[arg-type]
        for path, source in sorted(analysis.sources.items())
    ]
    return CodePackage(listed, request.functions, schema, request.node_version, request.node_dependencies)


def returned_package(push: StartPushResponse, definition: str = "") -> CodePackage:
    try:
        return msgspec.convert(push.component_definition_packages.get(definition), CodePackage)
    except msgspec.ValidationError as error:
        raise push_error(
            "InvalidPush", f"What start_push answered came back changed: {error}.", hint="Push again."
        ) from None


def store_texts(
    tx: Transaction, sources: Iterable[ModuleSource], now_ms: float, unfinished_ms_max: float
) -> None:
    """Keep the texts of a push until it finishes; forget those of pushes that never did."""
    waiting = deployment.unfinished_texts(tx)
    for sha256, since_ms in list(waiting.items()):
        if since_ms < now_ms - unfinished_ms_max:
            modules.drop_text(tx, sha256)
            del waiting[sha256]
    for source in sources:
        if source.sha256 in waiting or not modules.has_text(tx, source.sha256):
            modules.store_text(tx, _text(source))
            waiting[source.sha256] = now_ms
    deployment.set_unfinished_texts(tx, waiting)


def replace_modules(
    tx: Transaction,
    package: CodePackage,
    definition: EvaluatedDefinition,
    now: Timestamp,
    component: str = "",
    *,
    rehearsal: bool = False,
) -> tuple[ModuleDiff, CronDiff]:
    """Make the deployed modules and crons of an instance those of the push; what that changes.

    `rehearsal`: nothing of it will last, and the texts of the push are not here.
    """
    old = {row.path: row for row in modules.all_modules(tx, component)}
    for item in package.modules:
        deployed = old.get(item.path)
        is_new = deployed is None or deployed.sha256 != item.sha256
        if is_new and not rehearsal and not modules.has_text(tx, item.sha256):
            raise race(f"The content of {item.path} is not stored here any more: another push replaced it.")
    new = [
        modules.NewModule(
            item.path, item.sha256, item.environment, _analysis_of(definition.functions.get(item.path))
        )
        for item in package.modules
    ]
    modules.replace_modules(tx, new, component)
    waiting = deployment.unfinished_texts(tx)
    for item in package.modules:
        waiting.pop(item.sha256, None)
    deployment.set_unfinished_texts(tx, waiting)
    declared = definition.functions.get(CRONS_PATH)
    specs = () if declared is None else declared.cron_specs or ()
    return (
        module_diff(
            {path: row.sha256 for path, row in old.items()},
            {item.path: item.sha256 for item in package.modules},
        ),
        crons.replace_crons(tx, specs, now, component),
    )


def remove_modules(tx: Transaction, now: Timestamp, component: str) -> tuple[ModuleDiff, CronDiff]:
    """Take an instance's modules and crons away; what that changes."""
    old = {row.path: row.sha256 for row in modules.all_modules(tx, component)}
    modules.replace_modules(tx, (), component)
    return module_diff(old, {}), crons.replace_crons(tx, (), now, component)


def _analysis_of(module: AnalyzedModuleJson | None) -> dict[str, Any] | None:
    return None if module is None else msgspec.to_builtins(module)
