"""start → wait for schema and indexes → finish: a push, in two phases.

`start` evaluates the code and prepares: texts are kept, the schema is pending, new indexes are being built. None
of that is visible to a function. `finish` is one transaction that puts everything in force: modules, schema,
indexes, identity providers. Between the two the pusher holds the answer of `start` and sends it back, so nothing
about a push lives in memory here, and a backend that was restarted in between can finish it.

Rules:
- A push is judged by ids in its answer: a pending schema that another `start` replaced is `overwritten`, and the
  earlier pusher is told of a race.
- A dry run and code generation write nothing that lasts.

Source: reference/cli-and-deploy.md §2.6–2.10; runtime-and-database.md §7.2.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import msgspec

from cvx.backend.auth import SYSTEM
from cvx.backend.config import Limits
from cvx.backend.database import Database, Snapshot, Transaction
from cvx.backend.deploy import estimate
from cvx.backend.deploy.activation import fingerprint, schema_status, schema_text, set_auth
from cvx.backend.deploy.analyze import (
    AUTH_CONFIG_PATH,
    Analysis,
    ImportPhase,
    analyze,
    analyze_auth,
    analyze_component,
    analyze_schema,
    check_supported,
    module_source,
    no_udf_config,
    node_packages,
)
from cvx.backend.deploy.code import (
    component_sources,
    environment_digest,
    known_analysis,
    package_of,
    returned_package,
    sources_of,
    store_texts,
)
from cvx.backend.deploy.component_tree import check_tree, mounts_of, required_variables
from cvx.backend.deploy.declared_environment import check_declared, check_removed
from cvx.backend.deploy.definitions import (
    check_env_declarations,
    definition_sources,
    evaluate_definitions,
    with_exports,
)
from cvx.backend.deploy.errors import in_component, push_error, race
from cvx.backend.deploy.instances import planned, prepare, put_in_force, rehearse
from cvx.backend.model import components, deployment, environment, modules
from cvx.backend.model.components import Mount
from cvx.backend.model.deployment import DeploymentInfo
from cvx.backend.runner import FunctionRunner, ModuleSource, NodePool, package_set_key
from cvx.errors import CvxError
from cvx.protocol.push import (
    AnalyzedModuleJson,
    ConfigModuleHash,
    DefinitionPath,
    EvaluatedDefinition,
    EvaluatePushResponse,
    FinishPushRequest,
    FinishPushResponse,
    GetConfigHashesResponse,
    ProjectConfig,
    SchemaChange,
    SchemaComplete,
    SchemaInProgress,
    SchemaStatus,
    StartPushRequest,
    StartPushResponse,
)
from cvx.protocol.schema import Schema

_log = logging.getLogger("cvx.deploy")

_PUSH = "push"


class PushService:
    """The pushes of one deployment."""

    def __init__(
        self,
        db: Database,
        runner: FunctionRunner,
        node: NodePool,
        info: DeploymentInfo,
        limits: Limits,
        deployed: Callable[[Snapshot], Mapping[str, ModuleSource]],
    ) -> None:
        """`deployed` gives the modules of the app at a snapshot, by path, with their texts."""
        self._deployed = deployed
        self._db = db
        self._runner = runner
        self._node = node
        self._info = info
        self._limits = limits

    # ------------------------------------------------------------------------------------------- before a push

    def get_config_hashes(self) -> GetConfigHashesResponse:
        """What is deployed now."""
        with self._db.snapshot() as snapshot:
            tx = self._db.begin(SYSTEM, snapshot=snapshot, read_only=True)
            config = deployment.udf_config(tx)
            rows = modules.all_modules(tx)
        return GetConfigHashesResponse(
            config=ProjectConfig(functions=config.functions_dir),
            module_hashes=[
                ConfigModuleHash(path=row.path, hash=row.sha256, environment=row.environment) for row in rows
            ],
            udf_server_version=config.server_version,
            node_version=config.node_version,
        )

    async def evaluate_push(self, request: StartPushRequest) -> EvaluatePushResponse:
        """What would change, from the schemas alone; writes nothing."""
        mounts, texts = await self._evaluated(request)
        with self._db.snapshot() as snapshot:
            tx = self._db.begin(SYSTEM, snapshot=snapshot, read_only=True)
            return EvaluatePushResponse(schema_change=planned(tx, mounts, texts))

    async def evaluate_schema(self, request: StartPushRequest) -> estimate.SchemaEvaluation:
        """What the schemas would cost: documents to look at, indexes to build and to drop; writes nothing."""
        mounts, texts = await self._evaluated(request)
        with self._db.snapshot() as snapshot:
            tx = self._db.begin(SYSTEM, snapshot=snapshot, read_only=True)
            return estimate.evaluate_schemas(tx, mounts, texts)

    async def _evaluated(
        self, request: StartPushRequest
    ) -> tuple[list[Mount], dict[DefinitionPath, str | None]]:
        """The instances of a push and the schemas of its definitions, without a look at the functions."""
        phase = self._new_phase()
        modules_of = {"": request.app_definition.schema} | {
            item.definition_path: item.schema for item in request.component_definitions
        }
        found = await asyncio.gather(
            *(analyze_schema(self._runner, path, module, phase) for path, module in modules_of.items())
        )
        texts = {path: _text(schema) for path, schema in zip(modules_of, found, strict=True)}
        sources = definition_sources(request)
        beside = {module.path: module_source(module) for module in request.app_definition.modules}
        definitions = await evaluate_definitions(self._runner, sources, {}, phase.ms, phase.seed, beside)
        evaluated = {
            path: EvaluatedDefinition(definition=definition, functions={}, udf_config=no_udf_config(phase))
            for path, definition in definitions.items()
        }
        check_tree(evaluated, sources, self._limits.components_max)
        return mounts_of(evaluated), texts

    # --------------------------------------------------------------------------------------------------- start

    async def start_push(self, request: StartPushRequest) -> StartPushResponse:
        """Evaluate the code and prepare the database. Raises CvxError with the codes of §2.10."""
        check_supported(request)
        with self._db.snapshot() as snapshot:
            tx = self._db.begin(SYSTEM, snapshot=snapshot, read_only=True)
            variables = environment.environment(tx)
            seen = {**variables, **self._built_in(tx)}
            phase = self._phase(tx)
            sources = {"": sources_of(request, self._deployed(snapshot))}
            known = {"": known_analysis(tx, sources[""], seen, node_packages(request))}
            examples = {
                each.mount.definition_path: path
                for path, each in components.instances(tx).items()
                if path and each.state == "active"
            }
            for item in request.component_definitions:
                path = item.definition_path
                sources[path] = component_sources(item)
                known[path] = (
                    known_analysis(tx, sources[path], seen, (), examples[path]) if path in examples else {}
                )
        analyses = await self._analyzed(request, sources, seen, phase, known)
        evaluated = {path: analysis.evaluated() for path, analysis in analyses.items()}
        tree = check_tree(evaluated, definition_sources(request), self._limits.components_max)
        mounts = mounts_of(evaluated)
        texts = {path: _text(analysis.schema) for path, analysis in analyses.items()}
        if request.dry_run or request.for_codegen:
            with self._db.snapshot() as snapshot:
                tx = self._db.begin(SYSTEM, snapshot=snapshot, read_only=True)
                change = planned(tx, mounts, texts)
        else:
            change = await self._prepare(request, analyses, mounts, texts)
        return StartPushResponse(
            environment_variables=variables,
            app_auth=list(analyses[""].auth),
            analysis=evaluated,
            app=tree,
            schema_change=change,
            component_definition_packages={
                path: msgspec.to_builtins(package_of(request, analysis, texts[path]))
                for path, analysis in analyses.items()
            },
            external_deps_id=package_set_key(node_packages(request)) if request.node_dependencies else None,
        )

    async def _analyzed(
        self,
        request: StartPushRequest,
        sources: Mapping[DefinitionPath, Mapping[str, ModuleSource]],
        seen: Mapping[str, str],
        phase: ImportPhase,
        known: Mapping[DefinitionPath, Mapping[str, AnalyzedModuleJson]],
    ) -> dict[DefinitionPath, Analysis]:
        """What the app and its components declare, the app first. Raises the first error in the order of §2.7."""
        limits = self._limits
        app = await analyze(self._runner, self._node, request, sources[""], seen, phase, known[""], limits)
        listed = request.component_definitions
        built_in = {name: seen[name] for name in environment.BUILT_IN_NAMES}
        found = await asyncio.gather(
            *(
                analyze_component(
                    self._runner, item, sources[item.definition_path], built_in, phase,
                    known[item.definition_path], limits,
                )
                for item in listed
            ),
            return_exceptions=True,
        )  # fmt: skip
        analyses = {"": app}
        for item, each in zip(listed, found, strict=True):
            if isinstance(each, CvxError):
                raise in_component(each, item.definition_path) from each
            if isinstance(each, BaseException):
                raise each
            analyses[item.definition_path] = each
        named = definition_sources(request)
        definitions = await evaluate_definitions(self._runner, named, seen, phase.ms, phase.seed, sources[""])
        check_env_declarations(definitions, named)
        return {
            path: replace(
                analysis,
                definition=with_exports(definitions[path], analysis.modules) if path else definitions[path],
            )
            for path, analysis in analyses.items()
        }

    async def _prepare(
        self,
        request: StartPushRequest,
        analyses: Mapping[DefinitionPath, Analysis],
        mounts: Sequence[Mount],
        texts: Mapping[DefinitionPath, str | None],
    ) -> SchemaChange:
        """Keep the texts, make the schemas pending, and begin to build their indexes: one transaction."""
        now_ms = self._db.clock.now_ns() / 1e6
        # Texts of unchanged modules are here; should another push drop one meanwhile, `finish` will notice.
        sent = [analyses[""].sources[module.path] for module in request.app_definition.modules]
        for item in request.component_definitions:
            sent += analyses[item.definition_path].sources.values()

        def body(tx: Transaction) -> SchemaChange:
            store_texts(tx, sent, now_ms, self._limits.unfinished_push_s * 1000.0)
            return prepare(tx, mounts, texts)

        change, _ = await self._db.run(SYSTEM, body, write_source=_PUSH)
        return change

    def _built_in(self, tx: Transaction) -> dict[str, str]:
        urls = deployment.canonical_urls(tx, self._info)
        return {"CONVEX_CLOUD_URL": urls.cloud, "CONVEX_SITE_URL": urls.site}

    def _phase(self, tx: Transaction) -> ImportPhase:
        """The clock and seed of the code that is deployed; new ones before the first push.

        They stay the same from push to push, so that a push touches only what really changed.
        """
        config = deployment.udf_config(tx)
        if config.server_version is None:
            return self._new_phase()
        return ImportPhase(config.import_phase_ms, config.import_seed)

    def _new_phase(self) -> ImportPhase:
        return ImportPhase(float(self._db.clock.now_ns() // 1_000_000), os.urandom(32))

    # ---------------------------------------------------------------------------------------------------- wait

    async def wait_for_schema(
        self, change: SchemaChange, *, timeout_ms: float, dry_run: bool = False
    ) -> SchemaStatus:
        """The state of the pending schemas: at once when they are decided, else when they are or when time is up."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(max(timeout_ms / 1000.0, 0.0), self._limits.schema_wait_s)
        if dry_run or not any(change.schema_ids.values()):
            return SchemaComplete()
        while True:
            changed: asyncio.Future[None] = loop.create_future()
            with self._db.snapshot() as snapshot:
                tx = self._db.begin(SYSTEM, snapshot=snapshot, read_only=True)
                status = schema_status(self._db, tx, change.schema_ids)
                if not isinstance(status, SchemaInProgress) or loop.time() >= deadline:
                    await self._db.durable(snapshot.ts)
                    return status
                subscription = self._db.subscribe(tx.reads, snapshot.ts, _setting(changed))
            try:  # Not `wait_for`: it may lose a cancellation (Python 3.11).
                await asyncio.wait({changed}, timeout=max(0.0, deadline - loop.time()))
            finally:
                subscription.close()

    # -------------------------------------------------------------------------------------------------- finish

    async def finish_push(self, request: FinishPushRequest) -> FinishPushResponse:
        """Put a started push in force. Raises CvxError RaceDetected, ConcurrentPush, MissingEnvironmentVariables,
        InvalidEnvironmentVariable."""
        push = request.start_push
        if push.analysis.get("") is None:
            raise push_error("InvalidPush", "The push has no analysis of the app.", hint="Push again.")
        returned_package(push)
        if request.dry_run:
            return self._rehearsed(push)
        before: list[object] = []

        def body(tx: Transaction) -> FinishPushResponse:
            found = fingerprint(tx)
            if before and before[0] != found:
                raise push_error(
                    "ConcurrentPush",
                    "Another push finished at the same time. Is more than one `npx convex dev` (or `cvx dev`) "
                    "running in this directory?",
                    kind="conflict",
                    retry_when="time",
                )
            before[:] = [found]
            self._take_environment(tx, push)
            diffs = put_in_force(tx, push, self._db.clock.now_ns())
            auth_diff = set_auth(tx, push.app_auth, deployment.canonical_urls(tx, self._info))
            return FinishPushResponse(auth_diff=auth_diff, component_diffs=diffs)

        diff, _ = await self._db.run(SYSTEM, body, write_source=_PUSH)
        return diff

    def _rehearsed(self, push: StartPushResponse) -> FinishPushResponse:
        """What a push would change: all of it is done, in a transaction that is thrown away."""
        with self._db.begin(SYSTEM, write_source=_PUSH) as tx:
            self._take_environment(tx, push)
            diffs = rehearse(tx, push, self._db.clock.now_ns())
            auth_diff = set_auth(tx, push.app_auth, deployment.canonical_urls(tx, self._info))
        return FinishPushResponse(auth_diff=auth_diff, component_diffs=diffs)

    def _take_environment(self, tx: Transaction, push: StartPushResponse) -> None:
        variables = environment.environment(tx)
        if variables != push.environment_variables:
            raise race("Environment variables have changed during the push.")
        deployment.set_analysis_environment(tx, environment_digest({**variables, **self._built_in(tx)}))
        declared = required_variables(push.analysis)
        check_declared(declared, variables)
        deployment.set_declared_environment(tx, declared)

    # --------------------------------------------------------------------------------------------- environment

    async def change_environment(self, changes: Sequence[environment.EnvironmentChange]) -> None:
        """Change environment variables, all or none, and what depends on them: the auth config."""

        async def body(tx: Transaction) -> None:
            environment.change_environment(tx, changes, self._limits)
            variables = environment.environment(tx)
            declared = deployment.declared_environment(tx)
            check_removed(declared, changes)
            check_declared(declared, variables, only={change.name for change in changes})
            await self._evaluate_auth(tx)

        await self._db.run(SYSTEM, body, write_source="update_environment_variables")

    async def change_canonical_url(self, destination: str, url: str | None) -> None:
        """Change or (None) reset one of the deployment's URLs, and what depends on it: the auth config."""

        async def body(tx: Transaction) -> None:
            deployment.set_canonical_url(tx, destination, url)
            await self._evaluate_auth(tx)

        await self._db.run(SYSTEM, body, write_source="update_canonical_url")

    async def follow_urls(self) -> None:
        """At start: evaluate the auth config again if it was last evaluated under other URLs (another port)."""
        with self._db.snapshot() as snapshot:
            tx = self._db.begin(SYSTEM, snapshot=snapshot, read_only=True)
            urls = deployment.canonical_urls(tx, self._info)
            if modules.module(tx, AUTH_CONFIG_PATH) is None or deployment.auth_urls(tx) == urls:
                return
        try:
            await self._db.run(SYSTEM, self._evaluate_auth, write_source="update_canonical_url")
        except CvxError as error:
            _log.warning("the auth config could not be evaluated for the new URLs: %s", error)

    async def _evaluate_auth(self, tx: Transaction) -> None:
        """Evaluate the deployed auth config, if there is one, and put its providers in force."""
        if modules.module(tx, AUTH_CONFIG_PATH) is None:
            return
        providers = await analyze_auth(
            self._runner,
            self._deployed(tx.snapshot),
            {**environment.environment(tx), **self._built_in(tx)},
            self._phase(tx),
        )
        set_auth(tx, providers, deployment.canonical_urls(tx, self._info))


def _text(schema: Schema | None) -> str | None:
    return None if schema is None else schema_text(schema)


def _setting(changed: asyncio.Future[None]) -> Callable[[int], None]:
    return lambda ts: None if changed.done() else changed.set_result(None)
