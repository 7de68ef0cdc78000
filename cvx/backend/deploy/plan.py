"""What a push would change: indexes, tables, modules. A pure diff.

An index of a table is known by its name; it is the same index when all else about it is equal, whether it is
staged left aside. Up to two versions of one name are in the database at a time: the one in use, and the one that
a push is building to replace it.

Rule: no database, no clock, no I/O. What is there comes in as data, what would change goes out as data.

Source: reference/cli-and-deploy.md §2.7 (IndexDiff), §2.9; runtime-and-database.md §7.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cvx.backend.model import DeployedIndex
from cvx.backend.runner import ModuleSource
from cvx.protocol.push import (
    DatabaseIndexDescription,
    IndexDescription,
    IndexDiff,
    ModuleDiff,
    SearchIndexDescription,
    VectorIndexDescription,
)
from cvx.protocol.schema import DatabaseIndex, Index, Schema, SearchIndex
from cvx.values import ANYTHING, Validator, is_superset_of


@dataclass(frozen=True)
class IndexPlan:
    """What to do to indexes and when.

    Before the finish: `create` (table, index), and `discard` unfinished ones of an earlier push. At the finish:
    `enable`, `stage` and `drop`.
    """

    create: tuple[tuple[str, Index], ...]
    discard: tuple[DeployedIndex, ...]
    enable: tuple[DeployedIndex, ...]
    stage: tuple[DeployedIndex, ...]
    drop: tuple[DeployedIndex, ...]
    diff: IndexDiff


def plan_indexes(schema: Schema | None, deployed: Iterable[DeployedIndex]) -> IndexPlan:
    """How to get from the deployed indexes to those of `schema` (None: no indexes)."""
    wanted = {
        (table.name, index.name): index
        for table in (schema.tables.values() if schema is not None else ())
        for index in table.indexes
    }
    there: dict[tuple[str, str], list[DeployedIndex]] = {}
    for item in deployed:
        there.setdefault((item.table, item.index.name), []).append(item)

    create: list[tuple[str, Index]] = []
    discard: list[DeployedIndex] = []
    enable: list[DeployedIndex] = []
    stage: list[DeployedIndex] = []
    drop: list[DeployedIndex] = []
    added: list[IndexDescription] = []
    removed: list[IndexDescription] = []
    enabled: list[IndexDescription] = []
    disabled: list[IndexDescription] = []

    for key in sorted(there.keys() | wanted.keys()):
        target = wanted.get(key)
        kept = _same(target, there.get(key, ()))
        for item in there.get(key, ()):
            if item is kept:
                continue
            if item.in_use:
                drop.append(item)
                removed.append(describe(item.table, item.index))
            else:
                discard.append(item)
        if target is None:
            continue
        if kept is None:
            create.append((key[0], target))
            added.append(describe(key[0], target))
        elif not kept.in_use:
            enable.append(kept)
            added.append(describe(key[0], target))
        elif kept.index.staged and not target.staged:
            enable.append(kept)
            enabled.append(describe(key[0], target))
        elif target.staged and not kept.index.staged:
            stage.append(kept)
            disabled.append(describe(key[0], target))
    return IndexPlan(
        tuple(create), tuple(discard), tuple(enable), tuple(stage), tuple(drop),
        IndexDiff(
            added_indexes=added, removed_indexes=removed, enabled_indexes=enabled, disabled_indexes=disabled
        ),
    )  # fmt: skip


def _same(target: Index | None, there: Sequence[DeployedIndex]) -> DeployedIndex | None:
    """The deployed version that is the wanted one, the one in use before one that is being built."""
    if target is None:
        return None
    same = [item for item in there if replace(item.index, staged=target.staged) == target]
    return min(same, key=lambda item: not item.in_use, default=None)


def describe(table: str, index: Index) -> IndexDescription:
    """An index as index diffs show it."""
    name = f"{table}.{index.name}"
    if isinstance(index, DatabaseIndex):
        return DatabaseIndexDescription(name=name, staged=index.staged, fields=list(index.stored_fields))
    if isinstance(index, SearchIndex):
        return SearchIndexDescription(
            name=name,
            staged=index.staged,
            search_field=index.search_field,
            filter_fields=list(index.filter_fields),
        )
    return VectorIndexDescription(
        name=name, staged=index.staged, dimensions=index.dimensions, vector_field=index.vector_field,
        filter_fields=list(index.filter_fields),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------- existing documents

TableOutcome = Literal["notValidated", "supersetOfEnforced", "mustWalk"]


def table_outcome(name: str, schema: Schema, active: Schema | None) -> TableOutcome:
    """Whether the documents of a table must be looked at before `schema` may replace `active`."""
    validator = _enforced(name, schema)
    if validator == ANYTHING:
        return "notValidated"
    return "supersetOfEnforced" if is_superset_of(validator, _enforced(name, active)) else "mustWalk"


def _enforced(name: str, schema: Schema | None) -> Validator:
    if schema is None or not schema.validation or name not in schema.tables:
        return ANYTHING
    return schema.tables[name].validator


# -------------------------------------------------------------------------------------------------- code


def unaffected(before: Mapping[str, str], after: Mapping[str, ModuleSource]) -> set[str]:
    """The modules that import only what was there before, so that they still declare what they declared.

    `before`: path → hash of what is deployed. A module that is equal is affected nevertheless when it names one
    that came, changed or went, directly or through others. Naming is looked for in the text, which finds every
    import and now and then too much.
    """
    moved = {
        path
        for path in before.keys() | after.keys()
        if path not in after or before.get(path) != after[path].sha256
    }
    rest = set(after) - moved
    while moved:
        names = [f"/{path.rpartition('/')[2]}".encode() for path in moved]  # As in `from "./_deps/X.js"`.
        moved = {path for path in rest if any(name in after[path].source for name in names)}
        rest -= moved
    return rest


def module_diff(before: Mapping[str, str], after: Mapping[str, str]) -> ModuleDiff:
    """Paths that come and go, a changed module being both. Both maps: path → hash."""
    added = sorted(path for path, sha256 in after.items() if before.get(path) != sha256)
    removed = sorted(path for path, sha256 in before.items() if after.get(path) != sha256)
    return ModuleDiff(added=added, removed=removed)
