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
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from cvx.backend.auth import SYSTEM
from cvx.backend.config import Limits
from cvx.backend.database import Database, Snapshot, Transaction
from cvx.backend.deploy import estimate
from cvx.backend.deploy.analyze import (
    AUTH_CONFIG_PATH,
    CRONS_PATH,
    Analysis,
    ImportPhase,
    analyze,
    analyze_auth,
    analyze_schema,
    check_environment,
    check_supported,
    module_source,
    push_error,
)
from cvx.backend.deploy.declared_environment import check_declared, check_removed
from cvx.backend.deploy.plan import IndexPlan, cron_diff, module_diff, plan_indexes, unaffected
from cvx.backend.model import deployment, environment, modules, schemas
from cvx.backend.model.deployment import DeploymentInfo, UdfConfig
from cvx.backend.runner import FunctionRunner, ModuleSource
from cvx.errors import CvxError
from cvx.protocol.push import (
    AnalyzedModuleJson,
    AuthDiff,
    AuthProvider,
    ComponentDiff,
    ComponentSchemaStatus,
    ConfigModuleHash,
    DiffType,
    EvaluatedDefinition,
    EvaluatePushResponse,
    FinishPushRequest,
    FinishPushResponse,
    GetConfigHashesResponse,
    IndexDiff,
    ModuleHash,
    ProjectConfig,
    SchemaChange,
    SchemaComplete,
    SchemaDiff,
    SchemaFailed,
    SchemaInProgress,
    SchemaRaceDetected,
    SchemaStatus,
    StartPushRequest,
    StartPushResponse,
    UdfConfigDiff,
)
from cvx.protocol.schema import Schema
from cvx.values import from_json

WAIT_MS_MAX = 60_000.0
UNFINISHED_MS_MAX = 3_600_000.0
_PUSH = "push"


class CodePackage(msgspec.Struct, rename="camel", frozen=True):
    """What `start` prepared of one component's code: opaque to the pusher, who brings it back."""

    modules: list[ModuleHash]
    functions: str
    node_version: str | None = None


class PushService:
    """The pushes of one deployment."""

    def __init__(
        self,
        db: Database,
        runner: FunctionRunner,
        info: DeploymentInfo,
        limits: Limits,
        deployed: Callable[[Snapshot], Mapping[str, ModuleSource]],
    ) -> None:
        """`deployed` gives the modules of the app at a snapshot, by path, with their texts."""
        self._deployed = deployed
        self._db = db
        self._runner = runner
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
            sources = _sources(request, self._deployed(snapshot))
            phase = self._phase(tx)
            known = _known(tx, sources, {**variables, **built_in})
        analysis = await analyze(self._runner, request, sources, {**variables, **built_in}, phase, known)
        lasting = not (request.dry_run or request.for_codegen)
        change = await self._prepare(request, analysis) if lasting else self._schema_change(analysis.schema)
        return StartPushResponse(
            environment_variables=variables,
            app_auth=list(analysis.auth),
            analysis={"": analysis.evaluated()},
            app=analysis.app(),
            schema_change=change,
            component_definition_packages={"": msgspec.to_builtins(_package(request, analysis))},
        )

    async def _prepare(self, request: StartPushRequest, analysis: Analysis) -> SchemaChange:
        """Keep the texts, make the schema pending, and begin to build its indexes: one transaction."""
        schema = analysis.schema
        now_ms = self._db.clock.now_ns() / 1e6
        # Texts of unchanged modules are here; should another push drop one meanwhile, `finish` will notice.
        sent = [analysis.sources[module.path] for module in request.app_definition.modules]

        def body(tx: Transaction) -> SchemaChange:
            _store_texts(tx, sent, now_ms)
            schema_id = schemas.submit(tx, None if schema is None else _schema_text(schema))
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
        deadline = loop.time() + min(max(timeout_ms, 0.0), WAIT_MS_MAX) / 1000.0
        schema_id = change.schema_ids.get("")
        if schema_id is None or dry_run:
            return SchemaComplete()
        while True:
            changed = asyncio.Event()
            with self._db.snapshot() as snapshot:
                tx = self._db.begin(SYSTEM, snapshot=snapshot, read_only=True)
                status = _status(tx, schema_id)
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
        package = _package_of(push)
        if request.dry_run:
            return FinishPushResponse()
        if definition is None:
            raise push_error("InvalidPush", "The push has no analysis of the app.", hint="Push again.")
        before: list[object] = []

        def body(tx: Transaction) -> FinishPushResponse:
            found = _fingerprint(tx)
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
            schema_diff = _activate_schema(tx, push.schema_change.schema_ids.get(""))
            module_changes, crons = _replace_modules(tx, package, definition)
            component = ComponentDiff(
                diff_type=DiffType(type="modify"),
                module_diff=module_changes,
                udf_config_diff=_set_udf_config(tx, package, definition),
                cron_diff=crons,
                # What the whole push changes: by now the new indexes are there already.
                index_diff=push.schema_change.index_diffs.get("", IndexDiff()),
                schema_diff=schema_diff,
            )
            return FinishPushResponse(auth_diff=_set_auth(tx, push.app_auth), component_diffs={"": component})

        diff, _ = await self._db.run(SYSTEM, body, write_source=_PUSH)
        return diff

    def _take_environment(
        self, tx: Transaction, push: StartPushResponse, definition: EvaluatedDefinition
    ) -> None:
        variables = environment.environment(tx)
        if variables != push.environment_variables:
            raise push_error(
                "RaceDetected",
                "Environment variables have changed during the push.",
                kind="conflict",
                hint="Push again.",
                retry_when="time",
            )
        deployment.set_analysis_environment(tx, _environment_digest({**variables, **self._built_in(tx)}))
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
            if modules.module(tx, AUTH_CONFIG_PATH) is None:
                return
            providers = await analyze_auth(
                self._runner,
                self._deployed(tx.snapshot),
                {**variables, **self._built_in(tx)},
                self._phase(tx),
            )
            _set_auth(tx, providers)

        await self._db.run(SYSTEM, body, write_source="update_environment_variables")


