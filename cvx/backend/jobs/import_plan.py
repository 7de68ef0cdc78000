"""What an import is about to do, and the transactions that decide it: where tables go, and the step that shows them.

The plan is made when it is known which tables an upload holds; what it rests on is looked at again at the end.

Source: reference/cli-and-deploy.md §5.3 (semantics).
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from cvx.backend.bulk import FoundTable, ImportPlan, ImportSurvey, Run, TablePlan
from cvx.backend.database import TableInfo, Transaction, definitions, staging
from cvx.backend.model import transfers
from cvx.backend.model.file_records import FILES
from cvx.backend.model.transfers import ImportOrder
from cvx.errors import CvxError
from cvx.values import DocumentId


class Target(msgspec.Struct, frozen=True):
    """A table of the import: where its rows go. `hidden`: its row in `_tables`; None: it lives, and is added to.
    `delete`: how many documents it had when that was looked up."""

    plan: TablePlan
    table_id: int
    hidden: bytes | None
    delete: int


class Manifest(msgspec.Struct):
    """What is known of an import once its upload was read; kept beside the bulk files.

    `runs`: (place in `targets`, the file). `schemas`: the texts that documents were checked against. `others`:
    tables that `replaceAll` deletes, with their numbers of documents. `files`: stored files that come;
    `files_there`: how many there are.
    """

    targets: list[Target]
    schemas: dict[str, str]
    rows: list[int]
    runs: list[tuple[int, Run]] = []
    others: list[tuple[str, str, int]] = []
    files: dict[str, int] = {}
    files_there: dict[str, int] = {}
    digest: str | None = None


class Ended(Exception):
    """The row is not in the state this work is about any more: somebody canceled it."""


def plan_import(
    tx: Transaction, id: DocumentId, order: ImportOrder, survey: ImportSurvey
) -> tuple[Manifest, ImportPlan]:
    """Decide where each table goes, and create the hidden ones. Raises CvxError: TableExists, InvalidName,
    TableNumberConflict, ComponentsNotSupported, ImportEnded."""
    row = transfers.import_row(tx, id)
    if row is None or row.state != "uploaded":
        raise Ended
    for stale in row.hidden:
        staging.discard_table(tx, stale)
    leaving = {table.name for table in survey.tables} if order.mode == "replace" else set()
    if order.mode == "replaceAll":
        leaving = {table.name for table in _user_tables(tx, order.component)}
    targets = [_target(tx, order, table, leaving) for table in survey.tables]
    transfers.set_hidden_tables(tx, id, [target.hidden for target in targets if target.hidden is not None])
    components = sorted({order.component, *(target.plan.component for target in targets)})
    schemas: dict[str, str] = {}
    names: dict[str, dict[str, str]] = {}
    for component in components:
        active = definitions.active_schema(tx, component=component)
        if active is not None:
            schemas[component] = active.text
        numbers = {str(number): name for name, number in tx.catalog.numbers(component).items()}
        mine = {t.plan.name: t.plan.number for t in targets if t.plan.component == component}
        names[component] = {number: name for number, name in numbers.items() if name not in mine} | {
            str(number): name for name, number in mine.items()
        }
    others: list[tuple[str, str, int]] = []
    if order.mode == "replaceAll":
        imported = {(target.plan.component, target.plan.name) for target in targets}
        for table in _user_tables(tx, order.component):
            if (table.component, table.name) not in imported:
                count = tx.count(table.name, component=table.component)
                others.append((table.component, table.name, count))
    manifest = Manifest(targets, schemas, [0] * len(targets), [], others, digest=survey.digest)
    manifest.files_there = {
        component: tx.count(FILES, component=component, privileged=True)
        for component in _reach(tx, order.component)
    }
    return manifest, ImportPlan([target.plan for target in targets], names, schemas)


def untouched(
    tx: Transaction, order: ImportOrder, survey: ImportSurvey
) -> tuple[int, list[tuple[int, int]]] | None:
    """When an import of the same upload brought the tables that are there now, as far as the catalog tells: its
    timestamp, and (store id, number of documents then) of each table. None: this import has work to do."""
    if survey.digest is None or survey.files or order.mode not in ("replace", "replaceAll"):
        return None
    found = transfers.same_import(tx, survey.digest)
    if found is None:
        return None
    ts, brought = found
    tables = [(one, tx.table(one.table, component=one.component)) for one in brought]
    if any(info is None or info.row != one.row for one, info in tables):
        return None
    if {(one.component, one.table) for one in brought} != {(t.component, t.name) for t in survey.tables}:
        return None
    if order.mode == "replaceAll" and len(_user_tables(tx, order.component)) != len(brought):
        return None
    same = [tx.count(one.table, component=one.component) == one.rows for one in brought]
    return (
        (ts, [(info.table_id, one.rows) for one, info in tables if info is not None]) if all(same) else None
    )


def _target(tx: Transaction, order: ImportOrder, found: FoundTable, leaving: set[str]) -> Target:
    component, name = found.component, found.name
    if component not in tx.catalog.components:
        raise CvxError(
            "ComponentNotFound",
            f"There is no component '{component[:200]}'.",
            kind="not_found",
            hint="Push the app that mounts it first.",
            retry_when="files",
        )
    info = tx.table(name, component=component)
    count = 0 if info is None else tx.count(name, component=component)
    if order.mode == "requireEmpty" and count:
        raise CvxError(
            "TableExists",
            f"Table {name} already exists and has {count:,} documents.",
            hint="Replace them (--replace), add to them (--append), or choose another table.",
            retry_when="data",
        )
    if order.mode == "append" and info is not None and count:
        if found.number not in (None, info.number):
            raise CvxError(
                "TableNumberConflict",
                f'The ids of table "{name}" carry the table number {found.number}, and the table that is there '
                f"has {info.number}.",
                hint="Leave the field _id out to append these documents under new ids.",
                retry_when="files",
            )
        plan = TablePlan(component, name, info.number, 0, [], keyed=False)
        return Target(plan, info.table_id, None, count)
    if found.number is not None:
        staging.check_number(tx, name, found.number, component, leaving)
    hidden = staging.hide_table(tx, name, number=found.number, component=component)
    indexes = [
        (index.index_id, [list(path) for path in index.paths])
        for index in hidden.indexes
        if index.has_entries
    ]
    plan = TablePlan(component, name, hidden.number, hidden.by_creation_time.index_id, indexes)
    return Target(plan, hidden.table_id, hidden.row, count)


def _reach(tx: Transaction, component: str) -> list[str]:
    """The component that an import is for, and those inside it."""
    return [
        c for c in tx.catalog.components if c == component or not component or c.startswith(component + "/")
    ]


def _user_tables(tx: Transaction, component: str) -> list[TableInfo]:
    found = [table for c in _reach(tx, component) for table in tx.catalog.tables(c) if not table.is_system]
    return sorted(found, key=lambda table: (table.component, table.name))


def deletes(order: ImportOrder, manifest: Manifest) -> bool:
    """Whether something that is there would go away."""
    if order.mode not in ("replace", "replaceAll"):
        return False
    return any(target.delete for target in manifest.targets) or bool(manifest.others)


def deleted(order: ImportOrder, target: Target) -> int:
    return target.delete if order.mode in ("replace", "replaceAll") else 0


def check_nothing_changed(tx: Transaction, order: ImportOrder, manifest: Manifest) -> None:
    """What was true when the rows were read must be so when they appear."""
    for component, text in manifest.schemas.items():
        active = definitions.active_schema(tx, component=component)
        if (None if active is None else active.text) != text:
            raise _schema_changed()
    for target in manifest.targets:
        plan = target.plan
        if plan.component not in manifest.schemas and definitions.active_schema(tx, component=plan.component):
            raise _schema_changed()
        if target.hidden is not None and order.mode in ("requireEmpty", "append"):
            count = tx.count(plan.name, component=plan.component)
            if count:
                raise CvxError(
                    "TableExists", f"Table {plan.name} was empty when the import began, and has {count:,} documents now.",
                    hint="Import again.", retry_when="data",
                )  # fmt: skip


def _schema_changed() -> CvxError:
    return CvxError(
        "ImportSchemaChanged", "The schema changed while the import was running.",
        hint="Import again: the documents are then checked against the new schema.", retry_when="time",
    )  # fmt: skip


def show_import(tx: Transaction, order: ImportOrder, manifest: Manifest) -> None:
    """Put every hidden table in its place, and end what `replaceAll` ends. Raises CvxError: ImportForeignKey,
    ImportSchemaChanged, TableNumberConflict."""
    others = [] if order.mode != "replaceAll" else _user_tables(tx, order.component)
    imported = {(target.plan.component, target.plan.name) for target in manifest.targets}
    others = [table for table in others if (table.component, table.name) not in imported]
    for component in sorted({component for component, _ in imported}):
        _check_references(tx, component, manifest, {t.name for t in others if t.component == component})
    rows = [target.hidden for target in manifest.targets if target.hidden is not None]
    for table in others:
        schema = definitions.active_schema(tx, component=table.component)
        known = set() if schema is None else set(schema.schema.tables) | schema.schema.referenced_tables()
        if table.name in known:
            rows.append(_emptied(tx, table, manifest))
        else:
            definitions.retire_table(tx, table)
    staging.show_tables(tx, rows)


def _emptied(tx: Transaction, table: TableInfo, manifest: Manifest) -> bytes:
    """A hidden table to take the place of one that the schema names: without a document, and with its number unless
    that is wanted by a table that is imported."""
    plans = [target.plan for target in manifest.targets]
    wanted = any(plan.number == table.number and plan.component == table.component for plan in plans)
    number = tx.catalog.next_number(table.component) if wanted else table.number
    row = staging.hide_table(tx, table.name, number=number, component=table.component).row
    assert row is not None
    return row


def _check_references(tx: Transaction, component: str, manifest: Manifest, ended: set[str]) -> None:
    """Documents that stay must not be left with ids that mean something else."""
    mine = {
        target.plan.name: target.plan.number
        for target in manifest.targets
        if target.plan.component == component
    }
    changed = set()
    for name, number in mine.items():
        info = tx.table(name, component=component)
        if info is not None and info.number != number:
            changed.add(name)
    staging.check_references(tx, changed, set(mine) | ended, component)


# ----------------------------------------------------------------------------------------------------- the folder


def write_manifest(folder: Path, manifest: Manifest) -> None:
    path = folder / "manifest.json"
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        file.write(msgspec.json.encode(manifest))
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_manifest(folder: Path) -> Manifest:
    return msgspec.json.decode((folder / "manifest.json").read_bytes(), type=Manifest)
