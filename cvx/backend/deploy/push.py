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

import msgspec

from cvx.backend.auth import SYSTEM
from cvx.backend.config import Limits
from cvx.backend.database import Database, Snapshot, Transaction
from cvx.backend.deploy import estimate
from cvx.backend.deploy.activation import (
    activate_schema,
    fingerprint,
    schema_status,
    schema_text,
    set_auth,
    set_udf_config,
)
from cvx.backend.deploy.analyze import (
    AUTH_CONFIG_PATH,
    Analysis,
    ImportPhase,
    analyze,
    analyze_auth,
    analyze_schema,
    check_supported,
    node_packages,
)
from cvx.backend.deploy.code import (
    environment_digest,
    known_analysis,
    package_of,
    replace_modules,
    returned_package,
    sources_of,
    store_texts,
)
from cvx.backend.deploy.declared_environment import check_declared, check_removed
from cvx.backend.deploy.errors import push_error, race
from cvx.backend.deploy.plan import IndexPlan, plan_indexes
from cvx.backend.model import deployment, environment, modules, schemas
from cvx.backend.model.deployment import DeploymentInfo
from cvx.backend.runner import FunctionRunner, ModuleSource, NodePool, package_set_key
from cvx.errors import CvxError
from cvx.protocol.push import (
    ComponentDiff,
    ConfigModuleHash,
    DiffType,
    EvaluatedDefinition,
    EvaluatePushResponse,
    FinishPushRequest,
    FinishPushResponse,
    GetConfigHashesResponse,
    IndexDiff,
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
        """What would change, from the schema alone; writes nothing."""
        schema = await analyze_schema(self._runner, request, self._new_phase())
        return EvaluatePushResponse(schema_change=self._schema_change(schema))

    async def evaluate_schema(self, request: StartPushRequest) -> estimate.SchemaEvaluation:
        """What the schema would cost: documents to look at, indexes to build and to drop; writes nothing."""
        schema = await analyze_schema(self._runner, request, self._new_phase())
        with self._db.snapshot() as snapshot:
            tx = self._db.begin(SYSTEM, snapshot=snapshot, read_only=True)
            return estimate.evaluate_schema(tx, schema, schemas.active(tx), schemas.deployed_indexes(tx))

    # --------------------------------------------------------------------------------------------------- start

    async def start_push(self, request: StartPushRequest) -> StartPushResponse:
        """Evaluate the code and prepare the database. Raises CvxError with the codes of §2.10."""
        check_supported(request)
        with self._db.snapshot() as snapshot:
            tx = self._db.begin(SYSTEM, snapshot=snapshot, read_only=True)
            variables = environment.environment(tx)
            built_in = self._built_in(tx)
            sources = sources_of(request, self._deployed(snapshot))
            phase = self._phase(tx)
            known = known_analysis(tx, sources, {**variables, **built_in}, node_packages(request))
        analysis = await analyze(
            self._runner,
            self._node,
            request,
            sources,
            {**variables, **built_in},
            phase,
            known,
            self._limits,
        )
        lasting = not (request.dry_run or request.for_codegen)
        change = await self._prepare(request, analysis) if lasting else self._schema_change(analysis.schema)
        return StartPushResponse(
            environment_variables=variables,
            app_auth=list(analysis.auth),
            analysis={"": analysis.evaluated()},
            app=analysis.app(),
            schema_change=change,
            component_definition_packages={"": msgspec.to_builtins(package_of(request, analysis))},
            external_deps_id=package_set_key(node_packages(request)) if request.node_dependencies else None,
        )

    async def _prepare(self, request: StartPushRequest, analysis: Analysis) -> SchemaChange:
        """Keep the texts, make the schema pending, and begin to build its indexes: one transaction."""
        schema = analysis.schema
        now_ms = self._db.clock.now_ns() / 1e6
        # Texts of unchanged modules are here; should another push drop one meanwhile, `finish` will notice.
        sent = [analysis.sources[module.path] for module in request.app_definition.modules]

        def body(tx: Transaction) -> SchemaChange:
            store_texts(tx, sent, now_ms, self._limits.unfinished_push_s * 1000.0)
            schema_id = schemas.submit(tx, None if schema is None else schema_text(schema))
            plan = plan_indexes(schema, schemas.deployed_indexes(tx))
            for name in sorted(schema.tables) if schema is not None else ():
                schemas.ensure_table(tx, name)
            for item in plan.discard:
                schemas.drop_index(tx, item.id)
            for table, index in plan.create:
                schemas.create_index(tx, table, index)
            return SchemaChange(schema_ids={"": schema_id}, index_diffs={"": plan.diff})

        change, _ = await self._db.run(SYSTEM, body, write_source=_PUSH)
        return change

    def _schema_change(self, schema: Schema | None) -> SchemaChange:
        """What `_prepare` would do."""
        return SchemaChange(schema_ids={"": None}, index_diffs={"": self._plan(schema).diff})

    def _plan(self, schema: Schema | None) -> IndexPlan:
        with self._db.snapshot() as snapshot:
            tx = self._db.begin(SYSTEM, snapshot=snapshot, read_only=True)
            return plan_indexes(schema, schemas.deployed_indexes(tx))

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
        """The state of a pending schema: at once when it is decided, else when it is or when time is up."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(max(timeout_ms / 1000.0, 0.0), self._limits.schema_wait_s)
        schema_id = change.schema_ids.get("")
        if schema_id is None or dry_run:
            return SchemaComplete()
        while True:
            changed = asyncio.Event()
            with self._db.snapshot() as snapshot:
                tx = self._db.begin(SYSTEM, snapshot=snapshot, read_only=True)
                status = schema_status(tx, schema_id)
                if not isinstance(status, SchemaInProgress) or loop.time() >= deadline:
                    await self._db.durable(snapshot.ts)
                    return status
                subscription = self._db.subscribe(tx.reads, snapshot.ts, _setting(changed))
            try:
                await asyncio.wait_for(changed.wait(), deadline - loop.time())
            except asyncio.TimeoutError:
                pass
            finally:
                subscription.close()

    # -------------------------------------------------------------------------------------------------- finish

    async def finish_push(self, request: FinishPushRequest) -> FinishPushResponse:
        """Put a started push in force. Raises CvxError RaceDetected, ConcurrentPush, MissingEnvironmentVariables,
        InvalidEnvironmentVariable."""
        push = request.start_push
        definition = push.analysis.get("")
        package = returned_package(push)
        if request.dry_run:
            return FinishPushResponse()
        if definition is None:
            raise push_error("InvalidPush", "The push has no analysis of the app.", hint="Push again.")
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
            self._take_environment(tx, push, definition)
            schema_diff = activate_schema(tx, push.schema_change.schema_ids.get(""))
            module_changes, crons = replace_modules(tx, package, definition, self._db.clock.now_ns())
            component = ComponentDiff(
                diff_type=DiffType(type="modify"),
                module_diff=module_changes,
                udf_config_diff=set_udf_config(tx, package, definition),
                cron_diff=crons,
                # What the whole push changes: by now the new indexes are there already.
                index_diff=push.schema_change.index_diffs.get("", IndexDiff()),
                schema_diff=schema_diff,
            )
            auth_diff = set_auth(tx, push.app_auth, deployment.canonical_urls(tx, self._info))
            return FinishPushResponse(auth_diff=auth_diff, component_diffs={"": component})

        diff, _ = await self._db.run(SYSTEM, body, write_source=_PUSH)
        return diff

    def _take_environment(
        self, tx: Transaction, push: StartPushResponse, definition: EvaluatedDefinition
    ) -> None:
        variables = environment.environment(tx)
        if variables != push.environment_variables:
            raise race("Environment variables have changed during the push.")
        deployment.set_analysis_environment(tx, environment_digest({**variables, **self._built_in(tx)}))
        declared = definition.definition.env_vars
        check_declared(declared, variables)
        deployment.set_declared_environment(
            tx, None if declared is None else [list(item) for item in declared]
        )

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


def _setting(event: asyncio.Event) -> Callable[[int], None]:
    return lambda ts: event.set()