def _setting(event: asyncio.Event) -> Callable[[int], None]:
    return lambda ts: event.set()


# ------------------------------------------------------------------------------------------------------ modules


def _sources(request: StartPushRequest, deployed: Mapping[str, ModuleSource]) -> dict[str, ModuleSource]:
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


def _known(
    tx: Transaction, sources: Mapping[str, ModuleSource], variables: Mapping[str, str]
) -> dict[str, AnalyzedModuleJson]:
    """What modules declare that need not be looked at again: neither they nor the environment have changed."""
    if deployment.analysis_environment(tx) != _environment_digest(variables):
        return {}
    rows = {row.path: row for row in modules.all_modules(tx)}
    found = {}
    for path in unaffected({path: row.sha256 for path, row in rows.items()}, sources):
        analysis, environment = rows[path].analysis, rows[path].environment
        if analysis is not None and environment == sources[path].environment:
            found[path] = msgspec.convert(analysis, AnalyzedModuleJson)
    return found


def _environment_digest(variables: Mapping[str, str]) -> str:
    return hashlib.sha256(msgspec.json.encode(dict(variables), order="sorted")).hexdigest()


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


def _package(request: StartPushRequest, analysis: Analysis) -> CodePackage:
    listed = [
        ModuleHash(path=path, environment=source.environment, sha256=source.sha256)  # type: ignore[arg-type]
        for path, source in sorted(analysis.sources.items())
    ]
    return CodePackage(listed, request.functions, request.node_version)


def _package_of(push: StartPushResponse) -> CodePackage:
    try:
        return msgspec.convert(push.component_definition_packages.get(""), CodePackage)
    except msgspec.ValidationError as error:
        raise push_error(
            "InvalidPush", f"What start_push answered came back changed: {error}.", hint="Push again."
        ) from None


def _store_texts(tx: Transaction, sources: Iterable[ModuleSource], now_ms: float) -> None:
    """Keep the texts of a push until it finishes; forget those of pushes that never did."""
    waiting = deployment.unfinished_texts(tx)
    for sha256, since_ms in list(waiting.items()):
        if since_ms < now_ms - UNFINISHED_MS_MAX:
            modules.drop_text(tx, sha256)
            del waiting[sha256]
    for source in sources:
        if source.sha256 in waiting or not modules.has_text(tx, source.sha256):
            modules.store_text(tx, _text(source))
            waiting[source.sha256] = now_ms
    deployment.set_unfinished_texts(tx, waiting)


def _replace_modules(
    tx: Transaction, package: CodePackage, definition: EvaluatedDefinition
) -> tuple[Any, Any]:
    """Make the deployed modules those of the push; what that changes."""
    old = {row.path: row for row in modules.all_modules(tx)}
    for item in package.modules:
        deployed = old.get(item.path)
        if (deployed is None or deployed.sha256 != item.sha256) and not modules.has_text(tx, item.sha256):
            raise push_error(
                "RaceDetected",
                f"The content of {item.path} is not stored here any more: another push replaced it.",
                kind="conflict",
                hint="Push again.",
                retry_when="time",
            )
    new = [
        modules.NewModule(
            item.path, item.sha256, item.environment, _analysis_of(definition.functions.get(item.path))
        )
        for item in package.modules
    ]
    modules.replace_modules(tx, new)
    waiting = deployment.unfinished_texts(tx)
    for item in package.modules:
        waiting.pop(item.sha256, None)
    deployment.set_unfinished_texts(tx, waiting)
    crons = old.get(CRONS_PATH)
    before = (
        None
        if crons is None or crons.analysis is None
        else msgspec.convert(crons.analysis, AnalyzedModuleJson)
    )
    return (
        module_diff(
            {path: row.sha256 for path, row in old.items()},
            {item.path: item.sha256 for item in package.modules},
        ),
        cron_diff(before, definition.functions.get(CRONS_PATH)),
    )


