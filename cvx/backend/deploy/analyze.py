"""PushRequest → what its code declares: functions, schema, crons, routes, auth providers.

Order of work, hence which error a push with several mistakes gets (reference/cli-and-deploy.md §2.7): what this
backend cannot run yet, functions, auth config, schema, definition, crons.

Rule: nothing here reads or writes the database; unchanged modules come in with their stored text. "use node" modules are
loaded where their actions will run.

Source: reference/runtime-and-database.md §1.9; cli-and-deploy.md §2.7, §2.10, §2.11.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from cvx.backend.config import Limits
from cvx.backend.deploy.auth_config import auth_providers
from cvx.backend.deploy.crons import named_cron_specs
from cvx.backend.deploy.errors import as_push_error, in_component, push_error
from cvx.backend.runner import (
    AnalyzedFunction,
    AnalyzedModule,
    AnalyzeRequest,
    AnalyzeResult,
    CodeBundle,
    FunctionRunner,
    ModuleSource,
    NodePool,
)
from cvx.errors import CvxError
from cvx.protocol.push import (
    AnalyzedFunctionJson,
    AnalyzedModuleJson,
    AnalyzedRouteJson,
    AuthProvider,
    ComponentDefinition,
    DefinitionMetadata,
    EvaluatedDefinition,
    PushedModule,
    RouteJson,
    SourcePositionJson,
    StartPushRequest,
    UdfConfigJson,
    VisibilityJson,
)
from cvx.protocol.schema import Schema, parse_schema
from cvx.values import check_module_path, is_identifier, parse_validator_text, to_json

AUTH_CONFIG_PATH = "auth.config.js"
CRONS_PATH = "crons.js"
HTTP_PATH = "http.js"
CHUNKS = "_deps/"
NODE_VERSIONS = ("20", "22", "24")
NEVER_NODE = frozenset({HTTP_PATH, CRONS_PATH, "schema.js", AUTH_CONFIG_PATH})

_KINDS = {"query": "Query", "mutation": "Mutation", "action": "Action"}


@dataclass(frozen=True, slots=True)
class ImportPhase:
    """The clock and seed that modules are imported with. `ms` since 1970, `seed` 32 bytes."""

    ms: float
    seed: bytes


NO_DEFINITION = DefinitionMetadata(
    path="", definition_type={"type": "app"}, exports={"type": "branch", "branch": []}
)
"""Until definitions are evaluated."""


@dataclass(frozen=True)
class Analysis:
    """What the code of the app, or of a component, declares. `modules` are all of it, by path, as they will be stored."""

    modules: Mapping[str, AnalyzedModuleJson]
    sources: Mapping[str, ModuleSource]
    schema: Schema | None
    auth: tuple[AuthProvider, ...]
    definition: DefinitionMetadata
    udf_config: UdfConfigJson

    def evaluated(self) -> EvaluatedDefinition:
        """The analysis as start_push answers it."""
        return EvaluatedDefinition(
            definition=self.definition,
            functions=dict(self.modules),
            udf_config=self.udf_config,
            schema=None if self.schema is None else self.schema.to_json(with_creation_time=True),
        )


def module_source(module: PushedModule) -> ModuleSource:
    """A pushed module with its hash: SHA-256 of the source, then of the source map if there is one."""
    source = module.source.encode()
    source_map = None if module.source_map is None else module.source_map.encode()
    digest = hashlib.sha256(source)
    if source_map is not None:
        digest.update(source_map)
    return ModuleSource(module.path, digest.hexdigest(), source, source_map, module.environment)


def check_supported(request: StartPushRequest) -> None:
    """Refuse what this backend cannot run, before anything is evaluated."""
    if request.node_version is not None and request.node_version not in NODE_VERSIONS:
        raise push_error(
            "NodeVersionNotSupported",
            f'Node.js version {request.node_version[:20]} is not supported for "use node" actions.',
            hint=f"Set node.nodeVersion in convex.json to {', '.join(NODE_VERSIONS[:-1])} or {NODE_VERSIONS[-1]}.",
        )
    for module in request.app_definition.modules:
        check_environment(module.path, module.environment)
    for component in request.component_definitions:
        for module in component.functions:
            if module.environment == "node":
                raise push_error(
                    "InvalidModules",
                    f'{module.path} of the component {component.definition_path} is a "use node" module. '
                    "Components cannot have any.",
                    hint='Remove "use node", or move the action into the app.',
                )


def check_environment(path: str, environment: str) -> None:
    """Refuse a module that wants Node and may not."""
    if environment == "node" and path in NEVER_NODE:
        raise push_error(
            "InvalidModules", f'{path} cannot be a "use node" module.', hint='Remove "use node".'
        )


def check_sources(sources: Mapping[str, ModuleSource], limits: Limits) -> None:
    """Refuse a push with bad module paths, or with too many or too large modules."""
    for path in sources:
        try:
            check_module_path(path)
        except CvxError as error:
            raise as_push_error(error) from None
    users = sum(1 for path in sources if not path.startswith(CHUNKS))
    if users > limits.user_modules_max:
        raise push_error(
            "ModulesTooLarge",
            f"The app has {users} modules; the maximum is {limits.user_modules_max}.",
            hint="Merge some files.",
        )
    size = sum(len(item.source) + len(item.source_map or b"") for item in sources.values())
    if size > limits.module_bytes_max:
        raise push_error(
            "ModulesTooLarge",
            f"The app's modules have {size} bytes in total; the maximum is {limits.module_bytes_max}.",
            hint="Import less, or smaller packages.",
        )


async def analyze(
    runner: FunctionRunner,
    node: NodePool,
    request: StartPushRequest,
    sources: Mapping[str, ModuleSource],
    environment: Mapping[str, str],
    phase: ImportPhase,
    known: Mapping[str, AnalyzedModuleJson],
    limits: Limits,
) -> Analysis:
    """Import everything once and say what it declares.

    `sources` are all modules of the app, unchanged ones included; `environment` all variables, built-in ones
    included; `known` is what some modules are known to declare. Raises CvxError with the codes of §2.10.
    """
    check_sources(sources, limits)
    app = request.app_definition
    result = await _imported(runner, request, sources, environment, phase, known)
    _raise_failures(result, sources)
    of_node = await _imported_by_node(node, request, sources, environment, phase, known)
    _raise_failures(of_node, sources)
    found = {**result.modules, **of_node.modules}
    return Analysis(
        modules=_declared(found, sources, known),
        sources=sources,
        schema=_schema(result.schema_json),
        auth=auth_providers(result.auth_config_json),
        definition=NO_DEFINITION,
        udf_config=_udf_config(app.udf_server_version, phase),
    )


async def analyze_component(
    runner: FunctionRunner,
    component: ComponentDefinition,
    sources: Mapping[str, ModuleSource],
    environment: Mapping[str, str],
    phase: ImportPhase,
    known: Mapping[str, AnalyzedModuleJson],
    limits: Limits,
) -> Analysis:
    """As `analyze`, for the modules and the schema of one component."""
    check_sources(sources, limits)
    schema = component.schema
    everything = dict(sources) | ({} if schema is None else {schema.path: module_source(schema)})
    entries = tuple(path for path in sorted(sources) if not path.startswith(CHUNKS) and path not in known)
    result = await runner.analyze(
        AnalyzeRequest(
            bundle=_bundle(everything),
            paths=entries,
            env=environment,
            import_phase_ms=phase.ms,
            import_seed=phase.seed,
            schema_path=None if schema is None else schema.path,
        )
    )
    _raise_failures(result, sources)
    return Analysis(
        modules=_declared(result.modules, sources, known),
        sources=sources,
        schema=_schema(result.schema_json),
        auth=(),
        definition=NO_DEFINITION,
        udf_config=_udf_config(component.udf_server_version, phase),
    )


def _declared(
    found: Mapping[str, AnalyzedModule],
    sources: Mapping[str, ModuleSource],
    known: Mapping[str, AnalyzedModuleJson],
) -> dict[str, AnalyzedModuleJson]:
    modules = {path: _module_json(found.get(path), path) for path in sources if path not in known}
    modules = dict(sorted((modules | {path: known[path] for path in sources if path in known}).items()))
    _check_cron_targets(modules)
    return modules


def _schema(text: str | None) -> Schema | None:
    try:
        return None if text is None else parse_schema(text)
    except CvxError as error:
        raise as_push_error(error) from None


def no_udf_config(phase: ImportPhase) -> UdfConfigJson:
    """That of code nobody will run."""
    return _udf_config("", phase)


def _udf_config(server_version: str, phase: ImportPhase) -> UdfConfigJson:
    return UdfConfigJson(
        server_version=server_version,
        import_phase_rng_seed=to_json(phase.seed),
        import_phase_unix_timestamp=to_json(int(phase.ms * 1_000_000)),
    )


async def analyze_schema(
    runner: FunctionRunner, definition_path: str, module: PushedModule | None, phase: ImportPhase
) -> Schema | None:
    """A schema alone, for evaluate_push and evaluate_schema."""
    if module is None:
        return None
    try:
        return await _schema_alone(runner, module, phase)
    except CvxError as error:
        raise in_component(error, definition_path) from None


async def _schema_alone(runner: FunctionRunner, module: PushedModule, phase: ImportPhase) -> Schema | None:
    source = module_source(module)
    bundle = CodeBundle(source.sha256, {source.path: source})
    asked = AnalyzeRequest(bundle, (), {}, phase.ms, phase.seed, schema_path=source.path)
    result = await runner.analyze(asked)
    _raise_failures(result, bundle.modules)
    return _schema(result.schema_json)


async def analyze_auth(
    runner: FunctionRunner,
    sources: Mapping[str, ModuleSource],
    environment: Mapping[str, str],
    phase: ImportPhase,
) -> tuple[AuthProvider, ...]:
    """The auth config of deployed code: evaluated again whenever an environment variable changes."""
    asked = AnalyzeRequest(
        _bundle(sources), (), environment, phase.ms, phase.seed, auth_config_path=AUTH_CONFIG_PATH
    )
    result = await runner.analyze(asked)
    _raise_failures(result, sources)
    return auth_providers(result.auth_config_json)


def _bundle(sources: Mapping[str, ModuleSource]) -> CodeBundle:
    digest = hashlib.sha256()
    for path in sorted(sources):
        digest.update(f"{path}\0{sources[path].sha256}\0".encode())
    return CodeBundle(digest.hexdigest(), sources)


async def _imported(
    runner: FunctionRunner,
    request: StartPushRequest,
    sources: Mapping[str, ModuleSource],
    environment: Mapping[str, str],
    phase: ImportPhase,
    known: Collection[str],
) -> AnalyzeResult:
    schema = request.app_definition.schema
    everything = dict(sources) | ({} if schema is None else {schema.path: module_source(schema)})
    entries = tuple(
        path
        for path in sorted(sources)
        if not path.startswith(CHUNKS)
        and path != AUTH_CONFIG_PATH
        and path not in known
        and sources[path].environment != "node"
    )
    return await runner.analyze(
        AnalyzeRequest(
            bundle=_bundle(everything),
            paths=entries,
            env=environment,
            import_phase_ms=phase.ms,
            import_seed=phase.seed,
            schema_path=None if schema is None else schema.path,
            auth_config_path=AUTH_CONFIG_PATH if AUTH_CONFIG_PATH in sources else None,
        )
    )


async def _imported_by_node(
    node: NodePool,
    request: StartPushRequest,
    sources: Mapping[str, ModuleSource],
    environment: Mapping[str, str],
    phase: ImportPhase,
    known: Collection[str],
) -> AnalyzeResult:
    """What "use node" modules export. Raises CvxError "InvalidExternalModules"."""
    packages = node_packages(request)
    if not any(source.environment == "node" for source in sources.values()):
        return AnalyzeResult()
    try:
        await node.prepare(packages)  # Also when nothing is new: what the push says must be there.
    except CvxError as error:
        raise as_push_error(error) from None
    entries = tuple(
        path
        for path in sorted(sources)
        if sources[path].environment == "node" and not path.startswith(CHUNKS) and path not in known
    )
    if not entries:
        return AnalyzeResult()
    bundle = replace(_bundle(sources), packages=packages)
    result = await node.analyze(AnalyzeRequest(bundle, entries, environment, phase.ms, phase.seed))
    for path, module in result.modules.items():
        other = next((each for each in module.functions if each.kind != "action"), None)
        if other is not None:
            raise push_error(
                "InvalidModules",
                f"Loading the pushed modules encountered the following error:\n`{other.name}` defined in `{path}` "
                f"is a {other.kind} function. Only actions can be defined in Node.js.",
                hint='Move it into a file without "use node".',
            )
    return result


def node_packages(request: StartPushRequest) -> tuple[tuple[str, str], ...]:
    """Names and versions of the packages that "use node" modules import and the push leaves out."""
    return tuple(sorted((item.name, item.version) for item in request.node_dependencies))


def _raise_failures(result: AnalyzeResult, sources: Mapping[str, ModuleSource]) -> None:
    """The first failure in the order of work: functions before auth config before schema."""
    if not result.failures:
        return
    order = {path: at for at, path in enumerate(sorted(sources))}
    special = {AUTH_CONFIG_PATH: len(order), "schema.js": len(order) + 1}
    rank = order | special
    first = min(result.failures, key=lambda failure: rank.get(failure.path, len(order) + 2))
    if first.code == "InvalidModules":
        raise push_error(
            first.code, f"Loading the pushed modules encountered the following error:\n{first.message}"
        )
    needs_variable = first.code == "AuthConfigMissingEnvironmentVariable"
    raise push_error(first.code, first.message, retry_when="env" if needs_variable else "files")


def _module_json(module: AnalyzedModule | None, path: str) -> AnalyzedModuleJson:
    if module is None:
        return AnalyzedModuleJson(functions=[])
    for found in module.functions:
        _check_function(path, found)
    functions = [
        AnalyzedFunctionJson(
            name=function.name,
            udf_type=_KINDS[function.kind],  # type: ignore[arg-type]
            visibility=None if function.visibility is None else VisibilityJson(kind=function.visibility),
            args=function.args_json,
            returns=function.returns_json,
            pos=None
            if function.position is None
            else SourcePositionJson(path, function.position.start_line, function.position.start_column),
        )
        for function in module.functions
    ]
    routes = None
    if module.routes is not None:
        routes = [AnalyzedRouteJson(route=RouteJson(path=r.path, method=r.method)) for r in module.routes]
    crons = None if module.crons_json is None else named_cron_specs(module.crons_json)
    return AnalyzedModuleJson(functions=functions, http_routes=routes, cron_specs=crons)


def _check_function(path: str, function: AnalyzedFunction) -> None:
    """Refuse a function that could never be called: every deployed one must be readable as a whole."""
    if not is_identifier(function.name):
        raise push_error(
            "InvalidFunctionName",
            f"{path} exports a function as '{function.name[:80]}', which is not a valid name.",
            hint="Use letters, digits and underscores, at most 64.",
        )
    for what, text in (("arguments", function.args_json), ("return value", function.returns_json)):
        try:
            if text is not None and text != "null":
                parse_validator_text(text)
        except CvxError as error:
            raise push_error(
                error.code, f"The {what} of {path}:{function.name}: {error.message}", hint=error.hint
            ) from None


def _check_cron_targets(modules: Mapping[str, AnalyzedModuleJson]) -> None:
    """Every cron runs a mutation or an action that the push contains."""
    crons = modules.get(CRONS_PATH)
    if crons is None or not crons.cron_specs:
        return
    kinds = {
        (path, function.name): function.udf_type
        for path, module in modules.items()
        for function in module.functions
    }
    for named in crons.cron_specs:
        path, _, name = named.spec.udf_path.rpartition(":")
        kind = kinds.get((path if path.endswith(".js") else f"{path}.js", name))
        if kind is None:
            raise push_error(
                "InvalidCron",
                f'Cron "{named.identifier}" runs {named.spec.udf_path}, which is not among the pushed functions.',
                hint="Correct the function reference in crons.ts.",
            )
        if kind == "Query":
            raise push_error(
                "InvalidCron",
                f'Cron "{named.identifier}" runs {named.spec.udf_path}, which is a query; '
                "a cron runs a mutation or an action.",
                hint="Correct the function reference in crons.ts.",
            )
