"""What a schema would cost if it were pushed: the advice that the CLI asks for before it does.

Sizes are estimates from the first documents of a table: nobody keeps the exact sum, and the only reader is a
warning about very large tables.

Source: reference/cli-and-deploy.md §2.7 (evaluate_schema).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from cvx.backend.database import Transaction
from cvx.backend.deploy.plan import describe, plan_indexes, table_outcome
from cvx.backend.model import DeployedIndex
from cvx.protocol.schema import Schema

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


def evaluate_schema(
    tx: Transaction, schema: Schema | None, active: Schema | None, deployed: Sequence[DeployedIndex]
) -> SchemaEvaluation:
    """The evaluation of the app's schema (None: no schema) against what is deployed."""
    tables = [
        TableEvaluation(
            name=name,
            outcome=table_outcome(name, schema, active),
            num_docs=_count(tx, name),
            size_bytes=_size(tx, name),
        )
        for name in sorted(schema.tables if schema is not None else ())
        if schema is not None
    ]
    evaluation = ComponentEvaluation(
        definition_path="",
        schema_validation=schema is not None and schema.validation,
        tables=tables,
        indexes=_indexes(tx, schema, deployed),
    )
    return SchemaEvaluation(component_schema_evaluations={"": evaluation})


def _indexes(
    tx: Transaction, schema: Schema | None, deployed: Sequence[DeployedIndex]
) -> list[dict[str, Any]]:
    plan = plan_indexes(schema, deployed)
    building = {(item.table, item.index.name) for item in plan.enable if item.state == "backfilling"}
    out = [_index(tx, item, "added", True) for item in plan.diff.added_indexes]
    out += [_index(tx, item, "dropped", False) for item in plan.diff.removed_indexes]
    out += [_index(tx, item, "disabled", False) for item in plan.diff.disabled_indexes]
    for item in plan.diff.enabled_indexes:
        owner, _, name = item.name.partition(".")
        out.append(_index(tx, item, "enabled", (owner, name) in building))
    changed = {item["name"] for item in out}
    for table in schema.tables.values() if schema is not None else ():
        for index in table.indexes:
            described_index = describe(table.name, index)
            if described_index.name not in changed:
                out.append(_index(tx, described_index, "identical", False))
    return out


def _index(tx: Transaction, described: Any, change: str, needs_backfill: bool) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.to_builtins(described)
    documents = _count(tx, described.name.partition(".")[0])
    return body | {"change": change, "needsBackfill": needs_backfill and documents > 0, "numDocs": documents}


def _count(tx: Transaction, table: str) -> int:
    return tx.count(table) if tx.snapshot.catalog.table("", table) is not None else 0


def _size(tx: Transaction, table: str) -> int:
    """Mean size of the first documents × number of documents."""
    documents = _count(tx, table)
    if documents == 0:
        return 0
    query = {
        "source": {"type": "FullTableScan", "tableName": table, "order": None},
        "operators": [{"limit": _SAMPLE_DOCUMENTS}],
    }
    sample, _ = tx.stream(query).next_page(_SAMPLE_DOCUMENTS)
    return sum(map(len, sample)) * documents // max(len(sample), 1)
