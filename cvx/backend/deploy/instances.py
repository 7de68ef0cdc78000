"""A push over the whole tree of components: preparing every instance, putting all in force, taking away what is gone.

The same two steps, in a transaction that is thrown away, say what a push would change (`rehearse`).

Rule: functions over one Transaction each.

Source: reference/cli-and-deploy.md §2.7, §2.9, §7.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cvx.backend.database import Transaction
from cvx.backend.deploy.activation import activate_schema, set_udf_config
from cvx.backend.deploy.code import CodePackage, remove_modules, replace_modules, returned_package
from cvx.backend.deploy.component_tree import mounts_of
from cvx.backend.deploy.errors import push_error
from cvx.backend.deploy.plan import plan_indexes
from cvx.backend.model import components, scheduled_jobs, schemas
from cvx.backend.model.components import Mount
from cvx.protocol.push import (
    ComponentDiff,
    ComponentPath,
    DefinitionPath,
    DiffType,
    IndexDiff,
    SchemaChange,
    StartPushResponse,
)
from cvx.protocol.schema import Schema, parse_schema
from cvx.values import Timestamp


def prepare(
    tx: Transaction, mounts: Sequence[Mount], schema_texts: Mapping[DefinitionPath, str | None]
) -> SchemaChange:
    """Make the schemas of all instances pending, and begin to build their indexes."""
    change = SchemaChange(allocated_component_ids={}, schema_ids={}, index_diffs={})
    for mount in mounts:
        path, text = mount.path, schema_texts.get(mount.definition_path)
        if path:
            change.allocated_component_ids[path] = components.prepare(tx, mount)
        change.schema_ids[path] = schemas.submit(tx, text, path)
        schema = _schema(text)
        plan = plan_indexes(schema, schemas.deployed_indexes(tx, path))
        for name in sorted(schema.tables) if schema is not None else ():
            schemas.ensure_table(tx, name, path)
        for item in plan.discard:
            schemas.drop_index(tx, item.id)
        for table, index in plan.create:
            schemas.create_index(tx, table, index, path)
        change.index_diffs[path] = plan.diff
    return change


def planned(
    tx: Transaction, mounts: Sequence[Mount], schema_texts: Mapping[DefinitionPath, str | None]
) -> SchemaChange:
    """What `prepare` would change; writes nothing."""
    return SchemaChange(
        allocated_component_ids={},
        schema_ids={mount.path: None for mount in mounts},
        index_diffs={
            mount.path: plan_indexes(
                _schema(schema_texts.get(mount.definition_path)), schemas.deployed_indexes(tx, mount.path)
            ).diff
            for mount in mounts
        },
    )


def _schema(text: str | None) -> Schema | None:
    return None if text is None else parse_schema(text)


def put_in_force(
    tx: Transaction, push: StartPushResponse, now: Timestamp
) -> dict[ComponentPath, ComponentDiff]:
    """Make the instances, their schemas, modules and crons those of a push; what that changes in each."""
    return _put_in_force(tx, push, push.schema_change.schema_ids, now, rehearsal=False)


def rehearse(tx: Transaction, push: StartPushResponse, now: Timestamp) -> dict[ComponentPath, ComponentDiff]:
    """What `put_in_force` would change, were the push prepared. The transaction is for the bin afterwards."""
    texts = {path: returned_package(push, path).schema for path in push.analysis}
    change = prepare(tx, mounts_of(push.analysis), texts)
    return _put_in_force(tx, push, change.schema_ids, now, rehearsal=True)


def _put_in_force(
    tx: Transaction,
    push: StartPushResponse,
    schema_ids: Mapping[ComponentPath, str | None],
    now: Timestamp,
    *,
    rehearsal: bool,
) -> dict[ComponentPath, ComponentDiff]:
    packages = {path: returned_package(push, path) for path in push.analysis}
    before = components.instances(tx)
    diffs: dict[ComponentPath, ComponentDiff] = {}
    for mount in mounts_of(push.analysis):
        diffs[mount.path] = _mount(tx, push, mount, packages, schema_ids, now, before, rehearsal=rehearsal)
    for path, instance in before.items():
        if path not in diffs and instance.state == "active":
            components.unmount(tx, path)
            removed, crons = remove_modules(tx, now, path)
            diffs[path] = ComponentDiff(
                diff_type=DiffType(type="unmount"), module_diff=removed, cron_diff=crons
            )
    return diffs


def _mount(
    tx: Transaction,
    push: StartPushResponse,
    mount: Mount,
    packages: Mapping[DefinitionPath, CodePackage],
    schema_ids: Mapping[ComponentPath, str | None],
    now: Timestamp,
    before: Mapping[ComponentPath, components.Instance],
    *,
    rehearsal: bool,
) -> ComponentDiff:
    path, definition = mount.path, push.analysis[mount.definition_path]
    package = packages[mount.definition_path]
    if path not in schema_ids:
        raise push_error(
            "InvalidPush", f"The push has not prepared the component '{path}'.", hint="Push again."
        )
    known = before.get(path)
    state = "pending" if known is None else known.state
    components.activate(tx, mount)
    if state == "unmounted":
        scheduled_jobs.bring_forward(tx, path, tx.engine.limits.job_sweep_rows)
    schema_diff = activate_schema(tx, schema_ids[path], path, rehearsal=rehearsal)
    module_changes, crons = replace_modules(tx, package, definition, now, path, rehearsal=rehearsal)
    return ComponentDiff(
        diff_type=DiffType(
            type="modify" if state == "active" else "create" if state == "pending" else "remount"
        ),
        module_diff=module_changes,
        udf_config_diff=None if path else set_udf_config(tx, package, definition),
        cron_diff=crons,
        # What the whole push changes: by now the new indexes are there already.
        index_diff=push.schema_change.index_diffs.get(path, IndexDiff()),
        schema_diff=schema_diff,
    )
