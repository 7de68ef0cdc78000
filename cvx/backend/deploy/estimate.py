"""What a schema would cost if it were pushed: the advice that the CLI asks for before it does.

Sizes are estimates from the first documents of a table: nobody keeps the exact sum, and the only reader is a
warning about very large tables.

Source: reference/cli-and-deploy.md §2.7 (evaluate_schema).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from cvx.backend.database import Transaction
from cvx.backend.deploy.plan import describe, plan_indexes, table_outcome
from cvx.backend.model import components, schemas
from cvx.backend.model.components import Mount
from cvx.protocol.push import ComponentPath, DefinitionPath
from cvx.protocol.schema import Schema, parse_schema

_SAMPLE_DOCUMENTS = 64


class TableEvaluation(Struct, rename="camel", frozen=True, kw_only=True):
    """One table of the new schema; `size_bytes` is an estimate."""

    name: str
    outcome: str
    num_docs: int
    size_bytes: int


class ComponentEvaluation(Struct, rename="camel", frozen=True, kw_only=True):
    """One component. `indexes` are index descriptions with `change`, `needsBackfill` and `numDocs` added."""

    definition_path: str
    schema_validation: bool
    tables: list[TableEvaluation]
    indexes: list[dict[str, Any]]
    discarded_staged_validators: list[Any] = []


class SchemaEvaluation(Struct, rename="camel", frozen=True, kw_only=True):
    component_schema_evaluations: dict[str, ComponentEvaluation]
    new_component_definitions: list[str] = []


def evaluate_schemas(
    tx: Transaction, mounts: Sequence[Mount], schema_texts: Mapping[DefinitionPath, str | None]
) -> SchemaEvaluation:
    """The evaluation of each instance's schema (None: no schema) against what is deployed."""
    found: dict[ComponentPath, ComponentEvaluation] = {}
    deployed = components.instances(tx)
    new: list[DefinitionPath] = []
    for mount in mounts:
        if mount.path not in deployed:
            new.append(mount.definition_path)
            continue
        text = schema_texts.get(mount.definition_path)
        schema = None if text is None else parse_schema(text)
        found[mount.path] = _evaluate(tx, mount, schema)
    return SchemaEvaluation(component_schema_evaluations=found, new_component_definitions=sorted(set(new)))


def _evaluate(tx: Transaction, mount: Mount, schema: Schema | None) -> ComponentEvaluation:
    component = mount.path
    active = schemas.active(tx, component)
    tables = [
        TableEvaluation(
            name=name,
            outcome=table_outcome(name, schema, active),
            num_docs=_count(tx, name, component),
            size_bytes=_size(tx, name, component),
        )
        for name in sorted(schema.tables if schema is not None else ())
        if schema is not None
    ]
    return ComponentEvaluation(
        definition_path=mount.definition_path,
        schema_validation=schema is not None and schema.validation,
        tables=tables,
        indexes=_indexes(tx, schema, component),
    )


def _indexes(tx: Transaction, schema: Schema | None, component: str) -> list[dict[str, Any]]:
    plan = plan_indexes(schema, schemas.deployed_indexes(tx, component))
    building = {(item.table, item.index.name) for item in plan.enable if item.state == "backfilling"}
    out = [_index(tx, item, "added", True, component) for item in plan.diff.added_indexes]
    out += [_index(tx, item, "dropped", False, component) for item in plan.diff.removed_indexes]
    out += [_index(tx, item, "disabled", False, component) for item in plan.diff.disabled_indexes]
    for item in plan.diff.enabled_indexes:
        owner, _, name = item.name.partition(".")
        out.append(_index(tx, item, "enabled", (owner, name) in building, component))
    changed = {item["name"] for item in out}
    for table in schema.tables.values() if schema is not None else ():
        for index in table.indexes:
            described_index = describe(table.name, index)
            if described_index.name not in changed:
                out.append(_index(tx, described_index, "identical", False, component))
    return out


def _index(
    tx: Transaction, described: Any, change: str, needs_backfill: bool, component: str
) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.to_builtins(described)
    documents = _count(tx, described.name.partition(".")[0], component)
    return body | {"change": change, "needsBackfill": needs_backfill and documents > 0, "numDocs": documents}


def _count(tx: Transaction, table: str, component: str) -> int:
    if tx.snapshot.catalog.table(component, table) is None:
        return 0
    return tx.count(table, component=component)


def _size(tx: Transaction, table: str, component: str) -> int:
    """Mean size of the first documents × number of documents."""
    documents = _count(tx, table, component)
    if documents == 0:
        return 0
    query = {
        "source": {"type": "FullTableScan", "tableName": table, "order": None},
        "operators": [{"limit": _SAMPLE_DOCUMENTS}],
    }
    sample, _ = tx.stream(query, component=component).next_page(_SAMPLE_DOCUMENTS)
    return sum(map(len, sample)) * documents // max(len(sample), 1)
