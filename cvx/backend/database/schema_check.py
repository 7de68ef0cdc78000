"""Checks the documents that are there already against a schema on its way in.

Writers check theirs from the moment the schema is pending, so it is enough to look once, in one view opened after
that moment, at each table whose new validator does not provably accept everything the old one did.

Source: reference/runtime-and-database.md §7.2.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from cvx.backend.config import Limits
from cvx.backend.database.catalog import Catalog, SchemaInfo
from cvx.backend.database.schema import complaint_about, tables_to_check
from cvx.backend.store import Store
from cvx.values import Complaint, KeyRange, decode


@dataclass(frozen=True, slots=True)
class Misfit:
    """A document that a schema refuses."""

    table: str
    document_id: str
    complaint: Complaint


@dataclass(slots=True)
class SchemaProgress:
    """How far a check is: documents looked at, of those in the tables to check."""

    done: int = 0
    total: int = 0


async def first_misfit(
    store: Store, limits: Limits, catalog: Catalog, info: SchemaInfo, progress: SchemaProgress
) -> Misfit | None:
    """The first document that the schema refuses, or None."""
    active = catalog.active_schema(info.component)
    names = tables_to_check(info.schema, None if active is None else active.schema)
    return await asyncio.to_thread(_look, store, limits, catalog, info, names, progress)


def _look(
    store: Store,
    limits: Limits,
    catalog: Catalog,
    info: SchemaInfo,
    names: list[str],
    progress: SchemaProgress,
) -> Misfit | None:
    numbers = catalog.table_names(info.component)
    tables = [table for name in names if (table := catalog.table(info.component, name)) is not None]
    view = store.view(detached=True)
    try:
        progress.total = sum(view.count(table.table_id) for table in tables)
        for table in tables:
            start = b""
            while True:
                rows = view.scan_table(
                    table.table_id,
                    KeyRange(start, None),
                    descending=False,
                    limit=limits.schema_check_batch_rows,
                )
                for row in rows:
                    document = decode(row.document)
                    assert isinstance(document, dict)
                    complaint = complaint_about(info, table, document, numbers)
                    if complaint is not None:
                        return Misfit(table.name, str(document["_id"]), complaint)
                progress.done += len(rows)
                if len(rows) < limits.schema_check_batch_rows:
                    break
                start = rows[-1].internal + b"\x00"
        return None
    finally:
        view.close()
