"""Putting a schema, its indexes and the settings of a push in force; how far a schema is until then.

Rule: functions over the one Transaction that finishes a push.

Source: reference/cli-and-deploy.md §2.8, §2.9; runtime-and-database.md §7.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from cvx.backend.database import Database, Transaction
from cvx.backend.deploy.code import CodePackage
from cvx.backend.deploy.errors import push_error, race
from cvx.backend.deploy.plan import plan_indexes
from cvx.backend.model import components, deployment, modules, schemas
from cvx.backend.model.deployment import CanonicalUrls, UdfConfig
from cvx.protocol.push import (
    AuthDiff,
    AuthProvider,
    ComponentPath,
    ComponentSchemaStatus,
    EvaluatedDefinition,
    IndexProgress,
    SchemaComplete,
    SchemaDiff,
    SchemaFailed,
    SchemaInProgress,
    SchemaRaceDetected,
    SchemaStatus,
    UdfConfigDiff,
)
from cvx.protocol.schema import Schema
from cvx.values import DocumentId, from_json


def schema_text(schema: Schema) -> str:
    return msgspec.json.encode(schema.to_json(), order="sorted").decode()


def schema_status(
    db: Database, tx: Transaction, schema_ids: Mapping[ComponentPath, str | None]
) -> SchemaStatus:
    """How far the pending schemas of a push are."""
    progress: dict[ComponentPath, ComponentSchemaStatus] = {}
    for component, schema_id in schema_ids.items():
        if schema_id is None:
            continue
        found = _component_status(db, tx, schema_id, component)
        if not isinstance(found, ComponentSchemaStatus):
            return found
        progress[component] = found
    if all(
        status.schema_validation_complete and status.indexes_complete == status.indexes_total
        for status in progress.values()
    ):
        return SchemaComplete()
    return SchemaInProgress(components=progress)


def _component_status(
    db: Database, tx: Transaction, schema_id: str, component: ComponentPath
) -> ComponentSchemaStatus | SchemaFailed | SchemaRaceDetected:
    info = schemas.by_id(tx, schema_id)
    if info is None or info.state == "overwritten":
        return SchemaRaceDetected()
    if info.state == "failed":
        return SchemaFailed(error=info.error or "", component_path=component, table_name=info.failed_table)
    deployed = schemas.deployed_indexes(tx, component)
    live = [item for item in deployed if not item.index.staged]
    wanted = {(t.name, i.name) for t in info.schema.tables.values() for i in t.indexes if not i.staged}
    # An index that turns from staged to live must be built by then, like a new one.
    staged = [item for item in deployed if item.index.staged and (item.table, item.index.name) in wanted]
    relevant = live + staged
    checked = db.schema_progress(DocumentId.parse(schema_id))
    return ComponentSchemaStatus(
        schema_validation_complete=info.state in ("validated", "active"),
        indexes_complete=sum(1 for item in relevant if item.state != "backfilling"),
        indexes_total=len(relevant),
        building=[_progress(db, item) for item in relevant if item.state == "backfilling"],
        documents_checked=checked.done if checked else 0,
        documents_to_check=checked.total if checked else 0,
    )


def _progress(db: Database, item: schemas.DeployedIndex) -> IndexProgress:
    found = db.index_progress(DocumentId.parse(item.id))
    return IndexProgress(
        table=item.table,
        index=item.index.name,
        documents_done=found.done if found else 0,
        documents_total=found.total if found else 0,
    )


def activate_schema(
    tx: Transaction, schema_id: str | None, component: ComponentPath = "", *, rehearsal: bool = False
) -> SchemaDiff | None:
    """Put a validated schema (None: no schema) and its indexes in force. `rehearsal`: nothing of it will last, so
    nobody has to be ready."""
    old = schemas.active(tx, component)
    schema: Schema | None = None
    if schema_id is not None:
        info = schemas.by_id(tx, schema_id)
        if info is None or info.state == "overwritten":
            raise race("The schema was overwritten by another push.")
        if info.state == "failed":
            raise push_error(
                "SchemaValidationFailed",
                info.error or "A document does not match the schema.",
                retry_when="data",
            )
        if info.state == "pending":
            if not rehearsal:
                raise push_error(
                    "SchemaNotValidated", "The schema has not been checked against all documents yet.",
                    hint="Wait for the schema before finishing the push.", retry_when="time",
                )  # fmt: skip
            schemas.mark_validated(tx, schema_id)
        schema = info.schema
    plan = plan_indexes(schema, schemas.deployed_indexes(tx, component))
    if plan.create:
        raise race("Another push has dropped indexes that this one was building.")
    for item in plan.enable:
        if item.state != "backfilling":
            schemas.enable_index(tx, item.id)
        elif not rehearsal:
            raise push_error(
                "IndexesNotReady", f"The index {item.table}.{item.index.name} is still being built.",
                hint="Wait for the schema before finishing the push.", retry_when="time",
            )  # fmt: skip
    for item in plan.stage:
        schemas.stage_index(tx, item.id)
    for item in (*plan.drop, *plan.discard):
        schemas.drop_index(tx, item.id)
    schemas.activate(tx, schema_id, component)
    before, after = (None if s is None else schema_text(s) for s in (old, schema))
    return None if before == after else SchemaDiff(previous_schema=before, next_schema=after)


def fingerprint(tx: Transaction) -> object:
    """What two pushes that finish at the same time both change."""
    return [
        (
            instance,
            {row.path: row.sha256 for row in modules.all_modules(tx, path)},
            schemas.active_id(tx, path),
        )
        for path, instance in components.instances(tx).items()
    ]


# ----------------------------------------------------------------------------------------------------- settings


def set_udf_config(
    tx: Transaction, package: CodePackage, definition: EvaluatedDefinition
) -> UdfConfigDiff | None:
    old, config = deployment.udf_config(tx), definition.udf_config
    ns, seed = from_json(config.import_phase_unix_timestamp), from_json(config.import_phase_rng_seed)
    if type(ns) is not int or type(seed) is not bytes:
        raise push_error("InvalidPush", "The push has no import phase.", hint="Push again.")
    new = UdfConfig(
        server_version=config.server_version,
        import_phase_ms=ns / 1e6,
        import_seed=seed,
        functions_dir=package.functions,
        node_version=package.node_version,
        node_dependencies=tuple(sorted((item.name, item.version) for item in package.node_dependencies)),
    )
    deployment.set_udf_config(tx, new)
    if old.server_version is None or old.server_version == config.server_version:
        return None
    return UdfConfigDiff(old.server_version, config.server_version)


def set_auth(tx: Transaction, providers: Sequence[AuthProvider], urls: CanonicalUrls) -> AuthDiff:
    """Put providers in force that were evaluated while the deployment had these URLs."""
    new = [msgspec.to_builtins(provider) for provider in providers]
    old = deployment.auth_providers(tx)
    if new != old or deployment.auth_urls(tx) != urls:
        deployment.set_auth_providers(tx, new, urls)
    before, after = (_texts(listed) for listed in (old, new))
    return AuthDiff(
        added=[text for text in after if text not in before],
        removed=[text for text in before if text not in after],
    )


def _texts(providers: Sequence[Mapping[str, Any]]) -> list[str]:
    return [msgspec.json.encode(provider, order="sorted").decode() for provider in providers]