def _analysis_of(module: AnalyzedModuleJson | None) -> dict[str, Any] | None:
    return None if module is None else msgspec.to_builtins(module)


# ------------------------------------------------------------------------------------------------------- schema


def _schema_text(schema: Schema) -> str:
    return msgspec.json.encode(schema.to_json(), order="sorted").decode()


def _status(tx: Transaction, schema_id: str) -> SchemaStatus:
    """How far a pending schema is."""
    info = schemas.by_id(tx, schema_id)
    if info is None or info.state == "overwritten":
        return SchemaRaceDetected()
    if info.state == "failed":
        return SchemaFailed(error=info.error or "", component_path="", table_name=info.failed_table)
    live = [item for item in schemas.deployed_indexes(tx) if not item.index.staged]
    wanted = {(t.name, i.name) for t in info.schema.tables.values() for i in t.indexes if not i.staged}
    # An index that turns from staged to live must be built by then, like a new one.
    staged = [
        item
        for item in schemas.deployed_indexes(tx)
        if item.index.staged and (item.table, item.index.name) in wanted
    ]
    relevant = live + staged
    complete = sum(1 for item in relevant if item.state != "backfilling")
    validated = info.state in ("validated", "active")
    if validated and complete == len(relevant):
        return SchemaComplete()
    return SchemaInProgress(
        components={
            "": ComponentSchemaStatus(
                schema_validation_complete=validated, indexes_complete=complete, indexes_total=len(relevant)
            )
        }
    )


def _activate_schema(tx: Transaction, schema_id: str | None) -> SchemaDiff | None:
    """Put a validated schema (None: no schema) and its indexes in force."""
    old = schemas.active(tx)
    schema: Schema | None = None
    if schema_id is not None:
        info = schemas.by_id(tx, schema_id)
        if info is None or info.state == "overwritten":
            raise push_error(
                "RaceDetected", "The schema was overwritten by another push.", kind="conflict",
                hint="Push again.", retry_when="time",
            )  # fmt: skip
        if info.state == "failed":
            raise push_error(
                "SchemaValidationFailed",
                info.error or "A document does not match the schema.",
                retry_when="data",
            )
        if info.state == "pending":
            raise push_error(
                "SchemaNotValidated", "The schema has not been checked against all documents yet.",
                hint="Wait for the schema before finishing the push.", retry_when="time",
            )  # fmt: skip
        schema = info.schema
    plan = plan_indexes(schema, schemas.deployed_indexes(tx))
    if plan.create:
        raise push_error(
            "RaceDetected", "Another push has dropped indexes that this one was building.", kind="conflict",
            hint="Push again.", retry_when="time",
        )  # fmt: skip
    for item in plan.enable:
        if item.state == "backfilling":
            raise push_error(
                "IndexesNotReady", f"The index {item.table}.{item.index.name} is still being built.",
                hint="Wait for the schema before finishing the push.", retry_when="time",
            )  # fmt: skip
        schemas.enable_index(tx, item.id)
    for item in plan.stage:
        schemas.stage_index(tx, item.id)
    for item in (*plan.drop, *plan.discard):
        schemas.drop_index(tx, item.id)
    schemas.activate(tx, schema_id)
    before, after = (None if s is None else _schema_text(s) for s in (old, schema))
    return None if before == after else SchemaDiff(previous_schema=before, next_schema=after)


def _fingerprint(tx: Transaction) -> object:
    """What two pushes that finish at the same time both change."""
    return {row.path: row.sha256 for row in modules.all_modules(tx)}, schemas.active_id(tx)


# ----------------------------------------------------------------------------------------------------- settings


def _set_udf_config(
    tx: Transaction, package: CodePackage, definition: EvaluatedDefinition
) -> UdfConfigDiff | None:
    old, config = deployment.udf_config(tx), definition.udf_config
    ns, seed = from_json(config.import_phase_unix_timestamp), from_json(config.import_phase_rng_seed)
    if type(ns) is not int or type(seed) is not bytes:
        raise push_error("InvalidPush", "The push has no import phase.", hint="Push again.")
    new = UdfConfig(config.server_version, ns / 1e6, seed, package.functions, package.node_version)
    deployment.set_udf_config(tx, new)
    if old.server_version is None or old.server_version == config.server_version:
        return None
    return UdfConfigDiff(old.server_version, config.server_version)


def _set_auth(tx: Transaction, providers: Sequence[AuthProvider]) -> AuthDiff:
    new = [msgspec.to_builtins(provider) for provider in providers]
    old = deployment.auth_providers(tx)
    if new != old:
        deployment.set_auth_providers(tx, new)
    before, after = (_texts(listed) for listed in (old, new))
    return AuthDiff(
        added=[text for text in after if text not in before],
        removed=[text for text in before if text not in after],
    )


def _texts(providers: Sequence[Mapping[str, Any]]) -> list[str]:
    return [msgspec.json.encode(provider, order="sorted").decode() for provider in providers]
