"""What a push does to schemas and indexes, in the push's own words; the database does it (database/definitions.py).

A push submits a schema as pending and begins to build its indexes; the database checks existing documents and
marks the schema validated or failed; the push's last transaction activates it. Ids are strings here, since they
travel to the client and back.

Source: reference/runtime-and-database.md §7.1, §7.2; cli-and-deploy.md §2.7, §2.8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cvx.backend.database import SchemaInfo, Transaction, definitions
from cvx.protocol.schema import Index, Schema
from cvx.values import DocumentId

IndexState = Literal["backfilling", "backfilled", "enabled"]


@dataclass(frozen=True, slots=True)
class DeployedIndex:
    """One index that is in the database. `id` names it there; `index.staged` says how it is now.

    A version that a push is still building is `backfilling` or `backfilled`. So is a staged index, which never
    becomes `enabled`.
    """

    id: str
    table: str
    index: Index
    state: IndexState

    @property
    def in_use(self) -> bool:
        """Whether a finished push put it here, as far as can be told from its state."""
        return self.state == "enabled" or self.index.staged


# ---------------------------------------------------------------------------------------------------- schemas


def active(tx: Transaction, component: str = "") -> Schema | None:
    """The schema that writes must fit."""
    info = definitions.active_schema(tx, component=component)
    return None if info is None else info.schema


def active_id(tx: Transaction, component: str = "") -> str | None:
    """Which stored schema that is."""
    info = definitions.active_schema(tx, component=component)
    return None if info is None else str(info.id)


def texts(tx: Transaction, component: str = "") -> tuple[str | None, str | None]:
    """The JSON of the active schema, and of the one that a push is bringing in."""
    active_info = definitions.active_schema(tx, component=component)
    coming = [info for info in tx.catalog.schemas(component) if info.state in ("pending", "validated")]
    return (
        None if active_info is None else active_info.text,
        coming[0].text if coming else None,
    )


def by_id(tx: Transaction, id: str) -> SchemaInfo | None:
    """A stored schema and what became of it; None for one that is gone, or for no id at all."""
    parsed = DocumentId.try_parse(id)
    return None if parsed is None else definitions.schema(tx, parsed)


def submit(tx: Transaction, text: str | None, component: str = "") -> str | None:
    """Put a schema on its way, as JSON text; its id. None: the pushed code has no schema.

    Another schema that was on its way is overwritten: its push learns that it lost the race.
    """
    return None if text is None else str(definitions.submit_schema(tx, text, component=component))


def mark_validated(tx: Transaction, id: str) -> None:
    """Take a pending schema for checked."""
    definitions.mark_validated(tx, DocumentId.parse(id))


def activate(tx: Transaction, id: str | None, component: str = "") -> None:
    """Make a validated schema (None: none at all) the one that writes must fit."""
    if id is None:
        definitions.clear_schema(tx, component=component)
    else:
        definitions.activate_schema(tx, DocumentId.parse(id))


# ----------------------------------------------------------------------------------------- tables and indexes


def ensure_table(tx: Transaction, name: str, component: str = "") -> None:
    """Create a table that the schema names, unless it exists."""
    definitions.ensure_table(tx, name, component=component)


def deployed_indexes(tx: Transaction, component: str = "") -> list[DeployedIndex]:
    """Every index of every user table, built-in ones left out."""
    return [
        DeployedIndex(str(id), table.name, index.definition, index.state)
        for table, index, id in definitions.indexes(tx, component=component)
        if index.definition is not None
    ]


def create_index(tx: Transaction, table: str, index: Index, component: str = "") -> None:
    """Begin to build an index."""
    definitions.create_index(tx, table, index, component=component)


def enable_index(tx: Transaction, id: str) -> None:
    """Let queries use a built index."""
    definitions.enable_index(tx, DocumentId.parse(id))


def stage_index(tx: Transaction, id: str) -> None:
    """Keep an index up, but let no query use it."""
    definitions.stage_index(tx, DocumentId.parse(id))


def drop_index(tx: Transaction, id: str) -> None:
    definitions.drop_index(tx, DocumentId.parse(id))
