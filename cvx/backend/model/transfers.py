"""Imports and exports: one row each, in `_snapshot_imports` and `_exports`, which say how far they are.

An import goes uploaded → waiting_for_confirmation → in_progress → completed or failed; an export requested →
in_progress → completed, failed or canceled. The fields that command lines poll have the names they know; beside
them, `state` of an import carries numbers (`rows_done`, `rows_total`, …) and `preview` the counts as data.

Source: reference/cli-and-deploy.md §5.3, §5.4.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from cvx.backend.database import ROOT, Transaction
from cvx.errors import CvxError
from cvx.protocol.transfers import ImportFormat, ImportMode
from cvx.values import DocumentId

IMPORTS = "_snapshot_imports"
EXPORTS = "_exports"
_LISTED_MAX = 20

ImportState = Literal["uploaded", "waiting_for_confirmation", "in_progress", "completed", "failed"]
UNFINISHED: tuple[ImportState, ...] = ("uploaded", "waiting_for_confirmation", "in_progress")

_FORMAT_NAMES = {"csv": "csv", "jsonLines": "jsonl", "jsonArray": "json_array", "zip": "zip"}
_FORMATS: dict[str, ImportFormat] = {
    "csv": "csv",
    "jsonl": "jsonLines",
    "json_array": "jsonArray",
    "zip": "zip",
}


@dataclass(frozen=True, slots=True)
class ImportOrder:
    """What somebody wants imported. `upload` names the folder of its parts. `dry_run`: it will never be confirmed."""

    mode: ImportMode
    format: ImportFormat
    table: str | None
    upload: str
    component: str = ROOT
    dry_run: bool = False
    confirmed: bool = False
    skip_unchanged: bool = False


@dataclass(frozen=True, slots=True)
class Brought:
    """A table that an import put in its place: its row in `_tables`, and its number of documents then."""

    component: str
    table: str
    row: bytes
    rows: int


@dataclass(frozen=True, slots=True)
class ImportRow:
    """One import. `hidden`: rows in `_tables` of the tables it fills."""

    id: DocumentId
    order: ImportOrder
    state: ImportState
    detail: dict[str, Any]
    created_ms: float
    hidden: list[bytes] = field(default_factory=list)


def new_import(tx: Transaction, order: ImportOrder) -> DocumentId:
    """Record a finished upload."""
    return tx.insert(
        IMPORTS,
        {
            "state": {"state": "uploaded"},
            "format": {"format": _FORMAT_NAMES[order.format]}
            | ({"table": order.table} if order.table else {}),
            "mode": order.mode,
            "component_path": order.component or None,
            "member_id": None,
            "checkpoints": None,
            "requestor": {"type": "snapshotImport"},
            "upload": order.upload,
            "dry_run": order.dry_run,
            "confirmed": order.confirmed,
            "skip_unchanged": order.skip_unchanged,
            "hidden": [],
        },
        privileged=True,
    )


def import_row(tx: Transaction, id: DocumentId) -> ImportRow | None:
    row = tx.get_value(id, privileged=True) if tx.table_name_of(id) == IMPORTS else None
    return None if row is None else _row_of(row)


def unfinished_imports(tx: Transaction) -> list[ImportRow]:
    """Those that still need work or an answer, oldest first."""
    rows = [row for state in UNFINISHED for row in tx.all(IMPORTS, "by_state", [state], privileged=True)]
    return sorted(map(_row_of, rows), key=lambda row: row.created_ms)


def import_documents(tx: Transaction) -> list[dict[str, Any]]:
    """The newest rows, newest first, as command lines see them."""
    query = {
        "source": {"type": "FullTableScan", "tableName": IMPORTS, "order": "desc"},
        "operators": [{"limit": _LISTED_MAX}],
    }
    return tx.collect(query, privileged=True)


def set_import_state(
    tx: Transaction, id: DocumentId, state: ImportState, *, after: ImportState, **detail: Any
) -> bool:
    """Move an import on from `after`; False, and nothing happens, when it is not in that state any more."""
    row = tx.get_value(id, privileged=True)
    if row is None or row["state"]["state"] != after:
        return False
    tx.patch(id, {"state": {"state": state, **detail}}, privileged=True)
    return True


def set_hidden_tables(tx: Transaction, id: DocumentId, rows: list[bytes]) -> None:
    """Note which tables are being filled for an import."""
    tx.patch(id, {"hidden": list(rows)}, privileged=True)


def set_preview(tx: Transaction, id: DocumentId, preview: list[dict[str, Any]]) -> None:
    """Note what would change, table by table."""
    tx.patch(id, {"preview": preview}, privileged=True)


def set_brought(tx: Transaction, id: DocumentId, digest: str, brought: list[Brought]) -> None:
    """Note what an import has brought, and the digest of its upload."""
    tables = [
        {"component": one.component, "table": one.table, "row": one.row, "rows": float(one.rows)}
        for one in brought
    ]
    tx.patch(id, {"digest": digest, "brought": tables}, privileged=True)


def same_import(tx: Transaction, digest: str) -> tuple[int, list[Brought]] | None:
    """When (ns) the newest completed import of the same upload ended, and what it brought."""
    rows = [
        row
        for row in tx.all(IMPORTS, "by_state", ["completed"], privileged=True)
        if row.get("digest") == digest
    ]
    if not rows:
        return None
    newest = max(rows, key=lambda row: int(row["state"]["timestamp"]))
    brought = [
        Brought(one["component"], one["table"], one["row"], int(one["rows"])) for one in newest["brought"]
    ]
    return int(newest["state"]["timestamp"]), brought


def require_import(tx: Transaction, text: str) -> ImportRow:
    """The import of this id. Raises CvxError "ImportNotFound"."""
    id = DocumentId.try_parse(text)
    row = None if id is None else import_row(tx, id)
    if row is None:
        raise CvxError(
            "ImportNotFound", f"There is no import {str(text)[:64]}.", kind="not_found",
            hint="Upload the file again.",
        )  # fmt: skip
    return row


def forget_old_imports(tx: Transaction, before_ms: float, limit: int) -> int:
    """Delete up to `limit` rows of imports that ended before a time; how many went."""
    gone = 0
    for state in ("completed", "failed"):
        for row in tx.all(IMPORTS, "by_state", [state], privileged=True):
            if row["_creationTime"] < before_ms and gone < limit:
                tx.delete(row["_id"], privileged=True)
                gone += 1
    return gone


def _row_of(row: dict[str, Any]) -> ImportRow:
    order = ImportOrder(
        row["mode"],
        _FORMATS[row["format"]["format"]],
        row["format"].get("table"),
        row["upload"],
        row["component_path"] or ROOT,
        row["dry_run"],
        row["confirmed"],
        row["skip_unchanged"],
    )
    state = row["state"]
    return ImportRow(
        DocumentId.parse(row["_id"]), order, state["state"], state, row["_creationTime"], row["hidden"]
    )


# ---------------------------------------------------------------------------------------------------- exports


@dataclass(frozen=True, slots=True)
class ExportRow:
    """One export of the app (or of a component) with all that is in it, or of `tables`. `file`: its ZIP in the folder of exports."""

    id: DocumentId
    state: str
    include_storage: bool
    tables: list[str] | None
    stored: bool
    start_ts: int | None
    expiration_ts: int
    file: str | None
    component: str = ROOT


def new_export(
    tx: Transaction,
    *,
    include_storage: bool,
    tables: list[str] | None,
    stored: bool,
    expiration_ts: int,
    component: str = ROOT,
) -> DocumentId:
    """Ask for an export of the app, or of a component. `stored`: without compression. Raises CvxError
    "ExportInProgress"."""
    if pending_exports(tx):
        raise CvxError(
            "ExportInProgress",
            "There is already a snapshot export requested or in progress.",
            hint="Wait for it to finish, then try again.",
            retry_when="time",
        )
    return tx.insert(
        EXPORTS,
        {
            "state": "requested",
            "format": {"format": "zip", "include_storage": include_storage},
            "requestor": "snapshotExport",
            "component": component or None,
            "tables": tables,
            "stored": stored,
            "expiration_ts": expiration_ts,
        },
        privileged=True,
    )


def pending_exports(tx: Transaction) -> list[ExportRow]:
    """Those requested or under way."""
    rows = [
        row
        for state in ("requested", "in_progress")
        for row in tx.all(EXPORTS, "by_state", [state], privileged=True)
    ]
    return [_export_of(row) for row in rows]


def latest_export(tx: Transaction) -> dict[str, Any] | None:
    """The newest row, as command lines see it."""
    query = {
        "source": {"type": "FullTableScan", "tableName": EXPORTS, "order": "desc"},
        "operators": [{"limit": 1}],
    }
    found = tx.collect(query, privileged=True)
    return found[0] if found else None


def export_row(tx: Transaction, name: str) -> ExportRow:
    """An export by its id or its start timestamp in decimal. Raises CvxError "ExportNotFound"."""
    row: dict[str, Any] | None = None
    if name.isdecimal() and len(name) < 20:
        row = tx.first(EXPORTS, "by_start", [int(name)], privileged=True)
    else:
        id = DocumentId.try_parse(name)
        if id is not None and tx.table_name_of(id) == EXPORTS:
            row = tx.get_value(id, privileged=True)
    if row is None:
        raise CvxError(
            "ExportNotFound", f"There is no export {name[:64]}.", kind="not_found", hint="Export again."
        )
    return _export_of(row)


def change_export(tx: Transaction, id: DocumentId, *, after: str, **fields: Any) -> bool:
    """Set fields of an export that is in state `after`; False, and nothing happens, when it is not."""
    row = tx.get_value(id, privileged=True)
    if row is None or row["state"] != after:
        return False
    tx.patch(id, fields, privileged=True)
    return True


def all_exports(tx: Transaction) -> list[ExportRow]:
    """Every row, oldest first."""
    return [_export_of(row) for row in tx.all(EXPORTS, privileged=True)]


def delete_export(tx: Transaction, id: DocumentId) -> None:
    tx.delete(id, privileged=True)


def _export_of(row: dict[str, Any]) -> ExportRow:
    return ExportRow(
        DocumentId.parse(row["_id"]),
        row["state"],
        row["format"]["include_storage"],
        row["tables"],
        row["stored"],
        row.get("start_ts"),
        row["expiration_ts"],
        row.get("zip_object_key"),
        row.get("component") or ROOT,
    )
